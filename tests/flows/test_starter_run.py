"""The folder that the starter is judged in: the weights that come with Skyloom, and no verdict of others."""

from pathlib import Path

from data.workspace import Workspace
from flows.presets import PRESETS
from flows.starter_run import adopt, is_judged, starter_check
from model.pipeline import SkyloomPipeline
from model.weights import FACTS_FILE


def test_the_verdict_counts_for_the_very_weights_that_lie_there(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert not is_judged(place)
    adopt(place)
    assert not is_judged(place)
    place.evaluation.mkdir()
    (place.evaluation / "results.json").write_text("{}")
    assert is_judged(place)
    facts = place.pipeline / FACTS_FILE
    facts.write_text(facts.read_text().replace('"default_num_steps"', '"default_num_steps": 99, "was"'))
    assert not is_judged(place), "sampled otherwise"
    adopt(place)
    (place.evaluation / "results.json").parent.mkdir(exist_ok=True)
    (place.evaluation / "results.json").write_text("{}")
    (weights,) = (place.pipeline / "transformer").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert not is_judged(place)
    adopt(place)
    assert not (place.evaluation / "results.json").exists(), "what was said of other weights is gone"
    assert SkyloomPipeline.from_pretrained(place.pipeline).facts.recipe == "starter"


def test_its_films_are_none_that_the_starter_was_trained_on() -> None:
    check, trained = starter_check(), PRESETS["starter"]()
    assert check.films
    assert trained.films
    assert check.films.seed != trained.films.seed
    assert check.curate == trained.curate
