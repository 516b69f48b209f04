"""How badly texts explain a video: none where the velocity is true, the squared error where it is not."""

import torch

from model.guidance import Condition
from model.misfit import misfit


def test_the_misfit_is_the_squared_error_of_each_cell() -> None:
    latents = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    level, off_by = 0.6, 0.5

    def velocity(noisy: torch.Tensor, levels: torch.Tensor, condition: Condition) -> torch.Tensor:
        assert condition == "full"
        assert bool((levels == level).all())
        true = (noisy - latents) / level
        true[:, :, 1, 2, 0] += off_by
        return true

    found = misfit(velocity, latents, noise, level)
    expected = torch.zeros(1, 2, 3, 3)
    expected[0, 1, 2, 0] = off_by**2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
