"""`skyloom serve`: the champion of a run behind the OpenAI Videos API."""

import signal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from rich.console import Console

from data.cluster import ensure_ray
from data.workspace import Workspace
from flows.commands.champion import model_name, require_registry
from flows.commands.flags import Flags, read_flags
from flows.home import workspace
from serving.app import start, stop
from serving.config import ServeConfig


class ServeFlags(Flags):
    """Serves the champion of a run behind the OpenAI Videos API until Ctrl-C."""

    workspace: Path | None = Field(
        default=None, description="the run whose champion is served; artifacts/demo when not given"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on; loopback unless said otherwise")
    port: int = Field(default=8000, ge=1, le=65535, description="TCP port")
    keys: Literal["auto", "required", "off"] = Field(
        default="auto", description="whether requests need an API key; auto: off loopback, and once a key was made"
    )
    num_cpus: float = Field(default=1.0, gt=0, description="CPU cores of the model replica")
    num_gpus: float = Field(default=0.0, ge=0, description="GPUs of the model replica")
    num_model_replicas: int = Field(default=1, ge=1, description="replicas that pull jobs")


def serve(name: str, arguments: list[str]) -> None:
    """Serves until it is stopped."""
    flags = read_flags(ServeFlags, name, arguments)
    place = workspace(flags.workspace, "demo")
    require_registry(place)
    options = flags.model_dump(exclude={"workspace"})
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's SIGTERM ends it as Ctrl-C does
    with console.status("starting Ray Serve"):
        ensure_ray(include_dashboard=False)
        server = start(_serving(place, options))
    console.print(f"Serving {server.base_url} (ready after {server.started_in_s:.0f} s). Ctrl-C ends it.\n")
    console.print(_sdk_example(server.base_url), markup=False, soft_wrap=True)
    try:
        signal.pause()
    finally:
        stop(server)


def _serving(place: Workspace, options: dict[str, Any]) -> ServeConfig:
    name = model_name(place)
    return ServeConfig.of_run(place.root, tracking_uri=place.tracking_uri, model_name=name, **options)


def _sdk_example(base_url: str) -> str:
    return f'''from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="none")  # where keys exist: one of `skyloom keys create NAME`
video = client.videos.create_and_poll(model="skyloom", prompt="...", seconds="2")
client.videos.download_content(video.id).write_to_file("video.mp4")
'''
