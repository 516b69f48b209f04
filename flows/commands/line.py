"""`skyloom demo`, `run`, `report` and one command for each stage."""

import argparse
import logging
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from data.workspace import Workspace
from flows.commands.flags import Flags, read_flags
from flows.home import workspace
from flows.lazy import resolve
from flows.own_videos import check_captions, own_videos
from flows.presets import PRESETS
from flows.receipts import figures, read_receipts
from flows.recipes import Recipe, remember, remembered
from flows.runner import kept_receipt, pending, run_stage, stages_of
from flows.services import prefect_server
from flows.state import running_url
from model.errors import ConfigError, StageError

log = logging.getLogger(__name__)


class RecipeFlags(Recipe, Flags):
    """Every setting of the recipe is a flag."""

    workspace: Path | None = Field(default=None, description="folder of the run; artifacts/NAME when not given")

    def recipe(self) -> Recipe:
        """The recipe alone."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})


class PresetFlags(RecipeFlags):
    """The settings to start from have a name."""

    preset: str = Field(default="demo", description="the settings to start from: demo, starter (2.5 hours) or tiny")


class DemoFlags(PresetFlags):
    """Makes everything from nothing: films, clips, captions, shards, latents, a trained and served model, a report."""


class RunFlags(PresetFlags):
    """The whole line on your own videos. Captions come from files beside them, or from a captioner."""


class StageFlags(RecipeFlags):
    """Runs one stage on what the stages before it left in the workspace."""


class ReportFlags(Flags):
    """Writes report.html of a run again."""

    workspace: Path | None = Field(default=None, description="folder of the run; artifacts/demo when not given")


def demo(name: str, arguments: list[str]) -> None:
    """Runs the whole line on the embedded world."""
    flags = read_flags(DemoFlags, name, arguments, **_given(_preset(arguments), arguments))
    run_line(flags.recipe(), workspace(flags.workspace, flags.name))


def run(name: str, arguments: list[str]) -> None:
    """Runs the whole line on the user's folder of videos."""
    source = _peek(arguments, "source")
    wants_help = any(word in ("-h", "--help") for word in arguments)
    if source is None and not wants_help:
        raise ConfigError("no folder of videos was given; say for example: skyloom run --source ~/Videos")
    base = own_videos(Path(source or "DIR"), _peek(arguments, "name"), _preset(arguments))
    flags = read_flags(RunFlags, name, arguments, **_given(base, arguments))
    check_captions(flags.recipe())
    run_line(flags.recipe(), workspace(flags.workspace, flags.name))


def stage(name: str, arguments: list[str]) -> None:
    """Runs one stage with the recipe that the workspace remembers, or with the demo's."""
    folder = _peek(arguments, "workspace")
    place = workspace(Path(folder) if folder else None, _peek(arguments, "name") or "demo")
    base = remembered(place) or PRESETS["demo"]()
    flags = read_flags(StageFlags, name, arguments, **_given(base, arguments))
    remember(flags.recipe(), place)
    run_stage(name, flags.recipe(), place)


def report(name: str, arguments: list[str]) -> None:
    """Writes the report of what the workspace holds."""
    flags = read_flags(ReportFlags, name, arguments)
    place = workspace(flags.workspace, "demo")
    if not read_receipts(place):
        raise StageError(f"no stage has run in {place.root}; run `skyloom demo`, or name another --workspace")
    path = resolve("flows.report:write_report")(place)
    Console().print(f"Report: {path}", soft_wrap=True, highlight=False)


def run_line(recipe: Recipe, place: Workspace) -> None:
    """Runs what has work to do under Prefect, keeps the rest, writes the report and says where everything is."""
    remember(recipe, place)
    todo = pending(recipe, place)
    if todo:
        with prefect_server(running_url("prefect")):
            resolve("flows.line:line")(place.root, recipe)
    else:
        _say_kept(recipe, place)
    path = place.root / "report.html"
    if todo or not path.exists():
        path = resolve("flows.report:write_report")(place)
    _say_results(recipe, place, path)


def _say_kept(recipe: Recipe, place: Workspace) -> None:
    for active in stages_of(recipe):
        receipt = kept_receipt(active, recipe, place)
        if receipt:
            log.info("%s: kept (made %s in %.0f s)", active.name, receipt.started_at, receipt.seconds)


def _say_results(recipe: Recipe, place: Workspace, report_path: Path) -> None:
    console = Console(highlight=False)
    table = Table(title=f"Run {recipe.name}", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage", min_width=11, no_wrap=True)
    table.add_column("seconds", min_width=7, no_wrap=True, justify="right")
    table.add_column("gave", ratio=1, no_wrap=True)
    active = {stage.name for stage in stages_of(recipe)}
    for receipt in read_receipts(place):
        if receipt.stage in active:
            table.add_row(receipt.stage, f"{receipt.seconds:.1f}", figures(receipt.gave))
    console.print(table)
    at = "" if place.root == workspace(None, "demo").root else f" --workspace {place.root}"
    console.print(f"\nReport      {report_path}", soft_wrap=True)
    for video in sorted(place.videos.glob("*.mp4")):
        console.print(f"Video       {video}", soft_wrap=True)
    console.print(f'Make one    skyloom generate "a prompt" -o out.mp4{at}', soft_wrap=True)
    console.print(f"Serve it    skyloom serve{at}", soft_wrap=True)
    console.print(
        f"Dashboards  skyloom up{at}   (Prefect, MLflow, Ray, the API; `skyloom down` ends them)",
        soft_wrap=True,
    )


def _preset(arguments: list[str]) -> Recipe:
    preset = _peek(arguments, "preset") or "demo"
    if preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}; use one of {', '.join(PRESETS)}")
    return PRESETS[preset]()


def _peek(arguments: list[str], flag: str) -> str | None:
    """The value of one flag before the rest is parsed: it decides the defaults of the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{flag}")
    try:
        return getattr(parser.parse_known_args(arguments)[0], flag)
    except argparse.ArgumentError:
        return None  # the real parser will say what is wrong


def _given(recipe: Recipe, arguments: list[str]) -> dict[str, Any]:
    """The recipe's values as the ones to start from.

    Where a flag chooses another kind of a part (`--caption.backend.kind`), the part's old values would not fit it.
    """
    values = recipe.model_dump()
    for word in arguments:
        path = word.removeprefix("--").split("=")[0].split(".")
        if word.startswith("--") and path[-1] == "kind":
            holder = values
            for name in path[:-2]:
                holder = holder[name]
            holder.pop(path[-2], None)
    return values
