"""The flow that fits the transformer to the latents and measures it."""

from pathlib import Path

from prefect import flow

from flows.recipes import Recipe
from flows.tasks import run_stages

STAGES = ("train", "evaluate")


@flow(name="train", flow_run_name="train {folder.name}")
def train(folder: Path, recipe: Recipe | None = None) -> None:
    """Trains on the latents that the last encode run left in `folder`, and evaluates: the weekly run."""
    run_stages(STAGES, recipe, folder)
