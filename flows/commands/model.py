"""`skyloom generate` and `skyloom serve`: the champion of a run at work."""

import secrets
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import AliasChoices, Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from data.cluster import ensure_ray
from data.video import write_mp4
from data.workspace import Workspace
from flows.commands.flags import Flags, read_flags
from flows.home import workspace
from model.errors import ConfigError, RegistryError
from serving.app import start, stop
from serving.config import ServeConfig
from serving.limits import shape_of
from serving.loader import LoadedModel, load_model
from serving.registry import ModelRegistry


class GenerateFlags(Flags):
    """Makes a video from a prompt with the champion of a run, in this process."""

    prompt: CliPositionalArg[str] = Field(min_length=1, description="what the video shows")
    out: Path = Field(
        Path("out.mp4"),
        validation_alias=AliasChoices("o", "out"),
        description="the file to write, H.264 in MP4",
    )
    size: str | None = Field(None, description="WIDTHxHEIGHT; the model's own when not given")
    seconds: str | None = Field(None, description="length; that of the training clips when not given")
    seed: int | None = Field(None, ge=0, lt=2**63, description="same seed, same video; random when not given")
    num_steps: int | None = Field(None, ge=1, le=1000, description="sampling steps")
    guidance_scale: float | None = Field(None, ge=0, le=50, description="how strongly the prompt leads")
    negative_prompt: str = Field("", description="what the video should not show")
    workspace: Path | None = Field(None, description="the run whose champion is used; artifacts/demo when not given")


class ServeFlags(Flags):
    """Serves the champion of a run behind the OpenAI Videos API until Ctrl-C."""

    workspace: Path | None = Field(None, description="the run whose champion is served; artifacts/demo when not given")
    host: str = Field("127.0.0.1", description="address to listen on; loopback unless said otherwise")
    port: int = Field(8000, ge=1, le=65535, description="TCP port")
    num_cpus: float = Field(1.0, gt=0, description="CPU cores of the model replica")
    num_gpus: float = Field(0.0, ge=0, description="GPUs of the model replica")
    num_model_replicas: int = Field(1, ge=1, description="replicas that pull jobs")


def generate(name: str, arguments: list[str]) -> None:
    """Makes one video file."""
    flags = read_flags(GenerateFlags, name, arguments)
    if flags.out.suffix != ".mp4":
        raise ConfigError(f"-o {str(flags.out)!r} must end in .mp4: H.264 in MP4 is what is written")
    console = Console(highlight=False)
    with console.status("loading the champion"):
        loaded = _champion(workspace(flags.workspace, "demo"))
    facts = loaded.facts
    shape = shape_of(
        flags.seconds or facts.default_seconds, flags.size or facts.default_size, facts, max_video_px=2**26
    )
    seed = secrets.randbelow(2**31) if flags.seed is None else flags.seed
    sampler = loaded.pipeline.generate(
        [flags.prompt],
        shape,
        seeds=[seed],
        num_steps=flags.num_steps or facts.num_steps,
        guidance_scale=facts.guidance_scale if flags.guidance_scale is None else flags.guidance_scale,
        negative_prompt=flags.negative_prompt,
    )
    frames = _sampled(sampler, console)[0]
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(flags.out, frames, facts.fps)
    size = f"{shape.width}x{shape.height}"
    console.print(
        f"{flags.out}: {size}, {shape.num_frames} frames at {facts.fps:g}/s, seed {seed}, {facts.name} {facts.version}"
    )


def serve(name: str, arguments: list[str]) -> None:
    """Serves until it is stopped."""
    flags = read_flags(ServeFlags, name, arguments)
    place = workspace(flags.workspace, "demo")
    _require_registry(place)
    options = flags.model_dump(exclude={"workspace"})
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's SIGTERM ends it as Ctrl-C does
    with console.status("starting Ray Serve"):
        ensure_ray(include_dashboard=False)
        server = start(ServeConfig.at(place.root / "serve", tracking_uri=place.tracking_uri, **options))
    console.print(f"Serving {server.base_url} (ready after {server.started_in_s:.0f} s). Ctrl-C ends it.\n")
    console.print(_sdk_example(server.base_url), markup=False, soft_wrap=True)
    try:
        signal.pause()
    finally:
        stop(server)


def _champion(place: Workspace) -> LoadedModel:
    _require_registry(place)
    registry = ModelRegistry(place.tracking_uri)
    found = registry.resolve("skyloom", "champion")
    return load_model(found, registry.fetch(found))


def _require_registry(place: Workspace) -> None:
    """Looks before MLflow does: it would make an empty database where there is none."""
    if not (place.mlflow / "mlflow.db").exists():
        raise RegistryError(f"{place.root} holds no model yet; run `skyloom demo`, or name a --workspace that does")


def _sampled(sampler: Generator[Any, None, list[np.ndarray]], console: Console) -> list[np.ndarray]:
    """What the sampler returns, with its progress drawn on the way."""
    columns = (
        TextColumn("sampling"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("sampling", total=None)
        while True:
            try:
                step = next(sampler)
            except StopIteration as stop_iteration:
                return stop_iteration.value
            progress.update(bar, completed=step.step, total=step.num_steps)


def _sdk_example(base_url: str) -> str:
    return f'''from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="none")
video = client.videos.create_and_poll(model="skyloom", prompt="...", seconds="2")
client.videos.download_content(video.id).write_to_file("video.mp4")
'''
