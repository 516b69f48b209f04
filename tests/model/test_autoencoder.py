"""The autoencoder: shapes, streams that equal the whole clip, groups that stand alone, bf16 beside fp32."""

import torch

from model.autoencoder import VideoAutoencoder
from model.tiny import tiny_autoencoder


def _lively_autoencoder() -> VideoAutoencoder:
    """A tiny autoencoder in which every block does something (new blocks begin as the identity)."""
    network = tiny_autoencoder()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@torch.no_grad()
def test_any_size_round_trips_in_shape() -> None:
    network = tiny_autoencoder()
    video = torch.rand(2, 3, 8, 48, 80) * 2 - 1
    posterior = network.encode(video)
    assert posterior.mean.shape == posterior.logvar.shape == (2, 4, 2, 6, 10)
    assert network.decode(posterior.mean).shape == video.shape


@torch.no_grad()
def test_a_latent_depends_on_its_own_four_frames_alone() -> None:
    network = _lively_autoencoder()
    video = torch.rand(1, 3, 12, 32, 32) * 2 - 1
    whole = network.encode(video).mean
    torch.testing.assert_close(network.encode(video[:, :, 4:8]).mean, whole[:, :, 1:2], atol=1e-5, rtol=0)


@torch.no_grad()
def test_decoding_in_pieces_equals_decoding_at_once() -> None:
    network = _lively_autoencoder()
    latents = torch.randn(2, 4, 7, 4, 4)
    whole = network.decode(latents)
    for cuts in ([7], [1] * 7, [2, 4, 1]):
        memory, pieces, start = None, [], 0
        for length in cuts:
            piece, memory = network.decode_stream(latents[:, :, start : start + length], memory)
            pieces.append(piece)
            start += length
        torch.testing.assert_close(torch.cat(pieces, dim=2), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_decoder_remembers_one_group() -> None:
    network = _lively_autoencoder()
    latents = torch.randn(1, 4, 3, 4, 4)
    changed = latents.clone()
    changed[:, :, 0] += 1
    difference = (network.decode(changed) - network.decode(latents)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[4:8].max() > 1e-3, "the second group must see the first"


@torch.no_grad()
def test_bf16_agrees_with_fp32() -> None:
    network = VideoAutoencoder().eval()
    video = torch.rand(1, 3, 8, 32, 32) * 2 - 1
    exact = network.decode(network.encode(video).mean)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network.decode(network.encode(video).mean)
    assert (exact - rounded.float()).abs().mean() < 0.02 * exact.abs().mean() + 0.01


def test_normalising_is_undone() -> None:
    network = tiny_autoencoder()
    network.latent_mean.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    network.latent_std.copy_(torch.tensor([0.5, 2.0, 1.5, 4.0]))
    latents = torch.randn(2, 4, 3, 2, 2)
    torch.testing.assert_close(network.denormalise(network.normalise(latents)), latents)
