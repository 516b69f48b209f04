"""The whole model as one diffusers folder: autoencoder, transformer, text encoder, and the facts of its training."""

import json
from collections.abc import Generator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from pydantic import Field
from torch import Tensor

from model.autoencoder import VideoAutoencoder
from model.config import Config
from model.errors import CheckpointError, ConfigError
from model.guidance import ClassifierFreeGuidance
from model.pixels import to_frames, to_video
from model.sampling import GivenFrames, SamplingProgress, Velocity, euler, seeded_noise, sigma_schedule
from model.shapes import Compression, VideoShape
from model.text import EMBEDDED, TextEncoder, load_text_encoder, pad_states
from model.transformer import SpacetimeTransformer
from model.weights import weights_digest

FACTS_FILE = "skyloom.json"
Result = TypeVar("Result")


class PipelineFacts(Config):
    """What a served model says of itself; lies beside the weights as `skyloom.json`."""

    fps: float = Field(gt=0)
    trained_buckets: list[str]
    text_encoder: str = EMBEDDED
    dataset_id: str = ""
    recipe: str = ""
    sigma_shift: float = 1.0
    default_num_steps: int = 20
    default_guidance_scale: float = 2.5
    weights_digest: str = ""


class SkyloomPipeline(DiffusionPipeline):
    """Text (and given frames) to video. `from_pretrained` loads a folder that `save` or the training wrote."""

    def __init__(self, autoencoder: VideoAutoencoder, transformer: SpacetimeTransformer) -> None:
        super().__init__()
        self.register_modules(autoencoder=autoencoder, transformer=transformer)
        self.autoencoder: VideoAutoencoder = autoencoder
        self.transformer: SpacetimeTransformer = transformer
        self.facts = PipelineFacts(fps=8, trained_buckets=[])
        self._text_encoder: TextEncoder | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Self:
        """The pipeline of a local folder.

        Raises:
            CheckpointError: the folder is no Skyloom model or its facts do not fit its weights.
        """
        folder = Path(pretrained_model_name_or_path)
        if not (folder / FACTS_FILE).is_file():
            raise CheckpointError(
                f"{folder} has no {FACTS_FILE}; name a folder that Skyloom's training or `save` wrote"
            )
        pipeline = super().from_pretrained(str(folder), **kwargs)
        pipeline.facts = PipelineFacts.model_validate_json((folder / FACTS_FILE).read_text())
        if pipeline.facts.weights_digest not in ("", weights_digest(folder)):
            raise CheckpointError(
                f"{folder}: the weights are not those that {FACTS_FILE} names; fetch or train the model again"
            )
        return pipeline

    def save(self, folder: Path) -> str:
        """Write weights, then the facts with the weights' digest, which is returned."""
        self.save_pretrained(str(folder), safe_serialization=True)
        self.facts = self.facts.model_copy(update={"weights_digest": weights_digest(folder)})
        (folder / FACTS_FILE).write_text(json.dumps(self.facts.model_dump(mode="json"), indent=2) + "\n")
        return self.facts.weights_digest

    @property
    def fps(self) -> float:
        """Frames per second of every video it makes."""
        return self.facts.fps

    @property
    def compression(self) -> Compression:
        """Pixels per latent cell."""
        return self.autoencoder.compression

    @property
    def text_encoder(self) -> TextEncoder:
        """The text encoder that the facts name, loaded at first use."""
        if self._text_encoder is None:
            self._text_encoder = load_text_encoder(self.facts.text_encoder)
        return self._text_encoder

    def generate(
        self,
        prompts: Sequence[str],
        shape: VideoShape,
        *,
        seeds: Sequence[int],
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str = "",
        given: GivenFrames | None = None,
    ) -> Generator[SamplingProgress, None, list[np.ndarray]]:
        """Yields after each denoising step; returns one clip per prompt, uint8 `T H W C`. A seed gives the same bytes.

        Raises:
            ConfigError: no prompt, unequal numbers of prompts and seeds, or a size that the model cannot make.
        """
        if not prompts or len(prompts) != len(seeds):
            raise ConfigError(
                f"{len(prompts)} prompts and {len(seeds)} seeds; give one seed per prompt and at least one of each"
            )
        grid = shape.latent(self.compression)
        self._check_patches(shape)
        velocity = self._velocity(prompts, negative_prompt)
        noise = seeded_noise((self.autoencoder.latent_channels, *grid), seeds)
        sigmas = sigma_schedule(num_steps or self.facts.default_num_steps, self.facts.sigma_shift)
        scale = self.facts.default_guidance_scale if guidance_scale is None else guidance_scale
        guidance = None if scale == 1 else ClassifierFreeGuidance(scale)
        latents = yield from euler(velocity, noise, sigmas, guidance, given)
        return to_frames(self.decode(latents))

    def __call__(self, prompt: str, shape: VideoShape, *, seed: int = 0, **options: Any) -> np.ndarray:
        """One clip, uint8 `T H W C`; `options` as in `generate`."""
        return finish(self.generate([prompt], shape, seeds=[seed], **options))[0]

    @torch.no_grad()
    def encode(self, clips: Sequence[np.ndarray]) -> Tensor:
        """The normalised latents of clips of equal size, uint8 `T H W C` each."""
        return self.autoencoder.normalise(self.autoencoder.encode(to_video(clips)).mean)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The video of normalised latents, `B 3 T H W` in [-1, 1]."""
        return self.autoencoder.decode(self.autoencoder.denormalise(latents))

    def _check_patches(self, shape: VideoShape) -> None:
        step = self.compression.height * self.transformer.patch_size
        if shape.height % step or shape.width % step:
            nearest = [max(step, round(side / step) * step) for side in (shape.width, shape.height)]
            raise ConfigError(
                f"size {shape.width}x{shape.height} is not a multiple of {step} on both sides; "
                f"the nearest is {nearest[0]}x{nearest[1]}"
            )

    def _velocity(self, prompts: Sequence[str], negative_prompt: str) -> Velocity:
        states = self.text_encoder.encode([*prompts, negative_prompt])
        num_tokens = self.transformer.max_text_tokens
        asked = pad_states(states[:-1], num_tokens)
        avoided = pad_states([states[-1]] * len(prompts), num_tokens)

        def velocity(x: Tensor, sigma: Tensor, is_conditional: bool) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.transformer(x, sigma, *(asked if is_conditional else avoided)).float()

        return velocity


def finish(generator: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end and return its value."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value
