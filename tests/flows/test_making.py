"""How the flags of `generate` and its like ask the model to sample."""

from flows.commands.flags import read_flags
from flows.commands.making import MakeFlags, sampling_options
from model.sampling_options import SamplingOptions


def asked(*words: str) -> SamplingOptions:
    return sampling_options(read_flags(MakeFlags, "generate", list(words)), usual_steps=8)


def test_without_flags_a_model_is_sampled_its_own_way() -> None:
    assert asked() == SamplingOptions(num_steps=8)


def test_each_flag_is_asked_for() -> None:
    words = (
        "--num_steps",
        "4",
        "--guidance_scale",
        "2",
        "--solver",
        "heun",
        "--no-polish",
        "--negative_prompt",
        "rain",
    )
    assert asked(*words) == SamplingOptions(
        num_steps=4, guidance_scale=2.0, solver="heun", polish=(), negative_prompt="rain"
    )
