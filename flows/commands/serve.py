"""`skyloom serve`: the champion of a run behind the OpenAI Videos API."""

import signal
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console

from data.workspace import Workspace
from flows.commands.champion import model_name, served_place
from flows.commands.flags import Flags, read_flags
from serving.app import start, stop
from serving.config import ServeConfig, ServeOptions


class ServeFlags(Flags, ServeOptions):  # pyright: ignore[reportIncompatibleVariableOverride] - Flags' settings win
    """Serves the champion of a run behind the OpenAI Videos API until Ctrl-C."""

    workspace: Path | None = Field(
        default=None, description="the run whose champion is served; artifacts/demo when not given, else the starter"
    )


def serve(name: str, arguments: list[str]) -> None:
    """Serves until it is stopped."""
    flags = read_flags(ServeFlags, name, arguments)
    place = served_place(flags.workspace)
    options = flags.model_dump(exclude={"workspace"})
    console = Console(highlight=False)
    _end_as_by_ctrl_c()
    with console.status("starting Ray Serve"):
        server = start(_serving(place, options))
    _end_as_by_ctrl_c()  # Ray has put a handler of its own there, which aborts the process
    console.print(f"Serving {server.base_url} (ready after {server.started_in_s:.0f} s). Ctrl-C ends it.\n")
    console.print(_sdk_example(server.base_url), markup=False, soft_wrap=True)
    try:
        signal.pause()
    finally:
        stop(server)


def _end_as_by_ctrl_c() -> None:
    """What a service manager sends ends the server in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _serving(place: Workspace, options: dict[str, Any]) -> ServeConfig:
    name = model_name(place)
    # replicas have another current folder than this process
    settings = {key: value.absolute() if isinstance(value, Path) else value for key, value in options.items()}
    return ServeConfig.of_run(place.root, tracking_uri=place.tracking_uri, model_name=name, **settings)


def _sdk_example(base_url: str) -> str:
    return f'''from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="none")  # where keys exist: one of `skyloom keys create NAME`
video = client.videos.create_and_poll(model="skyloom", prompt="...", seconds="2")
client.videos.download_content(video.id).write_to_file("video.mp4")
'''
