"""What could not be used, and one more try at it."""

from pathlib import Path

from data.catalog import read_table
from data.curate import CurateConfig, Progress, curate_again
from data.records import Failure
from data.stage import StageResult
from data.workspace import Workspace


class Quarantined(Failure):
    """One row of the quarantine; `digest` is empty when the bytes were never read."""

    digest: str
    path: str


def list_quarantine(workspace: Workspace) -> list[Quarantined]:
    """Everything in quarantine after the last run, by path."""
    return [Quarantined.model_validate(row) for row in read_table(workspace.catalog / "quarantine.parquet")]


def replay(
    config: CurateConfig, source_dir: Path, workspace: Workspace, *, on_progress: Progress | None = None
) -> StageResult:
    """Tries quarantined sources once more, and only them; raises like `data.curate.curate`.

    What succeeds leaves the quarantine; what fails again stays, with one attempt more.
    """
    return curate_again(config, source_dir, workspace, retry=True, on_progress=on_progress)
