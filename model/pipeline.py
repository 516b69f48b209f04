"""The whole model as one diffusers folder: autoencoder, transformer, text encoder, and the facts of its training."""

import json
from collections.abc import Generator, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import diffusers
import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from model.autoencoder import VideoAutoencoder
from model.deblocking import Deblocker
from model.errors import CheckpointError, ConfigError
from model.facts import PipelineFacts
from model.guidance import Condition, without_history
from model.pixels import to_frames, to_video
from model.plan import Decoder, Piece, Script, Task, Video
from model.precision import autocast
from model.runner import SamplingDefaults, TaskRunner
from model.sampling import SamplingProgress
from model.sampling_options import SamplingOptions
from model.shapes import Compression, LatentShape, VideoShape
from model.streaming import StreamingDecoder, decoded, encoded
from model.tasks import Generate
from model.text import TextEncoder, load_text_encoder, pad_states
from model.transformer import SpacetimeTransformer
from model.views import Velocity
from model.weights import FACTS_FILE, weights_digest
from model.windows import grouped


class SkyloomPipeline(TaskRunner, DiffusionPipeline):
    """Text (and given frames) to video. `from_pretrained` loads a folder that `save` or the training wrote.

    Where this module is imported, diffusers' own `DiffusionPipeline.from_pretrained` loads such a folder too.
    """

    def __init__(self, autoencoder: VideoAutoencoder, transformer: SpacetimeTransformer) -> None:
        super().__init__()
        self.register_modules(autoencoder=autoencoder, transformer=transformer)
        self.autoencoder: VideoAutoencoder = autoencoder
        self.transformer: SpacetimeTransformer = transformer
        self._facts: PipelineFacts | None = None
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
        try:
            pipeline = super().from_pretrained(str(folder), use_safetensors=True, **kwargs)
        except OSError as error:  # weights are missing, or are pickles, which could run code
            raise CheckpointError(f"{folder} does not load ({error}); fetch or train the model again") from error
        if pipeline.facts.weights_digest not in ("", weights_digest(folder)):
            raise CheckpointError(
                f"{folder}: the weights are not those that {FACTS_FILE} names; fetch or train the model again"
            )
        return pipeline

    def save(self, folder: Path) -> str:
        """Write weights, then the facts with the weights' digest, which is returned."""
        facts = self.facts
        self.save_pretrained(str(folder), safe_serialization=True)
        for path in (folder / "model_index.json", *folder.glob("*/config.json")):
            forget_origin(path)
        self.facts = facts.model_copy(update={"weights_digest": weights_digest(folder)})
        (folder / FACTS_FILE).write_text(json.dumps(self.facts.model_dump(mode="json"), indent=2) + "\n")
        return self.facts.weights_digest

    @property
    def facts(self) -> PipelineFacts:
        """What is known of the model: read from the folder that it was loaded from, plain where there is none."""
        if self._facts is None:
            path = Path(self.name_or_path) / FACTS_FILE if self.name_or_path else None
            self._facts = PipelineFacts.model_validate_json(path.read_text()) if path else PipelineFacts(fps=8)
        return self._facts

    @facts.setter
    def facts(self, facts: PipelineFacts) -> None:
        self._facts = facts

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

    @property
    def latent_channels(self) -> int:
        """Channels of a latent cell."""
        return self.autoencoder.latent_channels

    @property
    def has_uniform_groups(self) -> bool:
        """Yes: that is what the autoencoder is for."""
        return True

    @property
    def defaults(self) -> SamplingDefaults:
        """How it is sampled when nothing else is said."""
        return self.facts.sampling

    @property
    def patch_size(self) -> int:
        """Cells on each side of what the network takes for one place."""
        return self.transformer.patch_size

    @property
    def window(self) -> int:
        """The most latent frames that the network was trained on at once."""
        return self.facts.window_frames // self.compression.time

    def grid(self, shape: VideoShape) -> LatentShape:
        """The latent grid of a video.

        Raises:
            ConfigError: a side is not a whole number of patches, or the length not of frame groups.
        """
        self._check_patches(shape)
        return shape.latent(self.compression)

    def generate(
        self, prompts: Sequence[str], shape: VideoShape, *, seeds: Sequence[int], options: SamplingOptions | None = None
    ) -> Generator[SamplingProgress, None, list[Video]]:
        """Different prompts in one batch, in one window.

        A seed gives the same video whatever else is in the batch, but for single levels of 256: sums are rounded.

        Raises:
            ConfigError: no prompt, unequal numbers of prompts and seeds, or a size that the model cannot make.
        """
        if not prompts or len(prompts) != len(seeds):
            raise ConfigError(
                f"{len(prompts)} prompts and {len(seeds)} seeds; give one seed per prompt and at least one of each"
            )
        options = options or SamplingOptions()
        velocity = self.velocity([Script.of(prompt, 1) for prompt in prompts], options.negative_prompt)
        return self.decode((yield from self.drawn(velocity, self.grid(shape), seeds, options)))

    def __call__(self, prompt: str | Task, shape: VideoShape | None = None, *, seed: int = 0, **options: Any) -> Video:
        """One video, uint8 `T H W C`, of a task or of a prompt and a shape; `options` as in `SamplingOptions`."""
        return np.concatenate(list(self.pieces(prompt, shape, seed=seed, **options)))

    def pieces(
        self, prompt: str | Task, shape: VideoShape | None = None, *, seed: int = 0, **options: Any
    ) -> Iterator[Video]:
        """The video of the same call piece by piece, so that one of any length fits into memory."""
        if isinstance(prompt, str):
            if shape is None:
                raise ConfigError("a prompt alone has no size; add a VideoShape(num_frames, height, width)")
            prompt = Generate(prompt, shape)
        for said in self.stream(prompt, seeds=[seed], options=SamplingOptions(**options)):
            if isinstance(said, Piece):
                yield said.videos[0]

    def padded(self, video: Video) -> Video:
        """The video, its last frame held until the groups of frames are whole."""
        return grouped(video)

    @torch.no_grad()
    def encode(self, clips: Sequence[Video]) -> Tensor:
        """The normalised latents of clips of equal size, uint8 `T H W C` each.

        Raises:
            ConfigError: they have no frames, or a size that the network cannot see.
        """
        shape = VideoShape(*clips[0].shape[:3])
        if not shape.num_frames:
            raise ConfigError("a video without frames cannot be used; give one frame or more")
        self._check_patches(shape)
        return self.autoencoder.normalise(encoded(self.autoencoder, to_video(clips)).mean)

    @torch.no_grad()
    def decode(self, latents: Tensor, *, is_ring: bool = False) -> list[Video]:
        """The videos of normalised latents `B C T H W`, uint8 `T H W C` each."""
        raw = self.autoencoder.denormalise(latents)
        deblocker = Deblocker()
        pieces = [deblocker.put(to_frames(piece)) for piece in decoded(self.autoencoder, raw, is_ring=is_ring)]
        videos = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        return deblocker.close(videos) if is_ring else videos

    def decoder(self) -> Decoder:
        """A decoder for one batch of videos whose latents come bit by bit; its frames are those of `decode`."""
        stream, deblocker = StreamingDecoder(self.autoencoder), Deblocker()

        @torch.no_grad()
        def decode(latents: Tensor, *, is_last: bool) -> Iterator[list[Video]]:
            for piece in stream.add(self.autoencoder.denormalise(latents), is_last=is_last):
                yield deblocker.put(to_frames(piece))

        return decode

    def _check_patches(self, shape: VideoShape) -> None:
        step = self.compression.height * self.transformer.patch_size
        if shape.height % step or shape.width % step:
            nearest = [max(step, round(side / step) * step) for side in (shape.width, shape.height)]
            raise ConfigError(
                f"size {shape.width}x{shape.height} is not a multiple of {step} on both sides; "
                f"the nearest is {nearest[0]}x{nearest[1]}"
            )

    def velocity(self, scripts: Sequence[Script], negative_prompt: str) -> Velocity:
        """The network under the scripts, one per sample; scripts of several prompts are all the same one."""
        prompts = [prompt for script in scripts for prompt in script.prompts]
        # one by one: padding to the longest would change the last bits, and a seed must not depend on the batch
        of_text = {text: self.text_encoder.encode([text])[0] for text in {*prompts, negative_prompt}}
        states = [of_text[text] for text in (*prompts, negative_prompt)]
        num_tokens = self.transformer.max_text_tokens
        asked_states, asked_mask = pad_states(states[:-1], num_tokens)
        avoided = pad_states([states[-1]] * len(scripts), num_tokens)
        num_prompts = len(scripts[0].prompts)
        frames = None
        if num_prompts > 1:
            frames = torch.tensor(scripts[0].prompt_of_frame)
            asked_states = asked_states.unflatten(0, (len(scripts), num_prompts))
            asked_mask = asked_mask.unflatten(0, (len(scripts), num_prompts))

        def velocity(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
            if condition == "no_history":
                x, sigma = without_history(x, sigma)
            with autocast(x.device):
                if condition != "no_text":
                    return self.transformer(x, sigma, asked_states, asked_mask, frames).float()
                return self.transformer(x, sigma, *avoided).float()

        return velocity


def forget_origin(path: Path) -> None:
    """Take the path that weights were once loaded from out of their config, where diffusers leaves it."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


# diffusers finds the class that a folder's model_index.json names among its own attributes.
diffusers.SkyloomPipeline = SkyloomPipeline  # pyright: ignore[reportAttributeAccessIssue]
