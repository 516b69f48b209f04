"""Which clips make up batch `step`: a pure function of the seed and the manifest, so state is one integer."""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from model.errors import ConfigError


class BatchPlan(NamedTuple):
    """The clips of one global batch, all of one bucket."""

    step: int
    bucket: str
    keys: list[str]


class SampleOrder:
    """The endless order of global batches over clips that lie in shards.

    Each bucket is a stream of its clips, one permutation after another, cut into batches of its size: no clip
    is dropped, a batch may reach into the next permutation, and a bucket smaller than a batch repeats its
    clips. An epoch holds the batches that the buckets complete in it, the buckets in mixed order. Clips are
    shuffled by blocks of neighbours (`block_clips`, never over a shard's border), `window_blocks` blocks at a
    time, so that reads stay near each other.
    """

    def __init__(
        self,
        shards: Mapping[str, Sequence[Sequence[str]]],
        *,
        seed: int,
        batch_sizes: Mapping[str, int],
        block_clips: int,
        window_blocks: int,
    ) -> None:
        self.buckets = sorted(bucket for bucket, runs in shards.items() if any(runs))
        if not self.buckets:
            raise ConfigError("there is no clip to order; the dataset is empty")
        self._seed = seed
        self._window_blocks = window_blocks
        self._keys = [[key for run in shards[bucket] for key in run] for bucket in self.buckets]
        self._blocks = [_block_numbers([len(run) for run in shards[bucket]], block_clips) for bucket in self.buckets]
        self._batch_sizes = [batch_sizes[bucket] for bucket in self.buckets]
        self._permutation = lru_cache(maxsize=3 * len(self.buckets))(self._make_permutation)
        self._schedule = lru_cache(maxsize=2)(self._make_schedule)

    def plan(self, step: int) -> BatchPlan:
        """The global batch at a step (0 is the first).

        Raises:
            ConfigError: the step is negative.
        """
        if step < 0:
            raise ConfigError(f"step={step} is negative; the first batch is step 0")
        epoch = self.epoch_of(step)
        bucket, number = self._schedule(epoch)[step - self.first_step(epoch)]
        size, keys = self._batch_sizes[bucket], self._keys[bucket]
        positions = range(number * size, (number + 1) * size)
        order = [keys[self._permutation(bucket, position // len(keys))[position % len(keys)]] for position in positions]
        return BatchPlan(step, self.buckets[bucket], order)

    def first_step(self, epoch: int) -> int:
        """The step at which an epoch begins: the batches that all buckets completed before it."""
        return sum(epoch * len(keys) // size for keys, size in zip(self._keys, self._batch_sizes, strict=True))

    def epoch_of(self, step: int) -> int:
        """The epoch that a step belongs to; an epoch in which no batch is completed has no step."""
        # A bucket completes more than epoch * n / size - 1 batches, so this many epochs hold the step.
        rate = sum(len(keys) / size for keys, size in zip(self._keys, self._batch_sizes, strict=True))
        most = int((step + len(self.buckets) + 1) / rate) + 2
        return bisect.bisect_right(range(most), step, key=self.first_step) - 1

    def _make_schedule(self, epoch: int) -> list[tuple[int, int]]:
        coming: list[Iterator[int]] = []
        labels: list[int] = []
        for bucket, (keys, size) in enumerate(zip(self._keys, self._batch_sizes, strict=True)):
            numbers = range(epoch * len(keys) // size, (epoch + 1) * len(keys) // size)
            coming.append(iter(numbers))
            labels += [bucket] * len(numbers)
        # Only the buckets are shuffled: each stream keeps its order, and with it its sequential reads.
        order = np.argsort(self._draws(len(labels), epoch), kind="stable")
        return [(labels[index], next(coming[labels[index]])) for index in order]

    def _make_permutation(self, bucket: int, epoch: int) -> np.ndarray:
        blocks = self._blocks[bucket]
        num_blocks = int(blocks[-1]) + 1
        draws = self._draws(num_blocks + len(blocks), epoch, bucket + 1)
        rank = np.empty(num_blocks, dtype=np.int64)
        rank[np.argsort(draws[:num_blocks], kind="stable")] = np.arange(num_blocks)
        window = rank[blocks] // self._window_blocks
        return np.lexsort((draws[num_blocks:], window))

    def _draws(self, count: int, *salts: int) -> np.ndarray:
        # numpy keeps the raw stream of a bit generator for ever, unlike Generator.permutation.
        return np.random.Philox(np.random.SeedSequence([self._seed, *salts])).random_raw(count)


def _block_numbers(run_lengths: Sequence[int], block_clips: int) -> np.ndarray:
    numbers: list[int] = []
    for length in run_lengths:
        first = numbers[-1] + 1 if numbers else 0
        numbers += [first + index // block_clips for index in range(length)]
    return np.array(numbers)


def rank_keys(keys: Sequence[str], rank: int, world_size: int) -> list[str]:
    """The part of a global batch that one rank trains on: every `world_size`-th clip."""
    return list(keys[rank::world_size])
