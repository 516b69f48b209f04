"""The flow that brings latents up to date with the sources."""

from pathlib import Path

from prefect import flow

from flows.curate import STAGES as CURATE_STAGES
from flows.recipes import Recipe
from flows.tasks import run_stages

STAGES = ("autoencoder", "encode")


@flow(name="encode", flow_run_name="encode {folder.name}")
def encode(folder: Path, recipe: Recipe | None = None) -> None:
    """Curates what is new in the sources, then encodes it: the nightly run. Kept stages cost nothing."""
    run_stages((*CURATE_STAGES, *STAGES), recipe, folder)
