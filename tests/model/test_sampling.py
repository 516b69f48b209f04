"""The sampler: exact on straight paths, given frames kept, one seed one video."""

import pytest
import torch

from model.errors import ConfigError
from model.guidance import ClassifierFreeGuidance
from model.pipeline import finish
from model.sampling import GivenFrames, SamplingProgress, euler, seeded_noise, sigma_schedule


def test_euler_is_exact_on_a_straight_path() -> None:
    noise, x0 = torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 3, 4, 4)
    for num_steps in (1, 3, 20):
        latents = finish(euler(lambda x, sigma, c: noise - x0, noise, sigma_schedule(num_steps)))
        torch.testing.assert_close(latents, x0, atol=1e-5, rtol=0)


def test_given_frames_are_kept_exactly_and_seen_clean() -> None:
    noise, known = torch.randn(1, 2, 4, 2, 2), torch.randn(1, 2, 4, 2, 2)
    is_given = torch.tensor([True, False, False, True])
    seen = []

    def velocity(x: torch.Tensor, sigma: torch.Tensor, is_conditional: bool) -> torch.Tensor:
        seen.append((x[:, :, is_given].clone(), sigma.clone()))
        return x

    latents = finish(euler(velocity, noise, sigma_schedule(5), None, GivenFrames(known, is_given)))
    assert torch.equal(latents[:, :, is_given], known[:, :, is_given])
    assert all(torch.equal(x, known[:, :, is_given]) and (sigma[0, is_given] == 0).all() for x, sigma in seen)
    assert not torch.equal(latents[:, :, ~is_given], known[:, :, ~is_given])


def test_progress_is_reported_once_per_step() -> None:
    steps = list(euler(lambda x, sigma, c: x, torch.randn(1, 1, 1, 1, 1), sigma_schedule(4)))
    assert steps == [SamplingProgress(step, 4) for step in (1, 2, 3, 4)]


def test_guidance_extrapolates_inside_its_interval() -> None:
    conditional, unconditional = torch.full((1, 1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1, 1), 1.0)
    guidance = ClassifierFreeGuidance(2.5, low=0.2, high=0.9)
    assert float(conditional + guidance.delta(conditional, unconditional, 0.5)) == pytest.approx(1 + 2.5 * 2)
    assert float(guidance.delta(conditional, unconditional, 0.95)) == 0


def test_noise_of_a_seed_does_not_depend_on_its_batch() -> None:
    alone, together = seeded_noise((2, 1, 3, 1), [7]), seeded_noise((2, 1, 3, 1), [1, 7])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])


def test_no_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_steps=0"):
        sigma_schedule(0)
