"""The transformer's parts: normalisation, attention with rotary positions, the modulated block, the sigma embedding.

Shapes: B batch, H heads, N tokens, D channels of a head, F latent frames.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from model.rope import rotate

MULTIPLIED_OUT_TOKENS = 512


def rms_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """The input over its root mean square along the last axis; no weights, since modulation follows."""
    return functional.rms_norm(x, (x.shape[-1],), eps=eps)


def attend(
    q_BHND: Float[Tensor, "b h n d"],
    k_BHMD: Float[Tensor, "b h m d"],
    v_BHMD: Float[Tensor, "b h m d"],
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "b h n d"]:
    """Softmax attention. Short rows in bfloat16 on CPU are multiplied out: the fused kernel's backward is slow there.

    Measured at B=64, N=84, forward and backward, bf16, one core: fused 90 ms, multiplied out 29 ms; in float32 the
    fused one is the faster, twice at N=216 (decision 0003).
    """
    slow = q_BHND.device.type == "cpu" and v_BHMD.dtype is torch.bfloat16
    if not slow or k_BHMD.shape[2] > MULTIPLIED_OUT_TOKENS or mask is not None:
        return functional.scaled_dot_product_attention(q_BHND, k_BHMD, v_BHMD, attn_mask=mask)
    return multiplied_out(q_BHND, k_BHMD, v_BHMD)


def multiplied_out(
    q_BHND: Float[Tensor, "b h n d"], k_BHMD: Float[Tensor, "b h m d"], v_BHMD: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    """Softmax attention by two plain products."""
    scores = (q_BHND * q_BHND.shape[-1] ** -0.5) @ k_BHMD.transpose(-1, -2)
    return scores.float().softmax(-1).to(v_BHMD.dtype) @ v_BHMD


class Attention(nn.Module):
    """Self-attention with normalised queries and keys and rotary positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b n dim"],
        turn: Float[Tensor, "2 n half"],
        context: Float[Tensor, "b m dim"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "b n dim"]:
        """What each token gathers from all tokens, and from those of `context`, which have no position.

        `mask` is True where a token may look; the places of the context come first.
        """
        q_BHND, k_BHND, v_BHND = self._heads(x, self.query, self.key, self.value)
        q_BHND, k_BHND = rotate(rms_norm(q_BHND), turn), rotate(rms_norm(k_BHND), turn)
        if context is not None:
            context_k_BHMD, context_v_BHMD = self._heads(context, self.key, self.value)
            k_BHND = torch.cat([rms_norm(context_k_BHMD), k_BHND], dim=2)
            v_BHND = torch.cat([context_v_BHMD, v_BHND], dim=2)
        gathered = attend(q_BHND, k_BHND, v_BHND, mask)
        return self.out(rearrange(gathered, "b h n d -> b n (h d)"))

    def _heads(self, x: Float[Tensor, "b n dim"], *layers: nn.Linear) -> Float[Tensor, "k b h n d"]:
        """The outputs of several layers by head; one product is faster, several weights are what Muon wants."""
        weights = torch.cat([layer.weight for layer in layers])
        return rearrange(functional.linear(x, weights), "b n (k h d) -> k b h n d", k=len(layers), h=self.num_heads)


class Mlp(nn.Module):
    """Two linear maps with a squared ReLU between them.

    Source: Primer (arXiv 2109.08668); as good as GELU there, and cheaper where a tanh takes as long as a product.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden_dim, bias=False)
        self.contract = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """The mapped tokens."""
        return self.contract(functional.relu(self.expand(x)).square())


def spread(rows: Float[Tensor, "b f dim"], num_tokens: int) -> Float[Tensor, "b n dim"]:
    """One row per token, where each row is for the equally many tokens of a frame.

    Expanding instead of indexing keeps the backward a plain sum, which compiles well; a gather's backward does not.
    """
    return rows[:, :, None].expand(-1, -1, num_tokens // rows.shape[1], -1).flatten(1, 2)


class ModulatedBlock(nn.Module):
    """Attention and MLP, each scaled, shifted and gated by its token's noise level (adaLN, shared but for a bias).

    Source: PixArt-alpha adaLN-single (arXiv 2310.00426); per-frame levels as in Diffusion Forcing (arXiv 2407.01392).
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads)
        self.mlp = Mlp(dim, mlp_ratio * dim)
        self.modulation_bias = nn.Parameter(torch.zeros(6, dim))

    def forward(
        self,
        x: Float[Tensor, "b n dim"],
        modulation: Float[Tensor, "b f 6 dim"],
        turn: Float[Tensor, "2 n half"],
        text: Float[Tensor, "b m dim"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "b n dim"]:
        """The patches after one block, which look at each other and at the text; `modulation` has a row per frame."""
        rows = (modulation + self.modulation_bias).to(x.dtype)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (spread(row, x.shape[1]) for row in rows.unbind(2))
        x = x + gate_a * self.attention(rms_norm(x) * (1 + scale_a) + shift_a, turn, text, mask)
        return x + gate_m * self.mlp(rms_norm(x) * (1 + scale_m) + shift_m)


class PlainBlock(nn.Module):
    """Attention and MLP without modulation, for the text states."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(
        self, x: Float[Tensor, "b n dim"], turn: Float[Tensor, "2 n half"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "b n dim"]:
        """The tokens after one block."""
        x = x + self.attention(rms_norm(x), turn, mask=mask)
        return x + self.mlp(rms_norm(x))


class SigmaEmbedding(nn.Module):
    """Sinusoids of the noise level through a small network."""

    def __init__(self, dim: int, num_frequencies: int = 128) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.expand = nn.Linear(2 * num_frequencies, dim)
        self.contract = nn.Linear(dim, dim)

    def forward(self, sigma: Float[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """One vector per noise level in [0, 1]."""
        steps = torch.arange(self.num_frequencies, device=sigma.device) / self.num_frequencies
        angle = sigma[..., None].float() * 1000 * torch.exp(-math.log(10_000) * steps)
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.contract(functional.silu(self.expand(waves)))
