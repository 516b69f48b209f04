"""What parts of the transformer's recipe are worth: the demo's training again without each, judged by the demo's probe.

It needs a finished demo, whose latents, autoencoder and probe every training shares. Each training lies in a folder of
its own and is kept: a bench that was stopped goes on where it was.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.workspace import Workspace
from data.worlds.captions import heldout_prompts
from flows.bench import Measurement
from flows.home import home, workspace
from flows.presets import PRESETS
from flows.recipes import Recipe, remembered
from flows.runner import run_stage
from model.errors import StageError
from model.pipeline import SkyloomPipeline
from training.clips import kept_rows
from training.config import EvaluationConfig, TransformerTraining
from training.evaluate import Asked, ask_world, draw
from training.judge import wilson_interval
from training.probe import Probe, accuracy
from training.truth import largest_count, truth_of_clips

log = logging.getLogger(__name__)

MOST_PROMPTS, SEED = 186, 4321
"""All combinations of one object that no film shows."""
SHARED = ("catalog", "latents", "autoencoder")
UPSTREAM = ("encode", "autoencoder")


class Variant(NamedTuple):
    """A training of the demo's transformer with other settings, and how they read in a table."""

    what: str
    settings: Mapping[str, Any]


VARIANTS = {
    "square crops": Variant("on the middle squares of all clips", {"square_crops": True}),
    "nothing given": Variant(
        "on text to video alone, no frames given", {"patterns": {"prefix": 0, "suffix": 0, "both_ends": 0}}
    ),
    "levels apart": Variant(
        "with a noise level of its own for each frame, always",
        {"patterns": {"prefix": 0, "suffix": 0, "both_ends": 0, "independent": 1}},
    ),
    "sigma shift": Variant("and sampled with the noise levels shifted by 2", {"sigma_shift": 2.0}),
    "adamw": Variant("by AdamW alone, at its own rate of 0.002", {"muon_lr": 0, "schedule": {"lr": 2e-3}}),
}


class Score(NamedTuple):
    """Shares of prompts that the probe finds right: in every attribute, in shape, and in every attribute by size."""

    all: float
    shape: float
    by_size: dict[str, float]
    num_prompts: int


def ablations() -> dict[str, Measurement]:
    """All attributes right together, of unseen prompts, with each other setting and as the demo was trained."""
    return beside_the_demo(VARIANTS)


def native_aspect() -> dict[str, Measurement]:
    """The same for square crops alone: what clips in their own aspects are worth."""
    name = "square crops"
    return {"": beside_the_demo({name: VARIANTS[name]})[name]}


def beside_the_demo(variants: Mapping[str, Variant]) -> dict[str, Measurement]:
    """Each variant, trained and judged, beside the demo as it is.

    Raises:
        StageError: no demo was made yet.
    """
    demo = workspace(None, "demo")
    recipe = remembered(demo)
    if recipe is None or not (demo.evaluation / "probe.safetensors").is_file():
        raise StageError(f"there is no finished demo in {demo.root}; run `make demo` first")
    usual = judged(demo, demo.pipeline)
    log.info("as the demo is: %s", usual)
    rows = {}
    for name, variant in variants.items():
        score = judged(demo, trained(demo, recipe, name, variant))
        log.info("%s: %s", name, score)
        rows[name] = compared(variant, score, usual)
    return rows


def trained(demo: Workspace, recipe: Recipe, name: str, variant: Variant) -> Path:
    """The pipeline of a variant, trained by the line's own stage unless it is kept from before."""
    place = Workspace(home() / "ablations" / name.replace(" ", "-"))
    share(demo, place)
    settings = with_changes(recipe.transformer.model_dump(mode="json"), variant.settings)
    changed = recipe.model_copy(update={"transformer": TransformerTraining.model_validate(settings)})
    run_stage("train", changed, place)
    return place.pipeline


def share(demo: Workspace, place: Workspace) -> None:
    """Puts what a training builds on into a folder: links to the demo's, and the receipts that vouch for it."""
    place.receipts.mkdir(parents=True, exist_ok=True)
    for part in SHARED:
        (place.root / part).unlink(missing_ok=True)
        (place.root / part).symlink_to(demo.root / part, target_is_directory=True)
    for stage in UPSTREAM:
        shutil.copy(demo.receipts / f"{stage}.json", place.receipts)


def with_changes(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in their place, those inside of settings too."""
    merged = dict(settings)
    for name, value in changes.items():
        merged[name] = with_changes(merged[name], value) if isinstance(value, Mapping) else value
    return merged


def judged(demo: Workspace, pipeline_folder: Path) -> Score:
    """What the demo's probe finds in the videos of a pipeline, the prompts shared out over the trained sizes."""
    pipeline = SkyloomPipeline.from_pretrained(pipeline_folder)
    truth = truth_of_clips(demo, kept_rows(demo))
    asked = unasked(ask_world(EvaluationConfig(num_prompts=MOST_PROMPTS, seed=SEED), pipeline, largest_count(truth)))
    probe = Probe.load(demo.evaluation / "probe.safetensors")
    seen = probe.read(draw(pipeline, asked, SEED))
    return scored(seen, [{name: each[name] for name in probe.vocabulary} for each in asked.attributes], asked.buckets)


def unasked(asked: Asked) -> Asked:
    """Without what the demo's own evaluation asks: settings are chosen by these prompts, and judged by those."""
    config = PRESETS["demo"]().evaluation
    assert config is not None, "the demo is judged"
    tested = {text for text, _ in heldout_prompts(config.num_prompts, config.seed, 1)}
    places = [place for place, prompt in enumerate(asked.prompts) if prompt not in tested]
    return Asked(
        [asked.prompts[place] for place in places],
        [asked.attributes[place] for place in places],
        [asked.buckets[place] for place in places],
    )


def scored(seen: Sequence[Mapping[str, str]], asked: Sequence[Mapping[str, str]], sizes: Sequence[str]) -> Score:
    """The shares, in all and by size."""
    found = accuracy(seen, asked)
    by_size = {}
    for size in sorted(set(sizes)):
        places = [place for place, other in enumerate(sizes) if other == size]
        by_size[size] = float(np.mean([seen[place] == asked[place] for place in places]))
    return Score(found["all"], found["shape"], by_size, len(seen))


def compared(variant: Variant, score: Score, usual: Score) -> Measurement:
    """One row: no goal, since either may win."""
    low, high = (100 * end for end in wilson_interval(score.all, score.num_prompts))
    sizes = ", ".join(
        f"{size} {100 * share:.0f} for {100 * usual.by_size[size]:.0f}" for size, share in score.by_size.items()
    )
    what = (
        f"all attributes right of {score.num_prompts} unseen prompts when the demo is trained {variant.what} "
        f"({low:.1f} to {high:.1f}; {sizes}; shape alone {100 * score.shape:.0f} for {100 * usual.shape:.0f})"
    )
    return Measurement(
        what=what, ours=round(100 * score.all, 1), unit="%", peer=round(100 * usual.all, 1),
        peer_name="the demo's recipe, one seed each", goal="none", holds=True,
    )  # fmt: skip
