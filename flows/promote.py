"""The flow that puts a trained model before users."""

from pathlib import Path

from prefect import flow

from flows.recipes import Recipe
from flows.tasks import run_stages

STAGES = ("register",)


@flow(name="promote", flow_run_name="promote {folder.name}")
def promote(folder: Path, recipe: Recipe | None = None) -> None:
    """Registers the model that was evaluated last; when it passes the gate it becomes `champion`: on demand."""
    run_stages(STAGES, recipe, folder)
