"""Polish: the mean of several predictions, from which what is given and known stays away, for every cut of patches."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.facts import PipelineFacts
from model.guidance import ClassifierFreeGuidance
from model.pipeline import SkyloomPipeline
from model.plan import Piece, Plan, Script, Task
from model.polish import Round, polish
from model.runner import finish
from model.sampling import SamplingProgress, Start, noise_stream, seeded_noise
from model.sampling_options import PolishRound, SamplingOptions
from model.shapes import VideoShape
from model.tasks import Animate, Extend, Generate, Join, Loop
from model.tiny import tiny_autoencoder, tiny_transformer
from model.views import cut_elsewhere, patch_offsets

SHAPE = (2, 4, 6, 4)


def _noises(*seeds: int) -> Iterator[torch.Tensor]:
    return noise_stream(SHAPE, seeds or (1,))


def test_predictions_that_err_at_random_are_averaged() -> None:
    x0, drawn = torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)
    generator = torch.Generator().manual_seed(0)

    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        clean = x0 + torch.randn(x.shape, generator=generator)
        return (x - clean) / sigma[:, None, :, None, None]

    spread = {
        num: float(finish(polish(velocity, drawn, _noises(), [Round(0.5, num)], patch_size=1)).std()) for num in (1, 16)
    }
    assert spread[16] == pytest.approx(spread[1] / 4, rel=0.2)


def test_given_frames_stay_to_the_last_bit_and_others_reach_the_prediction() -> None:
    x, x0 = torch.randn(1, *SHAPE), torch.randn(1, *SHAPE)
    start = Start.given(x, torch.tensor([True, False, False, True]))

    def velocity(noisy: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        assert sigma.tolist() == [[0, pytest.approx(0.7), pytest.approx(0.7), 0]]
        return (noisy - x0) / sigma[:, None, :, None, None].clamp_min(1e-6)

    made = finish(polish(velocity, x, _noises(), [Round(0.7, 6)], start, patch_size=1))
    assert torch.equal(made[:, :, [0, 3]], x[:, :, [0, 3]])
    torch.testing.assert_close(made[:, :, 1:3], x0[:, :, 1:3], atol=1e-4, rtol=0)


def test_no_frame_is_noised_above_its_own_start() -> None:
    seen = []

    def velocity(noisy: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        seen.append(sigma[0].tolist())
        return noisy

    start = Start(torch.zeros(1, *SHAPE), torch.tensor([1.0, 0.3, 0.5, 1.0]))
    finish(polish(velocity, torch.zeros(1, *SHAPE), _noises(), [Round(0.5, 1)], start, patch_size=2))
    assert seen == [pytest.approx([0.5, 0.3, 0.5, 0.5])]


def test_known_cells_stay() -> None:
    known, is_known = torch.randn(1, *SHAPE), torch.zeros(4, 6, 4, dtype=torch.bool)
    is_known[:, :, :2] = True
    start = Start(known, torch.ones(4), is_known)
    made = finish(polish(lambda x, s, c: x, known, _noises(), [Round(0.5, 3)], start, patch_size=2))
    assert torch.equal(made[..., :2], known[..., :2])
    assert not torch.equal(made[..., 2:], known[..., 2:])


@pytest.mark.parametrize("offset", patch_offsets(2))
def test_patches_cut_elsewhere_show_the_same_cells(offset: tuple[int, int]) -> None:
    x = torch.randn(1, *SHAPE)
    sides = []

    def velocity(seen: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        sides.append(seen.shape[-2:])
        return 2 * seen

    seen = cut_elsewhere(velocity, offset, 2)(x, torch.ones(1, 4), "full")
    assert torch.equal(seen, 2 * x)
    assert [side % 2 for side in sides[0]] == [0, 0]


def test_a_seed_decides_its_polish_whatever_else_is_in_the_batch() -> None:
    def made(*seeds: int) -> torch.Tensor:
        drawn = seeded_noise(SHAPE, seeds)
        return finish(polish(lambda x, s, c: x.sin(), drawn, _noises(*seeds), [Round(0.6, 3)], patch_size=2))

    assert torch.equal(made(5, 7)[1], made(7)[0])
    assert not torch.equal(made(5, 7)[1], made(8)[0])


@pytest.mark.parametrize("level", [0, 1])
def test_a_round_must_lie_between_clean_and_noise(level: float) -> None:
    with pytest.raises(ValidationError, match="level"):
        PolishRound(level=level)


@pytest.fixture(scope="module")
def steady() -> SkyloomPipeline:
    """A tiny pipeline whose facts ask for a round of polish."""
    torch.manual_seed(0)
    made = SkyloomPipeline(tiny_autoencoder(), tiny_transformer())
    made.facts = PipelineFacts(
        fps=8, trained_buckets=["32x32x16"], default_num_steps=2, default_guidance_low=0.6,
        default_polish=(PolishRound(level=0.5, num_predictions=3, guidance_scale=2.0),),
    )  # fmt: skip
    return made


def test_a_model_is_polished_as_its_facts_say_unless_the_options_say_otherwise(steady: SkyloomPipeline) -> None:
    shape = VideoShape(8, 32, 32)
    said = list(steady.stream(Generate("a red ball", shape), seeds=[3]))
    steps = [(each.step, each.num_steps) for each in said if isinstance(each, SamplingProgress)]
    assert steps == [(step, 5) for step in range(1, 6)], "two steps and three predictions count as one row"
    plain = list(steady.stream(Generate("a red ball", shape), seeds=[3], options=SamplingOptions(polish=())))
    assert len([each for each in plain if isinstance(each, SamplingProgress)]) == 2
    usual, unpolished = (next(each.videos[0] for each in run if isinstance(each, Piece)) for run in (said, plain))
    assert not np.array_equal(usual, unpolished)
    assert np.array_equal(usual, finish(steady.generate(["a red ball"], shape, seeds=[3]))[0])


@pytest.mark.parametrize(("asked", "scale"), [(None, 2.0), (1.5, 1.5), (4.0, 2.0)])
def test_no_round_is_guided_further_than_the_sampling(
    steady: SkyloomPipeline, asked: float | None, scale: float
) -> None:
    (only,) = steady.rounds(SamplingOptions(guidance_scale=asked))
    assert only.guidances[0] == ClassifierFreeGuidance(scale)


def test_what_lies_between_given_frames_is_not_polished_unless_asked(steady: SkyloomPipeline) -> None:
    """Averaged, made frames step away from those that are given (decision 0026)."""
    clip = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    assert _is_polished_when_asked_alone(steady, Join(clip, clip, "a", 8))


def test_what_goes_on_from_given_frames_is_polished(steady: SkyloomPipeline) -> None:
    clip = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    for task in (Extend(clip, "a", 4), Extend(clip, "a", 4, "backward"), Animate(clip[0], "a", 4)):
        usual, none = (finish(steady.run(task, options=SamplingOptions(polish=polish)))[0] for polish in (None, ()))
        assert not np.array_equal(usual, none)


def test_small_frames_are_not_polished_unless_asked(steady: SkyloomPipeline) -> None:
    """Less than half of the least trained size: what has few cells would be lost."""
    assert _is_polished_when_asked_alone(steady, Generate("a red ball", VideoShape(8, 16, 16)))


def _is_polished_when_asked_alone(steady: SkyloomPipeline, task: Task) -> bool:
    rounds = (PolishRound(level=0.5, num_predictions=3),)
    usual, none, some = (
        finish(steady.run(task, options=SamplingOptions(polish=polish)))[0] for polish in (None, (), rounds)
    )
    return np.array_equal(usual, none) and not np.array_equal(usual, some)


def test_the_noise_level_from_which_the_prompt_guides_is_the_models_own(steady: SkyloomPipeline) -> None:
    usual, asked = (steady.guidances(SamplingOptions(guidance_low=low))[0] for low in (None, 0.1))
    assert (usual, asked) == (ClassifierFreeGuidance(2.5, 0.6), ClassifierFreeGuidance(2.5, 0.1))


def test_a_ring_is_polished_as_a_ring(steady: SkyloomPipeline) -> None:
    task = Loop("a red ball", VideoShape(16, 32, 32))
    alone, together = (finish(steady.run(task, seeds=seeds)) for seeds in ([5], [1, 5]))
    assert np.array_equal(alone[0], together[1])
    assert not np.array_equal(alone[0], finish(steady.run(task, seeds=[5], options=SamplingOptions(polish=())))[0])


@pytest.mark.parametrize("is_polished", [[True, False], [False, False]])
def test_of_a_batch_those_are_polished_that_a_plan_names(steady: SkyloomPipeline, is_polished: list[bool]) -> None:
    grid = steady.grid(VideoShape(8, 32, 32))
    plan = Plan(grid=grid, script=Script.of("x", grid.num_frames))

    def drawn(plan: Plan, seeds: list[int], polish: bool) -> tuple[list[SamplingProgress], torch.Tensor]:
        steps, options = [], SamplingOptions() if polish else SamplingOptions(polish=())
        sampler = steady._sampled(plan, seeds, options)
        while True:
            try:
                steps.append(next(sampler))
            except StopIteration as stop:
                return steps, stop.value

    named = replace(plan, polishes=lambda latents: torch.tensor(is_polished)[: len(latents)])
    steps, both = drawn(named, [1, 2], polish=True)
    assert steps[-1].step == steps[-1].num_steps
    for place, seed in enumerate((1, 2)):
        (_, alone), (_, other) = (
            drawn(plan, [seed], polish=way) for way in (is_polished[place], not is_polished[place])
        )
        assert torch.allclose(both[place], alone[0], atol=1e-4)
        assert not torch.allclose(both[place], other[0], atol=1e-2)
