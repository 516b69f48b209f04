"""Wan's open weights behind the same tasks: any diffusers folder with a Wan transformer, autoencoder and UMT5.

Wan's latents are causal in 1 + 4k frames, so tasks that give frames at places of their own choice (extensions, joins,
loops) cannot be asked of it, nor those with several texts (blends, storyboards): generate, edit, inpaint and image can.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5EncoderModel

from model.errors import CheckpointError, ConfigError
from model.guidance import Condition, without_history
from model.pixels import to_frames, to_video
from model.plan import Decoder, Script, Video
from model.runner import SamplingDefaults, TaskRunner
from model.shapes import LatentShape, VideoShape
from model.views import Velocity

PARTS = ("vae", "transformer", "text_encoder", "tokenizer")
TRAIN_TIMESTEPS = 1000
MAX_TEXT_TOKENS = 512
WAN_DEFAULTS = SamplingDefaults(num_steps=50, guidance_scale=5.0, sigma_shift=5.0)


class WanModel(TaskRunner):
    """Wan 2.1 (one noise level for all frames) and the text-and-image models of Wan 2.2 (one for each frame)."""

    def __init__(
        self,
        vae: AutoencoderKLWan,
        transformer: WanTransformer3DModel,
        text_encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        defaults: SamplingDefaults = WAN_DEFAULTS,
        window_frames: int = 81,
        fps: float = 16,
    ) -> None:
        # diffusers types neither the fields of a config nor what `encode` and `forward` return
        self.vae: Any = vae.eval()
        self.transformer: Any = transformer.eval()
        self.text_encoder, self.tokenizer = text_encoder.eval(), tokenizer
        self._defaults, self._window_frames, self.fps = defaults, window_frames, fps

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """The model of a local diffusers folder.

        Raises:
            CheckpointError: a part is missing.
        """
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        if missing:
            raise CheckpointError(f"{folder} has no {', '.join(missing)}; name the diffusers folder of a Wan model")
        return cls(
            AutoencoderKLWan.from_pretrained(str(folder / "vae"), torch_dtype=dtype, use_safetensors=True),
            WanTransformer3DModel.from_pretrained(str(folder / "transformer"), torch_dtype=dtype, use_safetensors=True),
            UMT5EncoderModel.from_pretrained(str(folder / "text_encoder"), dtype=dtype, use_safetensors=True),
            AutoTokenizer.from_pretrained(str(folder / "tokenizer")),
        )

    @property
    def latent_channels(self) -> int:
        """Channels of a latent cell."""
        return int(self.vae.config.z_dim)

    @property
    def patch_size(self) -> int:
        """Cells on each side of what the network takes for one place."""
        return int(self.transformer.config.patch_size[1])

    @property
    def has_uniform_groups(self) -> bool:
        """No: the first latent frame stands for one picture."""
        return False

    @property
    def defaults(self) -> SamplingDefaults:
        """What Wan's authors sample with."""
        return self._defaults

    @property
    def window(self) -> int:
        """Latent frames of the longest clip that Wan was trained on."""
        return self._latent_frames(self._window_frames)

    def grid(self, shape: VideoShape) -> LatentShape:
        """The latent grid of a video of 1 + 4k frames.

        Raises:
            ConfigError: the length or a side does not fit the network.
        """
        time, space = self._time_step, self._space_step
        if (shape.num_frames - 1) % time:
            nearest = 1 + round((shape.num_frames - 1) / time) * time
            raise ConfigError(f"num_frames={shape.num_frames} is not 1 + a multiple of {time}; use {nearest}")
        side = space * self.patch_size
        if shape.height % side or shape.width % side:
            raise ConfigError(f"size {shape.width}x{shape.height} is not a multiple of {side} on both sides")
        return LatentShape(self._latent_frames(shape.num_frames), shape.height // space, shape.width // space)

    def padded(self, video: Video) -> Video:
        """The video, its last frame held until it has 1 + 4k frames."""
        missing = -(len(video) - 1) % self._time_step
        return np.concatenate([video, np.repeat(video[-1:], missing, axis=0)]) if missing else video

    @torch.no_grad()
    def encode(self, clips: Sequence[Video]) -> Tensor:
        """The normalised latents of clips of 1 + 4k frames."""
        latents = self.vae.encode(to_video(clips).to(self.vae.dtype)).latent_dist.mode().float()
        return (latents - self._mean) / self._std

    @torch.no_grad()
    def decode(self, latents: Tensor, *, is_ring: bool = False) -> list[Video]:
        """The videos of normalised latents.

        Raises:
            ConfigError: a ring is asked for, which Wan's causal latents cannot be.
        """
        if is_ring:
            raise ConfigError("Wan's first latent frame stands for one picture, so its latents cannot be a ring")
        raw = latents * self._std + self._mean
        return to_frames(self.vae.decode(raw.to(self.vae.dtype)).sample)

    def decoder(self) -> Decoder:
        """None: Wan's videos are made whole.

        Raises:
            ConfigError: always; no task that goes window by window can be asked of Wan.
        """
        raise ConfigError("Wan's latents are no uniform groups, so its videos are not made window by window")

    def velocity(self, scripts: Sequence[Script], negative_prompt: str) -> Velocity:
        """The network under one prompt per sample.

        Raises:
            ConfigError: a script has several prompts.
        """
        if any(len(script.prompts) > 1 for script in scripts):
            raise ConfigError("Wan looks at one text for the whole video; give one prompt")
        asked = self._text([script.prompts[0] for script in scripts])
        avoided = self._text([negative_prompt] * len(scripts))

        @torch.no_grad()
        def velocity(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
            if condition == "no_history":
                x, sigma = without_history(x, sigma)
            text = avoided if condition == "no_text" else asked
            return self.transformer(x.to(self.transformer.dtype), self._timestep(x, sigma), text).sample.float()

        return velocity

    def _timestep(self, x: Tensor, sigma: Tensor) -> Tensor:
        """One time per sample, or one per token where the frames differ (`expand_timesteps` of Wan 2.2)."""
        if bool((sigma == sigma[:, :1]).all()):
            return sigma[:, 0] * TRAIN_TIMESTEPS
        _, height, width = self.transformer.config.patch_size
        tokens = (x.shape[3] // height) * (x.shape[4] // width)
        return (sigma * TRAIN_TIMESTEPS).repeat_interleave(tokens, dim=1)

    @torch.no_grad()
    def _text(self, prompts: Sequence[str]) -> Tensor:
        """Token states `B L D`, zero after each prompt's end, as Wan was trained."""
        batch = self.tokenizer(
            list(prompts), padding="max_length", max_length=MAX_TEXT_TOKENS, truncation=True, return_tensors="pt"
        )
        states = self.text_encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        return (states * batch["attention_mask"][..., None]).to(self.transformer.dtype)

    @property
    def _time_step(self) -> int:
        return 2 ** sum(self.vae.config.temperal_downsample)

    @property
    def _space_step(self) -> int:
        return 2 ** (len(self.vae.config.dim_mult) - 1)

    def _latent_frames(self, num_frames: int) -> int:
        return 1 + (num_frames - 1) // self._time_step

    @property
    def _mean(self) -> Tensor:
        return torch.tensor(self.vae.config.latents_mean).view(1, -1, 1, 1, 1)

    @property
    def _std(self) -> Tensor:
        return torch.tensor(self.vae.config.latents_std).view(1, -1, 1, 1, 1)
