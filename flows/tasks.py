"""The one Prefect task of the line, at the grain of a stage, and the loop over it that all flows share."""

from collections.abc import Iterable
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from data.workspace import Workspace
from flows.receipts import figures
from flows.recipes import Recipe, remembered
from flows.runner import run_stage, stages_of
from model.errors import ConfigError


# Prefect's own cache would need the results in its storage; the receipts are the cache, and they know the outputs.
@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def stage(name: str, recipe: Recipe, folder: Path) -> State:
    """Runs one stage, or ends in the state `Cached` when an earlier run's result still holds."""
    outcome = run_stage(name, recipe, Workspace(folder))
    receipt = outcome.receipt
    if outcome.kept:
        return Completed(name="Cached", message=f"kept: made {receipt.started_at} in {receipt.seconds:.0f} s")
    logger = get_run_logger()
    logger.info("took: %s", figures(receipt.took) or "nothing")
    logger.info("gave: %s", figures(receipt.gave) or "nothing")
    return Completed(message=f"{receipt.seconds:.0f} s; {figures(receipt.gave)}")


def run_stages(names: Iterable[str], recipe: Recipe | None, folder: Path) -> None:
    """Runs those of the named stages that the recipe has, one after the other, in this process.

    Without a recipe, the one that the folder's last run left there decides. The stages run here and not in workers so
    that their progress bars are seen and a machine of two cores is not shared by stages that each want both; within
    a stage Ray spreads the work.

    Raises:
        ConfigError: no recipe was given and the folder holds none.
    """
    place = Workspace(folder.absolute())
    chosen = recipe or remembered(place)
    if chosen is None:
        raise ConfigError(f"{place.root} holds no recipe.json; give a recipe, or run `skyloom run` there once")
    active = {active.name for active in stages_of(chosen)}
    for name in names:
        if name in active:
            stage(name, chosen, place.root)
