"""`skyloom generate`: a video from a prompt, in this process."""

import secrets
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import AliasChoices, Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from data.video import write_mp4
from data.workspace import Workspace
from flows.commands.champion import model_name, require_registry
from flows.commands.flags import Flags, read_flags
from flows.home import workspace
from model.errors import ConfigError
from model.sampling import SamplingOptions
from model.tasks import Generate
from serving.engine import LoadedModel
from serving.limits import shape_of
from serving.loader import load_model
from serving.registry import ModelRegistry


class GenerateFlags(Flags):
    """Makes a video from a prompt with the champion of a run, in this process."""

    prompt: CliPositionalArg[str] = Field(min_length=1, description="what the video shows")
    out: Path = Field(
        Path("out.mp4"),
        validation_alias=AliasChoices("o", "out"),
        description="the file to write, H.264 in MP4",
    )
    size: str | None = Field(default=None, description="WIDTHxHEIGHT; the model's own when not given")
    seconds: str | None = Field(default=None, description="length; that of the training clips when not given")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="same seed, same video; random when not given")
    num_steps: int | None = Field(default=None, ge=1, le=1000, description="sampling steps")
    guidance_scale: float | None = Field(default=None, ge=0, le=50, description="how strongly the prompt leads")
    negative_prompt: str = Field(default="", description="what the video should not show")
    workspace: Path | None = Field(
        default=None, description="the run whose champion is used; artifacts/demo when not given"
    )


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
    options = SamplingOptions(
        num_steps=flags.num_steps or facts.num_steps,
        guidance_scale=facts.guidance_scale if flags.guidance_scale is None else flags.guidance_scale,
        negative_prompt=flags.negative_prompt,
    )
    sampler = loaded.pipeline.run(Generate(flags.prompt, shape), seeds=[seed], options=options)
    frames = _sampled(sampler, console)[0]
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(flags.out, frames, facts.fps)
    size = f"{shape.width}x{shape.height}"
    console.print(
        f"{flags.out}: {size}, {shape.num_frames} frames at {facts.fps:g}/s, seed {seed}, {facts.name} {facts.version}"
    )


def _champion(place: Workspace) -> LoadedModel:
    require_registry(place)
    registry = ModelRegistry(place.tracking_uri)
    found = registry.resolve(model_name(place), "champion")
    return load_model(found, registry.fetch(found))


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
