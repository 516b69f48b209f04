"""The flow from raw videos to captioned shards."""

from pathlib import Path

from prefect import flow

from flows.recipes import Recipe
from flows.tasks import run_stages

STAGES = ("films", "curate", "captioner", "caption", "shard")


@flow(name="curate", flow_run_name="curate {folder.name}")
def curate(folder: Path, recipe: Recipe | None = None) -> None:
    """Ingests, curates, captions and shards the recipe's sources in `folder`; what is already there is kept."""
    run_stages(STAGES, recipe, folder)
