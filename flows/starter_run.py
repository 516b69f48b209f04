"""What the benches judge the starter by: films it never saw, their clips and a probe, in a folder of their own.

Nothing is trained but the probe, so that anyone can repeat the starter's figures in minutes.
"""

import logging
import shutil

from data.workspace import Workspace
from flows.home import workspace
from flows.lazy import resolve
from flows.presets import PRESETS
from flows.recipes import Recipe
from flows.runner import run_stage
from model.weights import FACTS_FILE, STARTER, weights_digest

log = logging.getLogger(__name__)
NAME = "starter-check"
FILMS_SEED = 1000
"""Not the seed of the starter's own films: a clip of theirs is none that it was trained on."""


def starter_run() -> Workspace:
    """The folder, filled at the first call and again when other starter weights come with Skyloom."""
    place, recipe = workspace(None, NAME), starter_check()
    for stage in ("films", "curate"):
        run_stage(stage, recipe, place)
    if not is_judged(place):
        log.info("%s: judging the weights in %s", NAME, STARTER)
        adopt(place)
        resolve("training.evaluate:evaluate")(recipe.evaluation, place)
    return place


def starter_check() -> Recipe:
    """The starter's recipe with other films."""
    recipe = PRESETS["starter"]()
    assert recipe.films is not None, "the starter's world is rendered"
    return recipe.model_copy(
        update={"name": NAME, "films": recipe.films.model_copy(update={"seed": FILMS_SEED})}, deep=True
    )


def is_judged(place: Workspace) -> bool:
    """Whether the evaluation that lies there is of the weights that come with Skyloom, sampled as they say."""
    if not (place.evaluation / "results.json").is_file():
        return False
    facts = [(folder / FACTS_FILE).read_bytes() for folder in (place.pipeline, STARTER)]
    return facts[0] == facts[1] and weights_digest(place.pipeline) == weights_digest(STARTER)


def adopt(place: Workspace) -> None:
    """Put the starter's weights where a run's own would lie."""
    shutil.rmtree(place.evaluation, ignore_errors=True)
    for part, source in ((place.autoencoder, STARTER / "autoencoder"), (place.pipeline, STARTER)):
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
