"""The whole line as one flow: what `skyloom demo` and `skyloom run` start."""

from pathlib import Path

from prefect import flow

from flows.recipes import Recipe
from flows.stages import STAGES
from flows.tasks import run_stages


@flow(name="line", flow_run_name="line {folder.name}")
def line(folder: Path, recipe: Recipe | None = None) -> None:
    """Every stage of the recipe, from raw videos to a served model."""
    run_stages(STAGES, recipe, folder)
