"""Latents and prompt states to batches: exact order at any number of ranks, resumed from one integer."""

import hashlib
import itertools
import operator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from data.latents import IMAGE_VIEW, LATENT_GROUP, PROMPT_GROUP, check_maker, read_header, scale_views, unpack
from data.manifest import Dataset, Member, MemberReader
from data.order import BatchPlan, SampleOrder, rank_keys
from model.config import Config
from model.errors import ConfigError, ShardError
from model.shapes import Compression, VideoShape
from model.text import pad_states

_DRAW_BYTES = 8


class LoaderConfig(Config):
    """How training batches are drawn."""

    seed: int = Field(default=0, ge=0, description="Seed of the sample order and of the choice of captions")
    batch_size: int = Field(default=32, ge=1, description="Clips in a global batch, over all ranks")
    batch_sizes: dict[str, int] = Field(
        default={}, description="Other batch sizes by bucket, for buckets of other cost"
    )
    dense_probability: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="How often a clip comes with its dense caption, not the short one",
    )
    max_prompt_tokens: int = Field(
        default=128, ge=1, description="Longer prompts are cut; shorter datasets are padded less"
    )
    block_clips: int = Field(default=32, ge=1, description="Neighbours in a shard that are shuffled as one block")
    window_blocks: int = Field(default=64, ge=1, description="Blocks whose clips are mixed with each other")
    image_fraction: float = Field(default=0, ge=0, lt=1, description="Share of the batches that are images")
    scaled_fraction: float = Field(default=0, ge=0, lt=1, description="Share of the batches at other sizes")
    cache: bool = Field(default=False, description="Keep every clip read in memory (16 KB and up a clip)")


@dataclass(frozen=True)
class LatentBatch:
    """One rank's part of a global batch.

    `mean` and `logvar` are float32 `B C T H W`, raw as the autoencoder gave them; T is 1 in a batch of images.
    `prompt_states` is float32 `B L D`, padded with zeros to one L for the whole run; `prompt_mask` is bool `B L`,
    true at a token. `is_dense` says which caption each clip came with.
    """

    step: int
    bucket: str
    keys: list[str]
    mean: Tensor
    logvar: Tensor
    prompt_states: Tensor
    prompt_mask: Tensor
    is_dense: list[bool]

    def __len__(self) -> int:
        return len(self.keys)

    def pinned(self) -> Self:
        """The same in memory that a GPU can read by itself."""
        tensors = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True)
class _Sample:
    tensors: dict[str, Tensor]
    dense: Tensor
    short: Tensor

    def posterior(self, view: str) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of a view of the clip, "" being the clip as it is."""
        return self.tensors[f"{view}mean"], self.tensors[f"{view}logvar"]


class LatentLoader:
    """Batches by step: `batch(step)` depends on configuration, dataset, rank and step alone."""

    def __init__(
        self,
        config: LoaderConfig,
        folder: Path,
        *,
        autoencoder_digest: str | None = None,
        text_encoder_digest: str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Opens the latents in a folder; given the digests of the weights in use, it refuses those of others.

        Raises:
            ShardError: there is no finished dataset, or other weights made it.
            ConfigError: a rank would get no clip, or a batch size names a bucket that the dataset lacks.
        """
        dataset = Dataset.open(folder)
        makers = {"autoencoder": autoencoder_digest, "text_encoder": text_encoder_digest}
        self._makers = {role: digest or dataset.card.parents.get(role, "") for role, digest in makers.items()}
        for role, digest in self._makers.items():
            check_maker(dataset.card.parents, role, digest)
        self._config, self._rank, self._world_size = config, rank, world_size
        self._latents = {member.key: member for member in dataset.group(LATENT_GROUP)}
        self._prompts = {member.key: member for member in dataset.group(PROMPT_GROUP)}
        self._reader = MemberReader(folder)
        self._samples: dict[str, _Sample] = {}
        self._order = _make_order(config, dataset, world_size)
        self.dataset_id = dataset.card.dataset_id
        self.num_clips = dataset.card.num_clips
        self.buckets = self._order.buckets
        self.max_prompt_tokens = min(config.max_prompt_tokens, dataset.card.facts["max_prompt_tokens"])
        self.prompt_dim = dataset.card.facts["prompt_dim"]
        self.latent_channels = dataset.card.facts["latent_channels"]

    @property
    def keys(self) -> list[str]:
        """Every clip id, in the order of the manifest."""
        return list(self._latents)

    def plan(self, step: int) -> BatchPlan:
        """The global batch at a step, before it is shared out to the ranks."""
        return self._order.plan(step)

    def batch(self, step: int) -> LatentBatch:
        """This rank's part of the batch at a step.

        Raises:
            ShardError: a shard does not hold what its manifest says, or other weights made it.
        """
        plan = self.plan(step)
        keys = rank_keys(plan.keys, self._rank, self._world_size)
        samples = [self._sample(key) for key in keys]
        is_dense = [self.takes_dense(step, key) for key in keys]
        prompts = [sample.dense if dense else sample.short for sample, dense in zip(samples, is_dense, strict=True)]
        # One length for every batch and rank, so that a compiled network sees one shape and ranks agree.
        states, mask = pad_states(prompts, self.max_prompt_tokens)
        view = self._view(step)
        pairs = [sample.posterior(view) for sample in samples]
        mean, logvar = (torch.stack(list(tensors)).float() for tensors in zip(*pairs, strict=True))
        return LatentBatch(step, plan.bucket, keys, mean, logvar, states, mask, is_dense)

    def batches(self, start_step: int = 0, *, pinned: bool = False) -> Iterator[LatentBatch]:
        """This rank's batches from a step on, without end; the next is read while the caller works.

        Pinned, they lie in memory from which a GPU takes them while it is at work on the batch before.
        """

        def made(step: int) -> LatentBatch:
            return self.batch(step).pinned() if pinned else self.batch(step)

        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            coming = pool.submit(made, start_step)
            for step in itertools.count(start_step + 1):
                batch, coming = coming.result(), pool.submit(made, step)
                yield batch

    def takes_dense(self, step: int, key: str) -> bool:
        """Whether a clip comes with its dense caption at a step."""
        return self._draw(step, key) < self._config.dense_probability

    def _view(self, step: int) -> str:
        """What a batch shows of its clips: all of them as stills, at one other size, or as they are."""
        draw = self._draw(step, "image") - self._config.image_fraction
        if draw < 0:
            return IMAGE_VIEW
        if draw < self._config.scaled_fraction:
            return self._scales[int(draw / self._config.scaled_fraction * len(self._scales))]
        return ""

    @cached_property
    def _scales(self) -> list[str]:
        return scale_views(self._sample(self.keys[0]).tensors)

    def _draw(self, step: int, key: str) -> float:
        """A number in [0, 1) that depends on seed, step and key alone."""
        digest = hashlib.sha256(f"{self._config.seed}/{step}/{key}".encode()).digest()[:_DRAW_BYTES]
        return int.from_bytes(digest) / 2 ** (8 * _DRAW_BYTES)

    def close(self) -> None:
        """Closes the shards."""
        self._reader.close()

    def _sample(self, key: str) -> _Sample:
        if key in self._samples:
            return self._samples[key]
        latent = self._read(self._latents[key], "autoencoder")
        prompt = self._read(self._prompts[key], "text_encoder")
        if self._config.image_fraction and "image_mean" not in latent:
            raise ShardError("the latents hold no images; encode with images, or set image_fraction to 0")
        if self._config.scaled_fraction and not scale_views(latent):
            raise ShardError("the latents hold no other sizes; encode with scales, or set scaled_fraction to 0")
        sample = _Sample(latent, prompt["dense"], prompt["short"])
        if self._config.cache:
            self._samples[key] = sample
        return sample

    def _read(self, member: Member, role: str) -> dict[str, Tensor]:
        tensors, header = unpack(self._reader.read(member))
        check_maker(header, role, self._makers[role])
        return tensors


def _make_order(config: LoaderConfig, dataset: Dataset, world_size: int) -> SampleOrder:
    shards: dict[str, list[list[str]]] = {}
    for members in dataset.by_shard(LATENT_GROUP).values():
        shards.setdefault(members[0].bucket, []).append([member.key for member in members])
    unknown = sorted(set(config.batch_sizes) - set(shards))
    if unknown:
        raise ConfigError(f"batch_sizes names {', '.join(unknown)}; the dataset has only {', '.join(sorted(shards))}")
    sizes = {bucket: config.batch_sizes.get(bucket, config.batch_size) for bucket in shards}
    smallest = min(sizes.values())
    if smallest < world_size:
        raise ConfigError(
            f"a global batch of {smallest} clips leaves one of {world_size} ranks empty; raise batch_size"
        )
    return SampleOrder(
        shards,
        seed=config.seed,
        batch_sizes=sizes,
        block_clips=config.block_clips,
        window_blocks=config.window_blocks,
    )


def other_sizes(dataset: Dataset, folder: Path, compression: Compression) -> list[str]:
    """The sizes, as buckets are named, at which the latents hold each clip besides its own."""
    firsts = {member.bucket: member for member in dataset.members if member.group == LATENT_GROUP}
    sizes: set[str] = set()
    with MemberReader(folder) as reader:
        for member in firsts.values():
            shapes = read_header(reader.read(member))["shapes"]
            grids = [shapes[f"{view}mean"][1:] for view in scale_views(shapes)]
            sizes |= {VideoShape(*map(operator.mul, grid, compression)).bucket for grid in grids}
    return sorted(sizes)
