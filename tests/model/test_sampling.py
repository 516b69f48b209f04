"""The sampler: exact on straight paths, given frames kept, one seed one video."""

import pytest
import torch

from model.errors import ConfigError
from model.guidance import (
    Ask,
    ClassifierFreeGuidance,
    Condition,
    HistoryGuidance,
    ZeroStarGuidance,
    guided,
    without_history,
)
from model.runner import finish
from model.sampling import SamplingProgress, Start, sample, seeded_noise, sigma_schedule
from model.sampling_options import Solver
from model.views import GuidedVelocity


@pytest.mark.parametrize("solver", ["euler", "heun", "multistep"])
@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_every_solver_is_exact_on_a_straight_path(solver: Solver, num_steps: int) -> None:
    noise, x0 = torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 3, 4, 4)
    latents = finish(
        sample(GuidedVelocity(lambda x, sigma, c: noise - x0), noise, sigma_schedule(num_steps), solver=solver)
    )
    torch.testing.assert_close(latents, x0, atol=1e-5, rtol=0)


def test_a_frame_whose_first_step_is_tiny_is_not_thrown_far() -> None:
    """Strengths that lie a rounding error above a level of the schedule, as a blend's may."""

    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        return x * (8 * sigma[:, None, :, None, None]).cos()

    noise, sigmas = torch.ones(1, 1, 2, 1, 1), sigma_schedule(20)
    level = sigmas[13]
    strengths = torch.tensor([level, level + 3e-8])
    assert strengths[1] > strengths[0]
    made = finish(
        sample(GuidedVelocity(velocity), noise, sigmas, start=Start(noise, strengths), solver="multistep")
    ).flatten()
    torch.testing.assert_close(made[0], made[1], rtol=2e-2, atol=0)


def test_second_order_solvers_err_less_on_a_curved_path() -> None:
    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        return x * sigma[:, None, :, None, None].cos()

    noise = torch.ones(1, 1, 1, 1, 1)
    exact = float(torch.exp(-torch.sin(torch.tensor(1.0))))
    errors = {
        solver: abs(float(finish(sample(GuidedVelocity(velocity), noise, sigma_schedule(20), solver=solver))) - exact)
        for solver in ("euler", "heun", "multistep")
    }
    assert errors["heun"] < errors["euler"] / 5
    assert errors["multistep"] < errors["euler"] / 5


def test_given_frames_are_kept_exactly_and_seen_clean() -> None:
    noise, known = torch.randn(1, 2, 4, 2, 2), torch.randn(1, 2, 4, 2, 2)
    is_given = torch.tensor([True, False, False, True])
    seen = []

    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        seen.append((x[:, :, is_given].clone(), sigma.clone()))
        return x

    latents = finish(sample(GuidedVelocity(velocity), noise, sigma_schedule(5), start=Start.given(known, is_given)))
    assert torch.equal(latents[:, :, is_given], known[:, :, is_given])
    assert all(torch.equal(x, known[:, :, is_given]) and (sigma[0, is_given] == 0).all() for x, sigma in seen)
    assert not torch.equal(latents[:, :, ~is_given], known[:, :, ~is_given])


def test_frames_depart_from_their_own_strength() -> None:
    noise, known = torch.randn(1, 1, 3, 2, 2), torch.randn(1, 1, 3, 2, 2)
    start, seen = Start(known, torch.tensor([0.0, 0.5, 1.0])), []

    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        seen.append(sigma[0].tolist())
        return noise - known

    latents = finish(sample(GuidedVelocity(velocity), noise, sigma_schedule(4), start=start))
    torch.testing.assert_close(latents, known, atol=1e-5, rtol=0)
    assert seen == [[0, 0.5, 1], [0, 0.5, 0.75], [0, 0.5, 0.5], [0, 0.25, 0.25]]


def test_known_cells_are_held_while_their_frame_is_made() -> None:
    noise, known = torch.randn(1, 1, 2, 2, 2), torch.randn(1, 1, 2, 2, 2)
    is_known = torch.zeros(2, 2, 2, dtype=torch.bool)
    is_known[:, 0] = True
    latents = finish(
        sample(GuidedVelocity(lambda x, s, c: x), noise, sigma_schedule(6), start=Start(known, torch.ones(2), is_known))
    )
    torch.testing.assert_close(latents[..., 0, :], known[..., 0, :])
    assert (latents[..., 1, :] - known[..., 1, :]).abs().min() > 1e-4


def test_in_a_ring_no_frame_is_the_first() -> None:
    """A network that treats the first frame apart leaves a mark there, unless the ring turns.

    In a ring the mark is spread over all frames, and is a quarter as large, as the first frame of a view counts little.
    """

    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        v = torch.zeros_like(x)
        v[:, :, 0] = 1
        return v

    noise, sigmas = torch.zeros(1, 1, 4, 1, 1), sigma_schedule(400)
    fixed = finish(sample(GuidedVelocity(velocity), noise, sigmas)).flatten()
    shifts = torch.randint(4, (400,), generator=torch.Generator().manual_seed(0))
    turned = finish(sample(GuidedVelocity(velocity), noise, sigmas, shifts=shifts)).flatten()
    assert fixed.tolist() == pytest.approx([-1, 0, 0, 0])
    assert turned.tolist() == pytest.approx([-0.125] * 4, abs=0.04)


def test_progress_is_reported_once_per_step() -> None:
    steps = list(sample(GuidedVelocity(lambda x, sigma, c: x), torch.randn(1, 1, 1, 1, 1), sigma_schedule(4)))
    assert steps == [SamplingProgress(step, 4) for step in (1, 2, 3, 4)]


def _ask(full: float, without: float) -> Ask:
    values = {"full": torch.full((1, 1, 1, 1, 1), full), "no_text": torch.full((1, 1, 1, 1, 1), without)}
    return lambda condition: values[condition]


def test_guidance_extrapolates_inside_its_interval() -> None:
    guidance = ClassifierFreeGuidance(2.5, low=0.2, high=0.9)
    assert float(guided(_ask(3.0, 1.0), [guidance], 0.5)) == pytest.approx(1 + 2.5 * 2)
    assert float(guided(_ask(3.0, 1.0), [guidance], 0.95)) == 3


def test_guidances_add_up_and_each_velocity_is_asked_for_once() -> None:
    asked: list[str] = []

    def ask(condition: Condition) -> torch.Tensor:
        asked.append(condition)
        return _ask(3.0, 1.0)(condition)

    guidances = [ClassifierFreeGuidance(2.0), ClassifierFreeGuidance(1.5)]
    assert float(guided(ask, guidances, 0.5)) == pytest.approx(3 + 2 + 1)
    assert sorted(asked) == ["full", "no_text"]


def test_zero_star_scales_the_weaker_velocity_and_rests_at_first() -> None:
    guidance = ZeroStarGuidance(2.0)
    assert float(guided(_ask(3.0, 1.0), [guidance], 0.5)) == pytest.approx(3), "one is a multiple of the other"
    assert float(guided(_ask(3.0, 1.0), [guidance], 1.0)) == 0


def test_history_guidance_pushes_away_from_what_does_not_see_the_given_frames() -> None:
    values = {"full": 3.0, "no_text": 1.0, "no_history": 2.0}

    def ask(condition: Condition) -> torch.Tensor:
        return torch.full((1, 1, 1, 1, 1), values[condition])

    both = [ClassifierFreeGuidance(2.0), HistoryGuidance(3.0)]
    assert float(guided(ask, both, 0.5)) == pytest.approx(3 + 2 + 2)
    assert float(guided(ask, [HistoryGuidance(1.0)], 0.5)) == 3


def test_a_hidden_history_is_noise_at_its_level_and_the_rest_stays() -> None:
    x, sigma = torch.zeros(2, 1, 3, 4, 4), torch.tensor([[0.0, 0.0, 0.7]]).repeat(2, 1)
    hidden, levels = without_history(x, sigma)
    torch.testing.assert_close(levels, torch.tensor([[1.0, 1.0, 0.7]] * 2))
    assert torch.equal(hidden[:, :, 2], x[:, :, 2])
    assert 0.7 < float(hidden[:, :, :2].std()) < 1.3
    assert torch.equal(hidden, without_history(x, sigma)[0])
    assert torch.equal(hidden[:1], without_history(x[:1], sigma[:1])[0]), "no sample depends on its batch"


def test_noise_of_a_seed_does_not_depend_on_its_batch() -> None:
    alone, together = seeded_noise((2, 1, 3, 1), [7]), seeded_noise((2, 1, 3, 1), [1, 7])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])


def test_no_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_steps=0"):
        sigma_schedule(0)


def test_each_step_can_cut_patches_elsewhere() -> None:
    sides = []

    def velocity(x: torch.Tensor, sigma: torch.Tensor, condition: str) -> torch.Tensor:
        sides.append(tuple(x.shape[-2:]))
        return x

    noise = torch.randn(1, 1, 1, 4, 6)
    moved = finish(sample(GuidedVelocity(velocity, patch_size=2), noise, sigma_schedule(5)))
    assert sides == [(4, 6), (6, 8), (4, 8), (6, 6), (4, 6)]
    torch.testing.assert_close(moved, finish(sample(GuidedVelocity(lambda x, s, c: x), noise, sigma_schedule(5))))
