"""The folder that is given away: weights that load and draw, half the bytes, and a card whose figures are the run's."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.stage import StageResult
from data.workspace import Workspace
from flows.commands.export import command_flags, export, export_model
from flows.presets import tiny
from flows.receipts import Timing, make_receipt, write_receipt
from flows.recipes import remember
from model.errors import ConfigError
from model.pipeline import SkyloomPipeline
from model.shapes import VideoShape
from model.tiny import save_tiny_pipeline


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    place = Workspace(tmp_path / "run")
    place.evaluation.mkdir(parents=True)
    save_tiny_pipeline(place.pipeline)
    remember(tiny(), place)
    score = {"generated": 0.9375, "interval": [0.85, 0.98], "ceiling": 0.99, "floor": 0.2, "chance": 0.125, "goal": 0.9}
    looks = {"generated": 0.3, "real": 0.2, "goal": 0.9, "limit": 2}
    results = {"num_prompts": 64, "adherence": {"colour": score}}
    results |= {"coherence": looks, "outline": looks, "frechet": looks}
    (place.evaluation / "results.json").write_text(json.dumps(results))
    for stage, gave in (("autoencoder", {"psnr_db": 31.5}), ("train", {})):
        took = {"clips": 1234} | ({"began_with": "ab" * 32} if stage == "train" else {})
        result = StageResult(digest="0" * 64, outputs=[], took=took, gave=gave)
        write_receipt(make_receipt(stage, "key", result, Timing("2026-11-22T10:00:00+00:00", 1800), place.root), place)
    return place


def test_the_weights_load_and_draw_almost_the_same_video(place: Workspace, tmp_path: Path) -> None:
    num_bytes = export_model(place, tmp_path / "out")
    whole = sum(path.stat().st_size for path in place.pipeline.rglob("*.safetensors"))
    assert num_bytes < 0.6 * whole
    told = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))
    assert str(tmp_path) not in told, "where it was made is nobody's business"
    shape = VideoShape(8, 32, 32)
    before, after = (SkyloomPipeline.from_pretrained(folder)("a red ball", shape) for folder in
                     (place.pipeline, tmp_path / "out"))  # fmt: skip
    assert np.abs(before.astype(int) - after).mean() < 4


def test_the_card_says_what_the_run_measured(place: Workspace, tmp_path: Path) -> None:
    export_model(place, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for part in (
        "93.8 | 85.0 to 98.0 | 99.0 | 20.0",
        "1.00 hours",
        "31.5 dB",
        "| 1234 |",
        "1.50 times",
        f"train began with | weights `{'ab' * 32}`",
    ):
        assert part in card, card


def test_a_folder_with_something_in_it_is_left_alone(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="not empty"):
        export("export", ["--workspace", str(place.root), "--out", str(tmp_path / "out")])


def test_the_command_names_what_differs_from_its_preset(place: Workspace) -> None:
    recipe = tiny()
    transformer = recipe.transformer.model_copy(update={"start_from": str(place.pipeline), "muon_lr": 0.005})
    recipe = recipe.model_copy(update={"name": "more", "transformer": transformer})
    flags = command_flags(recipe)
    assert flags[:2] == ["--preset demo", "--name more"]
    assert "--transformer.muon_lr 0.005" in flags
    assert f"--transformer.start_from {place.pipeline.name}" in flags, "where it lay is nobody's business"
    assert not any(flag.startswith("--encode.device") for flag in flags), "only what differs from the preset"
