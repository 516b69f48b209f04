"""The spacetime-patch diffusion transformer: one network for every task, as each latent frame has its own noise."""

from functools import lru_cache

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from model.layers import ModulatedBlock, PlainBlock, SigmaEmbedding, rms_norm, spread
from model.rope import positions, rotation
from model.shapes import LatentShape


class SpacetimeTransformer(ModelMixin, ConfigMixin):
    """Predicts the velocity `noise - x0` of noisy latents of any size under text.

    Latents are cut into 1 x p x p patches. Text states pass a small trained stack; every block's attention looks at
    them beside the patches, but the blocks do not change them, which would cost a fifth of the work (decision 0006).
    Text is padded with a learned token to `max_text_tokens`: no mask is needed and attention stays on its fast path.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        *,
        latent_channels: int = 16,
        patch_size: int = 2,
        dim: int = 256,
        num_heads: int = 4,
        num_blocks: int = 8,
        num_text_blocks: int = 1,
        mlp_ratio: int = 4,
        text_dim: int = 384,
        max_text_tokens: int = 24,
    ) -> None:
        super().__init__()
        self.patch_size, self.head_dim, self.max_text_tokens = patch_size, dim // num_heads, max_text_tokens
        patch_dim = latent_channels * patch_size**2
        self.patch_in = nn.Linear(patch_dim, dim)
        self.text_in = nn.Linear(text_dim, dim)
        self.text_padding = nn.Parameter(torch.randn(dim) * 0.02)
        self.text_blocks = nn.ModuleList(PlainBlock(dim, num_heads, mlp_ratio) for _ in range(num_text_blocks))
        self.sigma_embedding = SigmaEmbedding(dim)
        self.modulation = nn.Linear(dim, 6 * dim)
        self.blocks = nn.ModuleList(ModulatedBlock(dim, num_heads, mlp_ratio) for _ in range(num_blocks))
        self.out_modulation = nn.Linear(dim, 2 * dim)
        self.patch_out = nn.Linear(dim, patch_dim)
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        """Zero gates and output, so that every block begins as the identity and training starts calm."""
        for layer in (self.modulation, self.out_modulation, self.patch_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def embed_text(
        self, states: Float[Tensor, "b l text_dim"], is_token: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b m dim"]:
        """Text states as `max_text_tokens` tokens of the network; places without a token hold the learned padding."""
        states, is_token = states[:, : self.max_text_tokens], is_token[:, : self.max_text_tokens]
        missing = self.max_text_tokens - states.shape[1]
        states, is_token = nn.functional.pad(states, (0, 0, 0, missing)), nn.functional.pad(is_token, (0, missing))
        x = torch.where(is_token[..., None], self.text_in(states), self.text_padding.to(states.dtype))
        order = torch.zeros(states.shape[1], 3, device=states.device)
        order[:, 0] = torch.arange(states.shape[1], device=states.device)
        turn = rotation(order, self.head_dim)
        for block in self.text_blocks:
            x = block(x, turn)
        return rms_norm(x)

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b t"],
        text_states: Float[Tensor, "b *s l text_dim"],
        text_is_token: Bool[Tensor, "b *s l"],
        prompt_of_frame: Int[Tensor, " t"] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """The velocity of each latent, where `sigma` is the noise level of each latent frame.

        With several prompts, `b s l text_dim`, each frame looks at the text of its own prompt alone.
        """
        p = self.patch_size
        grid = LatentShape(latents.shape[2], latents.shape[3] // p, latents.shape[4] // p)
        patches = rearrange(latents, "b c t (h p) (w q) -> b (t h w) (c p q)", p=p, q=p)
        mask = None
        if prompt_of_frame is None:
            text = self.embed_text(text_states, text_is_token)
        else:
            text = self.embed_text(text_states.flatten(0, 1), text_is_token.flatten(0, 1))
            text = rearrange(text, "(b s) m d -> b (s m) d", b=len(latents))
            mask = own_text_mask(prompt_of_frame, text_states.shape[1], self.max_text_tokens, grid)
        x = self.patch_in(patches)
        level = nn.functional.silu(self.sigma_embedding(sigma))
        modulation = rearrange(self.modulation(level), "b f (k d) -> b f k d", k=6)
        turn = patch_rotation(grid, self.head_dim, latents.device)
        for block in self.blocks:
            x = block(x, modulation, turn, text, mask)
        shift, scale = spread(self.out_modulation(level), x.shape[1]).chunk(2, dim=-1)
        patches = self.patch_out(rms_norm(x) * (1 + scale) + shift)
        return rearrange(
            patches, "b (t h w) (c p q) -> b c t (h p) (w q)", t=grid.num_frames, h=grid.height, w=grid.width, p=p, q=p
        )


@lru_cache(maxsize=64)
def patch_rotation(grid: LatentShape, head_dim: int, device: torch.device) -> Float[Tensor, "2 n half"]:
    """Rotary angles of every patch; kept, since every step of a run asks for the same few."""
    return rotation(positions(grid, device), head_dim)


def own_text_mask(
    prompt_of_frame: Int[Tensor, " t"], num_prompts: int, num_text: int, grid: LatentShape
) -> Bool[Tensor, "n m"]:
    """Which keys (all prompts' text, then all patches) each patch may look at: its own prompt's text, every patch."""
    prompt_of_patch = prompt_of_frame.repeat_interleave(grid.height * grid.width)
    prompt_of_text = torch.arange(num_prompts, device=prompt_of_frame.device).repeat_interleave(num_text)
    sees_text = prompt_of_patch[:, None] == prompt_of_text[None, :]
    return torch.cat([sees_text, torch.ones(len(sees_text), len(sees_text), dtype=torch.bool)], dim=1)
