"""What is done to latents for the sake of the diffusion after them."""

import pytest
import torch

from training.latents import halved, masked, noisy, roughness


def latents() -> torch.Tensor:
    return torch.randn(4, 8, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def test_white_noise_is_rough_and_a_smooth_field_is_not() -> None:
    assert roughness(latents()).item() == pytest.approx(1, abs=0.05)
    smooth = torch.linspace(0, 3, 16).cos().expand(4, 8, 2, 16, 16)
    assert roughness(smooth).item() < 0.1


def test_halving_takes_means() -> None:
    values = latents()
    half = halved(values)
    assert half.shape == (4, 8, 2, 8, 8)
    assert half[1, 2, 1, 3, 4] == pytest.approx(values[1, 2, 1, 6:8, 8:10].mean().item(), abs=1e-6)


def test_hidden_cells_are_the_mean_in_all_channels() -> None:
    values = latents()
    hidden = (masked(values, 0.25, torch.Generator().manual_seed(1)) != values).any(dim=1)
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(masked(values, 0.0, torch.Generator()), values)


def test_noise_is_at_most_what_was_said() -> None:
    values = latents()
    added = noisy(values, 0.2, torch.Generator().manual_seed(1)) - values
    levels = added.flatten(1).std(dim=1)
    assert (levels < 0.22).all()
    assert levels.min() < levels.max() / 1.1
