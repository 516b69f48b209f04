from data.config import CaptionConfig, TrainedCaptionerConfig, TransformersCaptionerConfig
from flows.commands.flags import read_flags
from flows.commands.line import DemoFlags, _given
from flows.recipes import Recipe, ShowcaseConfig


def test_flags_stand_over_the_preset_and_leave_the_rest(monkeypatch):
    monkeypatch.setenv("name", "from the environment")
    preset = Recipe(showcase=ShowcaseConfig(num_videos=5, seconds="4"))
    flags = read_flags(DemoFlags, "demo", ["--showcase.seconds", "8"], **preset.model_dump())
    assert flags.recipe() == preset.model_copy(update={"showcase": ShowcaseConfig(num_videos=5, seconds="8")})


def test_without_flags_the_recipe_is_the_preset():
    assert read_flags(DemoFlags, "demo", [], **Recipe().model_dump()).recipe() == Recipe()


def test_another_kind_of_backend_drops_the_values_of_the_old_one(tmp_path):
    recipe = Recipe(caption=CaptionConfig(backend=TrainedCaptionerConfig(folder=tmp_path)))
    words = ["--caption.backend.kind", "transformers", "--caption.backend.model", "some/model"]
    flags = read_flags(DemoFlags, "demo", words, **_given(recipe, words))
    assert flags.caption.backend == TransformersCaptionerConfig(model="some/model")


def test_a_stage_can_be_left_out_by_a_flag():
    assert read_flags(DemoFlags, "demo", ["--evaluation", "None"], **Recipe().model_dump()).recipe().evaluation is None
