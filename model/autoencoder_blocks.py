"""The parts of the video autoencoder: residual blocks over groups of frames, with one group of memory.

A *group* is the run of frames that one latent frame stands for. Groups are images to these blocks: every convolution
is 2-D with unit stride, sizes change by space-to-depth alone (strided bf16 convolutions can err on CPU), norms
look at one position, so nothing but `memory` carries over from one group to the next: a stream equals the whole clip.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, cat, nn, zeros, zeros_like


class PositionNorm(nn.Module):
    """RMSNorm over the channels of each position, `N C H W`."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(zeros(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The input with each position scaled to unit root mean square."""
        inverse = (x.float().square().mean(1, keepdim=True) + self.eps).rsqrt()
        return x * (inverse * (1 + self.scale.view(-1, 1, 1))).to(x.dtype)


class ResidualBlock(nn.Module):
    """norm, conv 3x3, SiLU, conv 3x3; the last convolution starts at zero so a new block is the identity."""

    def __init__(self, channels: int, *, extra_channels: int = 0) -> None:
        super().__init__()
        self.norm = PositionNorm(channels + extra_channels)
        self.conv_in = nn.Conv2d(channels + extra_channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.activation = nn.SiLU()
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, x: Float[Tensor, "n c h w"], context: Tensor | None = None) -> Float[Tensor, "n c h w"]:
        """The input plus what the block makes of it (and of `context`, stacked on its channels)."""
        h = x if context is None else cat([x, context], dim=1)
        return x + self.conv_out(self.activation(self.conv_in(self.norm(h))))


class MemoryBlock(nn.Module):
    """A residual block that also sees the same features of the group before (zeros before the first).

    Source: the MemBlock of madebyollin/taehv, here over groups of frames.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ResidualBlock(channels, extra_channels=channels)

    def forward(
        self, x: Float[Tensor, "n c h w"], num_groups: int, memory: Float[Tensor, "b c h w"] | None
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "b c h w"]]:
        """The output for all groups, and the memory to hand to the next call on the same stream."""
        groups = rearrange(x, "(b g) c h w -> b g c h w", g=num_groups)
        first = zeros_like(groups[:, 0]) if memory is None else memory
        before = cat([first.unsqueeze(1), groups[:, :-1]], dim=1)
        return self.block(x, rearrange(before, "b g c h w -> (b g) c h w")), groups[:, -1]
