"""`skyloom export`: the model of a run as one small folder to give away, with its model card."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field
from rich.console import Console

from data.atomic import replacing
from data.workspace import Workspace
from flows.commands.flags import Flags, read_flags
from flows.home import workspace
from flows.presets import PRESETS
from flows.receipts import read_receipts
from flows.recipes import Recipe, remembered
from flows.report import TEMPLATES
from model.errors import ConfigError
from model.pipeline import SkyloomPipeline

TRAINED_STAGES = ("films", "curate", "captioner", "caption", "shard", "autoencoder", "encode", "train")
CARD = "README.md"


class ExportFlags(Flags):
    """Writes the model of a run as bf16 weights with a model card."""

    workspace: Path | None = Field(default=None, description="folder of the run; artifacts/demo when not given")
    out: Path = Field(description="folder to write; a folder that is there must be empty")


def export(name: str, arguments: list[str]) -> None:
    """Writes the weights and the card."""
    flags = read_flags(ExportFlags, name, arguments)
    if flags.out.exists() and any(flags.out.iterdir()):
        raise ConfigError(f"{flags.out} is not empty; name a new folder, or empty it first")
    place = workspace(flags.workspace, "demo")
    num_bytes = export_model(place, flags.out)
    Console(highlight=False).print(f"{flags.out}: {num_bytes / 1e6:.1f} MB")


def export_model(place: Workspace, folder: Path) -> int:
    """Write weights (bf16, half the bytes) and card; returns the size of the weights in bytes."""
    recipe = remembered(place)
    if recipe is None:
        raise ConfigError(f"{place.root} holds no finished run; name another --workspace")
    pipeline = SkyloomPipeline.from_pretrained(place.pipeline)
    digest = pipeline.facts.weights_digest
    pipeline.to(torch.bfloat16)
    pipeline.save(folder)
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    with replacing(folder / CARD) as partial:
        partial.write_text(model_card(place, recipe, pipeline, num_bytes, digest))
    return num_bytes


def model_card(place: Workspace, recipe: Recipe, pipeline: SkyloomPipeline, num_bytes: int, digest: str) -> str:
    """The card: what it is, what it learned from, by which recipe and seeds, for how long, and how it scored."""
    receipts = {receipt.stage: receipt for receipt in read_receipts(place)}
    seconds = {name: receipts[name].seconds for name in TRAINED_STAGES if name in receipts}
    path = place.evaluation / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )  # Markdown, made from our own figures
    return environment.get_template("model_card.md.j2").render(
        facts=pipeline.facts,
        recipe=recipe,
        command=" ".join(["skyloom demo", *command_flags(recipe)]),
        began_with={name: each.took["began_with"] for name, each in receipts.items() if "began_with" in each.took},
        digest=digest,
        megabytes=num_bytes / 1e6,
        millions={name: sum(p.numel() for p in getattr(pipeline, name).parameters()) / 1e6
                  for name in ("autoencoder", "transformer")},
        seconds=seconds,
        hours=sum(seconds.values()) / 3600,
        clips=receipts["train"].took.get("clips") if "train" in receipts else None,
        reconstruction=receipts["autoencoder"].gave if "autoencoder" in receipts else {},
        results=results,
    )  # fmt: skip


def command_flags(recipe: Recipe) -> list[str]:
    """The flags that ask for this recipe: its preset, and what is set otherwise than there."""
    preset = recipe.name if recipe.name in PRESETS else "demo"
    usual, asked = (dict(_leaves(each.model_dump(mode="json"))) for each in (PRESETS[preset](), recipe))
    others = {name: value for name, value in asked.items() if name not in usual or usual[name] != value}
    flags = {"preset": preset, "name": recipe.name} | {name: value for name, value in others.items() if name != "name"}
    return [f"--{name} {_shown(value)}" for name, value in flags.items()]


def _shown(value: Any) -> str:
    """A flag's value as one types it; of a folder its name alone, for where it lay is nobody's business."""
    if not isinstance(value, str):
        return shlex.quote(json.dumps(value))
    return shlex.quote(Path(value).name if Path(value).is_absolute() else value)


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
