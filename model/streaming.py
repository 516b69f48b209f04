"""Encoding and decoding of any length and size in bounded memory, equal to doing it at once.

In time, groups of frames go through one after the other, the decoder's memory in hand. In space, tiles overlap by as
much as the convolutions reach, and what overlaps is thrown away: nothing is blended, no border can be seen.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.autoencoder import Posterior, VideoAutoencoder

CHUNK_GROUPS = 8
TILE_CELLS = 64


class Span(NamedTuple):
    """A tile along one axis, in latent cells: `begin` to `end` is kept of what is computed from `first` to `last`."""

    begin: int
    end: int
    first: int
    last: int


def spans(size: int, tile: int, reach: int) -> list[Span]:
    """Tiles that cover an axis of `size` cells, each with `reach` cells more on both sides where there are some."""
    return [
        Span(begin, min(begin + tile, size), max(0, begin - reach), min(begin + tile + reach, size))
        for begin in range(0, size, tile)
    ]


def reach_cells(layers: Sequence[tuple[nn.Module, int]]) -> int:
    """How far, in latent cells, an output looks: `layers` are modules and how many of their pixels make a cell."""
    pixels = 0.0
    for module, per_cell in layers:
        kernels = (part.kernel_size[0] // 2 for part in module.modules() if isinstance(part, nn.Conv2d))
        pixels += sum(kernels) / per_cell
    return math.ceil(pixels)


def encoded(
    autoencoder: VideoAutoencoder,
    video: Float[Tensor, "b 3 t h w"],
    *,
    chunk: int = CHUNK_GROUPS,
    tile: int = TILE_CELLS,
) -> Posterior:
    """The posterior of a video, computed `chunk` groups of frames and `tile` x `tile` cells at a time."""
    size, time = autoencoder.compression.height, autoencoder.compression.time
    reach = reach_cells(
        [(autoencoder.encoder_frame, 2), (autoencoder.encoder_fine, 2), (autoencoder.encoder_coarse, 1)]
    )
    rows, columns = (spans(side // size, tile, reach) for side in video.shape[3:])
    pieces = []
    for piece in video.split(chunk * time, dim=2):
        made = [
            torch.cat([_encoded_tile(autoencoder, piece, row, column) for column in columns], dim=4) for row in rows
        ]
        pieces.append(torch.cat(made, dim=3))
    return Posterior(*torch.cat(pieces, dim=2).chunk(2, dim=1))


def _encoded_tile(autoencoder: VideoAutoencoder, video: Tensor, row: Span, column: Span) -> Tensor:
    p = autoencoder.compression.height
    posterior = autoencoder.encode(video[..., row.first * p : row.last * p, column.first * p : column.last * p])
    high = slice(row.begin - row.first, row.end - row.first)
    wide = slice(column.begin - column.first, column.end - column.first)
    return torch.cat(posterior, dim=1)[..., high, wide]


def decoded(
    autoencoder: VideoAutoencoder,
    latents: Float[Tensor, "b c t h w"],
    *,
    is_ring: bool = False,
    chunk: int = CHUNK_GROUPS,
    tile: int = TILE_CELLS,
) -> Iterator[Float[Tensor, "b 3 t4 h8 w8"]]:
    """The video of raw latents in pieces of `chunk` groups of frames; as a ring, its end flows into its beginning."""
    decoder = StreamingDecoder(autoencoder, chunk=chunk, tile=tile)
    if is_ring:
        decoder.decode(autoencoder.before_ring(latents))
    yield from decoder.add(latents, is_last=True)


class StreamingDecoder:
    """Decodes raw latents that come bit by bit: however they come, in the pieces that `decoded` cuts the whole into.

    So the frames are the same to the last bit, which a sum over pieces of other sizes would not be.
    """

    def __init__(self, autoencoder: VideoAutoencoder, *, chunk: int = CHUNK_GROUPS, tile: int = TILE_CELLS) -> None:
        self._autoencoder, self._chunk, self._tile = autoencoder, chunk, tile
        self._reach = reach_cells(
            [(autoencoder.decoder_in, 1), (autoencoder.decoder_coarse, 1), (autoencoder.decoder_fine, 2),
             (autoencoder.decoder_frame, 2), (autoencoder.decoder_out, 2)]
        )  # fmt: skip
        self._memories: dict[tuple[int, int], list[Tensor]] = {}
        self._waiting: Tensor | None = None

    def add(self, latents: Float[Tensor, "b c t h w"], *, is_last: bool) -> Iterator[Float[Tensor, "b 3 t4 h8 w8"]]:
        """The pieces that are whole with these further latents; with the last ones, what is left too."""
        if self._waiting is not None:
            latents = torch.cat([self._waiting, latents], dim=2)
        num_groups = latents.shape[2]
        end = num_groups if is_last else num_groups // self._chunk * self._chunk
        self._waiting = latents[:, :, end:] if end < num_groups else None
        for begin in range(0, end, self._chunk):
            yield self.decode(latents[:, :, begin : min(begin + self._chunk, end)])

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t4 h8 w8"]:
        """The video of the next latents, at once."""
        rows, columns = (spans(side, self._tile, self._reach) for side in latents.shape[3:])
        lines = [torch.cat([self._tile_of(latents, row, column) for column in columns], dim=4) for row in rows]
        return torch.cat(lines, dim=3)

    def _tile_of(self, latents: Tensor, row: Span, column: Span) -> Tensor:
        p, place = self._autoencoder.compression.height, (row.begin, column.begin)
        part = latents[..., row.first : row.last, column.first : column.last]
        video, self._memories[place] = self._autoencoder.decode_stream(part, self._memories.get(place))
        top, left = (row.begin - row.first) * p, (column.begin - column.first) * p
        height, width = (row.end - row.begin) * p, (column.end - column.begin) * p
        return video[..., top : top + height, left : left + width]
