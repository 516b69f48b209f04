"""The video autoencoder: 4 frames x 8 x 8 pixels to one latent cell, in uniform groups.

Each latent frame encodes its own 4 frames and nothing else; the decoder remembers one group, so that motion stays
smooth over group borders. The outer layers see each frame for itself, by the same weights for all; the inner ones see a
group as a whole (decision 0009). An image is a frame repeated four times. (The usual 1+4k layout breaks loops, joins
and suffixes.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from model.autoencoder_blocks import MemoryBlock, PositionNorm, ResidualBlock
from model.shapes import Compression

FRAME_CHANNELS = 3
INITIAL_LOGVAR = -5.0


class Posterior(NamedTuple):
    """Mean and log-variance of the latents, each `B C T H W`."""

    mean: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw from the posterior."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + noise * torch.exp(0.5 * self.logvar)


class VideoAutoencoder(ModelMixin, ConfigMixin):
    """Compresses video `B 3 T H W` in [-1, 1] to latents `B C T/4 H/8 W/8` and back.

    Weights live in a diffusers folder (`save_pretrained`, `from_pretrained`). `latent_mean` and `latent_std` turn
    stored (raw) latents into what the transformer sees, so re-scaling re-encodes nothing.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        *,
        latent_channels: int = 16,
        frame_channels: int = 64,
        fine_channels: int = 96,
        coarse_channels: int = 192,
        encoder_blocks: Sequence[int] = (1, 1, 2),
        decoder_blocks: Sequence[int] = (1, 2, 3),
    ) -> None:
        super().__init__()
        self.compression = Compression()
        self.latent_channels = latent_channels
        time, side = self.compression.time, self.compression.height
        self.patch = side // 2
        pixels = FRAME_CHANNELS * self.patch**2
        self.encoder_in = nn.Conv2d(pixels, frame_channels, 1)
        self.encoder_frame = nn.ModuleList(ResidualBlock(frame_channels) for _ in range(encoder_blocks[0]))
        self.encoder_merge = nn.Conv2d(time * frame_channels, fine_channels, 1)
        self.encoder_fine = nn.ModuleList(ResidualBlock(fine_channels) for _ in range(encoder_blocks[1]))
        self.encoder_down = nn.Conv2d(4 * fine_channels, coarse_channels, 1)
        self.encoder_coarse = nn.ModuleList(ResidualBlock(coarse_channels) for _ in range(encoder_blocks[2]))
        self.encoder_out = nn.Sequential(
            PositionNorm(coarse_channels), nn.Conv2d(coarse_channels, 2 * latent_channels, 1)
        )
        self.decoder_in = nn.Conv2d(latent_channels, coarse_channels, 3, padding=1)
        self.decoder_coarse = nn.ModuleList(MemoryBlock(coarse_channels) for _ in range(decoder_blocks[2]))
        self.decoder_up = nn.Conv2d(coarse_channels, 4 * fine_channels, 1)
        self.decoder_fine = nn.ModuleList(ResidualBlock(fine_channels) for _ in range(decoder_blocks[1]))
        self.decoder_part = nn.Conv2d(fine_channels, time * frame_channels, 1)
        self.decoder_frame = nn.ModuleList(ResidualBlock(frame_channels) for _ in range(decoder_blocks[0]))
        self.decoder_out = nn.Sequential(PositionNorm(frame_channels), nn.Conv2d(frame_channels, pixels, 3, padding=1))
        self._start_sharp()
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def _start_sharp(self) -> None:
        """Begin with narrow posteriors: at variance 1 the noise would drown the latents for the first hundred steps."""
        head = self.encoder_out[1]
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        nn.init.constant_(head.bias[self.latent_channels :], INITIAL_LOGVAR)

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Posterior:
        """The posterior over the raw latents of a video whose sides are multiples of the compression."""
        batch, num_groups = video.shape[0], video.shape[2] // self.compression.time
        p = self.patch
        x = rearrange(video, "b c t (h p) (w q) -> (b t) (c p q) h w", p=p, q=p)
        x = self.encoder_in(x.contiguous(memory_format=torch.channels_last))
        for block in self.encoder_frame:
            x = block(x)
        x = rearrange(x, "(n t) c h w -> n (t c) h w", t=self.compression.time)
        x = self.encoder_merge(x.contiguous(memory_format=torch.channels_last))
        for block in self.encoder_fine:
            x = block(x)
        x = self.encoder_down(nn.functional.pixel_unshuffle(x, 2))
        for block in self.encoder_coarse:
            x = block(x)
        moments = rearrange(self.encoder_out(x), "(b g) c h w -> b c g h w", b=batch, g=num_groups)
        mean, logvar = moments.float().chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-12, 4))

    def decode(self, latents: Float[Tensor, "b c t h w"], *, is_ring: bool = False) -> Float[Tensor, "b 3 t4 h8 w8"]:
        """The video of raw latents, in [-1, 1] up to overshoot; as a ring, its end flows into its beginning."""
        memory = self.decode_stream(self.before_ring(latents))[1] if is_ring else None
        return self.decode_stream(latents, memory)[0]

    def before_ring(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c m h w"]:
        """What a ring's decoder must have seen before its first frame: each memory block reaches one group back."""
        depth = len(self.decoder_coarse)
        return latents.repeat(1, 1, -(-depth // latents.shape[2]), 1, 1)[:, :, -depth:]

    def decode_stream(
        self, latents: Float[Tensor, "b c t h w"], memory: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The video of the next latents of a stream, and the memory for the call after; `None` begins a stream."""
        batch, _, num_groups, _, _ = latents.shape
        x = rearrange(latents, "b c g h w -> (b g) c h w").contiguous(memory_format=torch.channels_last)
        x = self.decoder_in(x)
        after: list[Tensor] = []
        for index, block in enumerate(self.decoder_coarse):
            x, last = block(x, num_groups, memory[index] if memory else None)
            after.append(last)
        x = nn.functional.pixel_shuffle(self.decoder_up(x), 2)
        for block in self.decoder_fine:
            x = block(x)
        x = rearrange(self.decoder_part(x), "n (t c) h w -> (n t) c h w", t=self.compression.time)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.decoder_frame:
            x = block(x)
        p = self.patch
        x = rearrange(
            self.decoder_out(x), "(b t) (c p q) h w -> b c t (h p) (w q)", b=batch, c=FRAME_CHANNELS, p=p, q=p
        )
        return x, after

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents as the transformer sees them: each channel at zero mean and unit deviation."""
        return (latents - self._channels(self.latent_mean, latents)) / self._channels(self.latent_std, latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The raw latents of normalised ones."""
        return latents * self._channels(self.latent_std, latents) + self._channels(self.latent_mean, latents)

    @staticmethod
    def _channels(value: Tensor, like: Tensor) -> Tensor:
        return value.to(like).view(1, -1, 1, 1, 1)
