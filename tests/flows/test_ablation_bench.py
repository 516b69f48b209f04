"""The bench of the recipe's parts: true settings, a folder that shares the demo's data, shares counted right."""

from pathlib import Path

import pytest
import torch

from data.workspace import Workspace
from data.worlds.captions import heldout_prompts
from flows import ablation_bench
from flows.presets import PRESETS
from model.errors import StageError
from training.config import TransformerTraining
from training.evaluate import Asked
from training.transformer_steps import middle_square


@pytest.mark.parametrize("name", ablation_bench.VARIANTS)
def test_each_variant_is_a_recipe_and_another_one_than_the_demos(name: str) -> None:
    usual = PRESETS["demo"]().transformer
    changes = ablation_bench.VARIANTS[name].settings
    changed = TransformerTraining.model_validate(ablation_bench.with_changes(usual.model_dump(mode="json"), changes))
    assert changed.training_digest != usual.training_digest
    assert changed.schedule.num_steps == usual.schedule.num_steps, "what a change inside leaves alone stays"


def test_a_setting_that_does_not_exist_is_refused() -> None:
    usual = PRESETS["demo"]().transformer.model_dump(mode="json")
    with pytest.raises(ValueError, match="sigma_shft"):
        TransformerTraining.model_validate(ablation_bench.with_changes(usual, {"sigma_shft": 2.0}))


def test_the_middle_square_is_the_middle() -> None:
    columns = torch.arange(10.0).expand(1, 2, 3, 6, 10)
    assert middle_square(columns)[0, 0, 0, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert middle_square(columns.mT)[0, 0, 0, :, 0].tolist() == [2, 3, 4, 5, 6, 7]
    square = torch.rand(1, 2, 3, 8, 8)
    assert torch.equal(middle_square(square), square)


def test_a_variants_folder_shares_the_demos_data_each_time_anew(tmp_path: Path) -> None:
    demo, place = Workspace(tmp_path / "demo"), Workspace(tmp_path / "ablations" / "one")
    for part in ablation_bench.SHARED:
        (demo.root / part).mkdir(parents=True)
    demo.receipts.mkdir()
    for made_at in ("first", "second"):
        for stage in ablation_bench.UPSTREAM:
            (demo.receipts / f"{stage}.json").write_text(made_at)
        (demo.latents / made_at).touch()
        ablation_bench.share(demo, place)
        assert (place.latents / made_at).is_file()
        assert (place.receipts / "encode.json").read_text() == made_at


def test_shares_are_counted_in_all_and_by_size() -> None:
    asked = [{"colour": "red", "shape": "ball"}] * 4
    seen = [asked[0], {"colour": "blue", "shape": "ball"}, {"colour": "red", "shape": "cube"}, asked[0]]
    score = ablation_bench.scored(seen, asked, ["64x64x16", "64x64x16", "80x48x16", "80x48x16"])
    assert (score.all, score.shape) == (0.5, 0.75)
    assert score.by_size == {"64x64x16": 0.5, "80x48x16": 0.5}


def test_no_prompt_is_one_that_the_demo_is_tested_with() -> None:
    config = PRESETS["demo"]().evaluation
    assert config
    tested = {text for text, _ in heldout_prompts(config.num_prompts, config.seed, 1)}
    texts = [text for text, _ in heldout_prompts(ablation_bench.MOST_PROMPTS, ablation_bench.SEED, 1)]
    assert tested < set(texts), "there are no more"
    left = ablation_bench.unasked(Asked(texts, [{}] * len(texts), ["64x64x16"] * len(texts)))
    assert set(left.prompts) == set(texts) - tested
    assert len(left.prompts) == len(left.buckets) == len(texts) - len(tested)


def test_without_a_demo_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    with pytest.raises(StageError, match="make demo"):
        ablation_bench.ablations()
