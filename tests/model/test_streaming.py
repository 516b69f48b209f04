"""Pieces in time and tiles in space give what the whole gives, to the last float."""

import pytest
import torch

from model.autoencoder import VideoAutoencoder
from model.streaming import decoded, encoded, reach_cells, spans


@pytest.fixture(scope="module")
def autoencoder() -> VideoAutoencoder:
    """All weights at work: a fresh network's blocks are identities and would hide what they reach."""
    torch.manual_seed(0)
    made = VideoAutoencoder(latent_channels=4, frame_channels=8, fine_channels=8, coarse_channels=16)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return made.eval()


@pytest.mark.parametrize(("chunk", "tile"), [(1, 64), (2, 64), (3, 7), (8, 4)])
@torch.no_grad()
def test_encoding_in_pieces_equals_encoding_at_once(autoencoder: VideoAutoencoder, chunk: int, tile: int) -> None:
    video = torch.rand(2, 3, 20, 160, 128) * 2 - 1
    whole = autoencoder.encode(video)
    pieces = encoded(autoencoder, video, chunk=chunk, tile=tile)
    torch.testing.assert_close(pieces.mean, whole.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pieces.logvar, whole.logvar, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_ring", [False, True])
@pytest.mark.parametrize(("chunk", "tile"), [(1, 64), (2, 64), (3, 9), (8, 4)])
@torch.no_grad()
def test_decoding_in_pieces_equals_decoding_at_once(
    autoencoder: VideoAutoencoder, chunk: int, tile: int, is_ring: bool
) -> None:
    latents = torch.randn(2, 4, 5, 24, 16)
    whole = autoencoder.decode(latents, is_ring=is_ring)
    pieces = torch.cat(list(decoded(autoencoder, latents, is_ring=is_ring, chunk=chunk, tile=tile)), dim=2)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tiles_without_overlap_would_show(autoencoder: VideoAutoencoder) -> None:
    latents = torch.randn(1, 4, 1, 16, 16)
    whole = autoencoder.decode(latents)
    halves = torch.cat([autoencoder.decode(part) for part in latents.split(8, dim=4)], dim=4)
    assert (whole - halves).abs().max() > 1e-3


def test_spans_cover_an_axis_once() -> None:
    for size in (1, 7, 8, 30):
        covered = [cell for span in spans(size, 8, 3) for cell in range(span.begin, span.end)]
        assert covered == list(range(size))
        assert all(0 <= span.first <= span.begin and span.end <= span.last <= size for span in spans(size, 8, 3))


def test_reach_counts_the_cells_that_convolutions_see(autoencoder: VideoAutoencoder) -> None:
    assert reach_cells([(autoencoder.decoder_in, 1)]) == 1
    assert reach_cells([(autoencoder.encoder_fine, 2), (autoencoder.encoder_coarse, 1)]) == 5
    assert reach_cells([(autoencoder.encoder_frame, 2)]) == 1
