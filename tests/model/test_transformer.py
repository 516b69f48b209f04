"""The transformer: any size, a noise level per frame, text that matters, attention equal to the fused kernel."""

import pytest
import torch

from model.layers import attend
from model.tiny import tiny_transformer
from model.transformer import SpacetimeTransformer


def _text(batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, length, 384), torch.ones(batch, length, dtype=torch.bool)


@pytest.mark.parametrize("grid", [(1, 2, 2), (4, 8, 8), (4, 6, 10), (9, 10, 6)])
@torch.no_grad()
def test_any_grid_gives_a_velocity_of_its_own_shape(grid: tuple[int, int, int]) -> None:
    latents = torch.randn(2, 4, *grid)
    velocity = tiny_transformer()(latents, torch.rand(2, grid[0]), *_text(2, 7))
    assert velocity.shape == latents.shape
    assert torch.isfinite(velocity).all()


@torch.no_grad()
def test_training_starts_from_zero_velocity() -> None:
    network = SpacetimeTransformer(latent_channels=4, dim=32, num_heads=2, num_blocks=1)
    assert network(torch.randn(1, 4, 2, 4, 4), torch.rand(1, 2), *_text(1, 3)).abs().max() == 0


@torch.no_grad()
def test_each_frame_feels_its_own_noise_level() -> None:
    network, latents, text = tiny_transformer(), torch.randn(1, 4, 3, 4, 4), _text(1, 5)
    low = network(latents, torch.tensor([[0.5, 0.5, 0.5]]), *text)
    high = network(latents, torch.tensor([[0.5, 0.5, 0.9]]), *text)
    change = (high - low).abs().amax(dim=(0, 1, 3, 4))
    assert change[2] > change[:2].max() > 0


@torch.no_grad()
def test_text_and_its_absence_change_the_velocity() -> None:
    network, latents, sigma = tiny_transformer(), torch.randn(1, 4, 2, 4, 4), torch.full((1, 2), 0.7)
    states, is_token = _text(1, 6)
    with_text = network(latents, sigma, states, is_token)
    without = network(latents, sigma, states, torch.zeros_like(is_token))
    other = network(latents, sigma, states.flip(1), is_token)
    assert (with_text - without).abs().max() > 1e-4
    assert (with_text - other).abs().max() > 1e-4, "word order must matter"


@torch.no_grad()
def test_padding_to_the_right_changes_nothing() -> None:
    network, latents, sigma = tiny_transformer(), torch.randn(1, 4, 2, 4, 4), torch.full((1, 2), 0.7)
    states, is_token = _text(1, 6)
    padded = torch.nn.functional.pad(states, (0, 0, 0, 40)), torch.nn.functional.pad(is_token, (0, 40))
    torch.testing.assert_close(network(latents, sigma, *padded), network(latents, sigma, states, is_token))


@torch.no_grad()
def test_multiplied_out_attention_is_nearly_as_exact_as_the_fused_kernel() -> None:
    q, k, v = (torch.randn(2, 3, 50, 16).bfloat16() for _ in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    error, fused_error = ((found.float() - exact).abs().mean() for found in (attend(q, k, v), fused))
    assert not torch.equal(attend(q, k, v), fused)
    assert error <= 2 * fused_error  # its scores are rounded too
