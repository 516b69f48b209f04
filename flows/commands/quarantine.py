"""`skyloom quarantine`: the files that a run could not use, and one more try at them."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.table import Table

from data.quarantine import Quarantined, list_quarantine, replay
from data.workspace import Workspace
from flows.commands.flags import Flags, read_flags
from flows.home import workspace
from flows.recipes import remembered
from flows.runner import source_folder
from model.errors import ConfigError


class QuarantineFlags(Flags):
    """Lists the files that a run could not use, with the reason; `replay` tries them, and only them, once more."""

    action: CliPositionalArg[Literal["list", "replay"]] = Field(default="list", description="list or replay")
    workspace: Path | None = Field(default=None, description="folder of the run; artifacts/demo when not given")


def quarantine(name: str, arguments: list[str]) -> None:
    """Lists or replays the quarantine of one run."""
    flags = read_flags(QuarantineFlags, name, arguments)
    place = workspace(flags.workspace, "demo")
    before = list_quarantine(place)
    if flags.action == "replay":
        _replay(place)
    after = list_quarantine(place)
    console = Console(highlight=False)
    if flags.action == "replay":
        console.print(f"{len(before) - len(after)} of {len(before)} left the quarantine.")
        if len(after) < len(before):
            console.print("The next run takes their clips in; what does not depend on them is kept.")
    console.print(_table(after) if after else "The quarantine is empty.")


def _replay(place: Workspace) -> None:
    recipe = remembered(place)
    if recipe is None:
        raise ConfigError(f"{place.root} holds no recipe.json, so nothing has run there; name another --workspace")
    replay(recipe.curate, source_folder(recipe, place), place)
    # what curation made has changed under its receipt: the next run curates again, which keeps all that is known
    (place.receipts / "curate.json").unlink(missing_ok=True)


def _table(rows: list[Quarantined]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("file", "stage", "reason", "attempts"):
        table.add_column(column, overflow="fold", justify="right" if column == "attempts" else "left")
    for row in rows:
        table.add_row(row.path, row.stage, f"{row.error_class}: {row.message}", str(row.attempts))
    return table
