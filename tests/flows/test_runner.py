"""The line's logic over stages that write one small file each; the recipe and the receipts are the real ones."""

import sys
import textwrap

import pytest
from filelock import FileLock

from data.config import CurateConfig, EncodeConfig, IngestConfig
from data.workspace import Workspace
from flows import runner
from flows.receipts import read_receipt
from flows.recipes import Recipe, ShowcaseConfig
from flows.runner import pending, run_stage, stages_of
from flows.stages import STAGES, Stage
from model.errors import ConfigError, SourceError, StageError
from training.config import TransformerTraining

WORK = """
from data.stage import StageResult
from model.config import digest_of

calls = []

def work(name):
    def stage(config, workspace):
        calls.append(name)
        path = workspace.root / f"{name}.txt"
        path.write_text(config.model_dump_json())
        return StageResult(digest=digest_of([name, config.digest]), outputs=[path], gave={"files": 1})
    return stage

encode, train, showcase = work("encode"), work("train"), lambda config, options, ws: work("showcase")(config, ws)

def broken(config, workspace):
    raise RuntimeError("out of luck")
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Three fake stages in a row; the list of those that really ran."""
    (tmp_path / "fake_rooms.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(tmp_path)
    stages = [
        Stage(name="encode", title="", call="fake_rooms:encode", settings="encode"),
        Stage(name="train", title="", call="fake_rooms:train", settings="transformer", after=("encode",)),
        Stage(name="showcase", title="", call="fake_rooms:showcase", settings="showcase", after=("train",)),
    ]
    monkeypatch.setattr(runner, "STAGES", {stage.name: stage for stage in stages})
    monkeypatch.delitem(sys.modules, "fake_rooms", raising=False)
    import_module = runner.resolve
    return import_module("fake_rooms:calls")


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "run")


def run_all(recipe, place):
    return [run_stage(stage.name, recipe, place).kept for stage in stages_of(recipe)]


def names(stages):
    return [stage.name for stage in stages]


def test_a_second_run_keeps_every_stage(calls, place):
    recipe = Recipe()
    assert names(pending(recipe, place)) == ["encode", "train", "showcase"]
    assert run_all(recipe, place) == [False, False, False]
    assert pending(recipe, place) == []
    assert run_all(recipe, place) == [True, True, True]
    assert calls == ["encode", "train", "showcase"]


def test_a_changed_setting_redoes_its_stage_and_what_builds_on_it(calls, place):
    run_all(Recipe(), place)
    changed = Recipe(showcase=ShowcaseConfig(seconds="4"))
    assert names(pending(changed, place)) == ["showcase"]
    assert run_all(changed, place) == [True, True, False]


def test_other_weights_behind_the_same_start_void_the_training(calls, place, tmp_path):
    weights = tmp_path / "weights" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"old")
    recipe = Recipe(transformer=TransformerTraining(start_from=str(weights.parent)))
    assert run_all(recipe, place) == [False, False, False]
    assert pending(recipe, place) == []
    weights.write_bytes(b"new")
    assert names(pending(recipe, place)) == ["train", "showcase"]


def test_a_lost_output_is_made_again_and_equal_content_keeps_the_rest(calls, place):
    run_all(Recipe(), place)
    (place.root / "encode.txt").unlink()
    assert names(pending(Recipe(), place)) == ["encode", "train", "showcase"]
    assert run_all(Recipe(), place) == [False, True, True], "the digest is what it was, so nothing after it is void"


def test_a_new_version_of_the_code_voids_its_receipt(calls, place, monkeypatch):
    run_all(Recipe(), place)
    newer = Stage(name="train", title="", call="fake_rooms:train", settings="transformer", after=("encode",), version=2)
    monkeypatch.setitem(runner.STAGES, "train", newer)
    assert names(pending(Recipe(), place)) == ["train", "showcase"]


def test_a_failed_stage_leaves_no_receipt(calls, place, monkeypatch):
    monkeypatch.setitem(
        runner.STAGES, "train", Stage(name="train", title="", call="fake_rooms:broken", settings="transformer")
    )
    with pytest.raises(RuntimeError, match="out of luck"):
        run_stage("train", Recipe(), place)
    assert read_receipt("train", place) is None


def test_checkpoints_carry_over_to_the_same_work_only(calls, place, monkeypatch):
    def broken(settings="transformer"):
        return Stage(name="train", title="", call="fake_rooms:broken", settings=settings, state=("train/state",))

    def attempt(recipe):
        with pytest.raises(RuntimeError):
            run_stage("train", recipe, place)
        return (place.root / "train/state").exists()

    monkeypatch.setitem(runner.STAGES, "train", broken())
    saved = place.root / "train/state/step-1"
    saved.mkdir(parents=True)
    assert not attempt(Recipe()), "nobody knows what these were saved from"
    saved.mkdir(parents=True)
    assert attempt(Recipe()), "killed and started again"
    served = TransformerTraining(guidance_scale=2.0, num_sampling_steps=4, cpus_per_worker=1, compile=False)
    assert attempt(Recipe(transformer=served)), "the weights do not depend on these"
    assert not attempt(Recipe(transformer=TransformerTraining(dim=64))), "another network"


def test_other_weights_in_a_folder_that_a_setting_names_void_the_receipt(calls, place, tmp_path):
    weights = tmp_path / "encoder"
    weights.mkdir()
    (weights / "model.safetensors").write_text("1")
    settings = EncodeConfig(text_encoder=str(weights))
    recipe = Recipe(encode=settings, transformer=TransformerTraining(text_encoder=str(weights)))
    run_all(recipe, place)
    assert pending(recipe, place) == []
    (weights / "model.safetensors").write_text("2")
    assert "encode" in names(pending(recipe, place))


@pytest.mark.parametrize("bucket", ["72x72x16", "64x60x16", "64x64x10", "0x64x16", "64x64x0"])
def test_a_bucket_that_no_stage_could_train_on_is_refused_at_once(bucket):
    with pytest.raises(ValueError, match=f"bucket '{bucket}' cannot be trained on"):
        Recipe(curate=CurateConfig(ingest=IngestConfig(buckets=(bucket,))))


def test_a_model_is_asked_in_the_states_that_it_was_trained_on():
    with pytest.raises(ValueError, match="must be the same"):
        Recipe(encode=EncodeConfig(text_encoder="somewhere"))


def test_a_stage_whose_predecessor_has_not_run_says_so(calls, place):
    with pytest.raises(StageError, match="skyloom encode"):
        run_stage("train", Recipe(), place)


def test_a_stage_without_settings_is_left_out(calls, place):
    recipe = Recipe(showcase=None)
    assert names(stages_of(recipe)) == ["encode", "train"]
    with pytest.raises(ConfigError, match="it has encode, train"):
        run_stage("showcase", recipe, place)


def test_two_processes_do_not_work_in_one_workspace(calls, place):
    place.root.mkdir()
    with FileLock(place.root / ".lock"), pytest.raises(StageError, match="another process"):
        run_stage("encode", Recipe(), place)


def test_a_missing_source_folder_is_one_clear_error(place, tmp_path):
    recipe = Recipe(source=tmp_path / "nowhere", films=None)
    with pytest.raises(SourceError, match="nowhere"):
        pending(recipe, place)


def test_the_real_table_follows_its_own_order():
    seen = set()
    for name, stage in STAGES.items():
        assert name == stage.name
        assert seen.issuperset(stage.after), f"{name} stands before what it builds on"
        assert stage.settings in Recipe.model_fields
        seen.add(name)
