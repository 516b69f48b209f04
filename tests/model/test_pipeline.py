"""The pipeline folder: save, load, refuse what was changed; videos of the asked size from text and given frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from model.errors import CheckpointError, ConfigError
from model.pipeline import SkyloomPipeline
from model.runner import finish
from model.shapes import VideoShape
from model.tiny import save_tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_tiny_pipeline(path)
    return path


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> SkyloomPipeline:
    return SkyloomPipeline.from_pretrained(folder)


def test_a_seed_and_a_prompt_decide_the_bytes(pipeline: SkyloomPipeline) -> None:
    shape = VideoShape(8, 32, 48)
    first, again = (pipeline("a red ball", shape, seed=3) for _ in range(2))
    assert first.shape == (8, 32, 48, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, pipeline("a red ball", shape, seed=4))
    assert not np.array_equal(first, pipeline("the camera zooms in", shape, seed=3))


def test_a_prompt_is_read_alone_whatever_is_in_its_batch(
    pipeline: SkyloomPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    real = pipeline.text_encoder.encode

    def encode(prompts: Sequence[str]) -> list[torch.Tensor]:
        read.append(list(prompts))
        return real(prompts)

    monkeypatch.setattr(pipeline.text_encoder, "encode", encode)
    shape, prompts = VideoShape(8, 32, 48), ["a red ball", "a large green cone slides to the left, far away"]
    together = finish(pipeline.generate([*prompts, prompts[0]], shape, seeds=[3, 4, 5]))
    assert sorted(read) == [[text] for text in sorted([*prompts, ""])], "each once, and none padded to another"
    assert np.abs(together[0].astype(int) - pipeline(prompts[0], shape, seed=3)).max() <= 1


def test_weights_survive_the_folder(folder: Path, pipeline: SkyloomPipeline, tmp_path: Path) -> None:
    digest = pipeline.save(tmp_path / "copy")
    copy = SkyloomPipeline.from_pretrained(tmp_path / "copy")
    assert digest == copy.facts.weights_digest == pipeline.facts.weights_digest
    for name, value in pipeline.transformer.state_dict().items():
        assert torch.equal(value, copy.transformer.state_dict()[name])


def test_diffusers_loads_the_folder_by_itself(folder: Path, pipeline: SkyloomPipeline) -> None:
    loaded = DiffusionPipeline.from_pretrained(str(folder))
    assert isinstance(loaded, SkyloomPipeline)
    assert loaded.facts == SkyloomPipeline.from_pretrained(folder).facts
    shape = VideoShape(4, 32, 32)
    assert np.array_equal(loaded("a red ball", shape, seed=1), pipeline("a red ball", shape, seed=1))


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path)
    config = tmp_path / "transformer" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(CheckpointError, match="not those"):
        SkyloomPipeline.from_pretrained(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"skyloom\.json"):
        SkyloomPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("shape", [VideoShape(7, 32, 32), VideoShape(8, 32, 40), VideoShape(8, 0, 32)])
def test_impossible_sizes_are_refused_with_advice(pipeline: SkyloomPipeline, shape: VideoShape) -> None:
    with pytest.raises(ConfigError, match=r"use \d+|nearest"):
        finish(pipeline.generate(["x"], shape, seeds=[0]))


def test_prompts_and_seeds_must_pair(pipeline: SkyloomPipeline) -> None:
    with pytest.raises(ConfigError, match="one seed per prompt"):
        finish(pipeline.generate(["x", "y"], VideoShape(4, 16, 16), seeds=[0]))
