from collections import Counter
from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.order import SampleOrder, rank_keys
from model.errors import ConfigError


def make_order(shards, *, seed=0, size=4, block_clips=3, window_blocks=2, sizes=None):
    sizes = sizes or dict.fromkeys(shards, size)
    return SampleOrder(shards, seed=seed, batch_sizes=sizes, block_clips=block_clips, window_blocks=window_blocks)


def make_shards(lengths_by_bucket):
    return {
        bucket: [[f"{bucket}/{shard}/{index}" for index in range(length)] for shard, length in enumerate(lengths)]
        for bucket, lengths in lengths_by_bucket.items()
    }


LAYOUTS = st.dictionaries(
    st.sampled_from(["wide", "tall", "square"]), st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1
)
SIZES = st.integers(1, 11)
SEEDS = st.integers(0, 2**40)


@settings(max_examples=60, deadline=None)
@given(LAYOUTS, SIZES, SEEDS)
def test_each_bucket_is_a_chain_of_permutations_cut_into_batches(lengths, size, seed):
    shards = make_shards(lengths)
    order = make_order(shards, seed=seed, size=size)
    drawn = {bucket: [] for bucket in shards}
    for step in range(order.first_step(4)):
        plan = order.plan(step)
        assert len(plan.keys) == size
        drawn[plan.bucket] += plan.keys
    for bucket, runs in shards.items():
        every = sorted(chain.from_iterable(runs))
        stream = drawn[bucket]
        assert len(stream) == 4 * len(every) // size * size
        for start in range(0, len(stream) - len(every) + 1, len(every)):
            assert sorted(stream[start : start + len(every)]) == every


@settings(max_examples=60, deadline=None)
@given(LAYOUTS, SIZES, SEEDS, st.integers(0, 10_000))
def test_any_step_is_found_in_its_epoch(lengths, size, seed, step):
    order = make_order(make_shards(lengths), seed=seed, size=size)
    epoch = order.epoch_of(step)
    assert order.first_step(epoch) <= step < order.first_step(epoch + 1)


@settings(max_examples=30, deadline=None)
@given(LAYOUTS, SIZES, SEEDS, st.integers(0, 40))
def test_a_new_order_asked_for_a_late_step_agrees_with_one_run_from_the_start(lengths, size, seed, start):
    shards = make_shards(lengths)
    unbroken = make_order(shards, seed=seed, size=size)
    plans = [unbroken.plan(step) for step in range(start + 5)]
    resumed = make_order(shards, seed=seed, size=size)
    assert [resumed.plan(step) for step in range(start, start + 5)] == plans[start:]


@given(st.lists(st.integers(), min_size=1, max_size=40, unique=True), st.integers(1, 9))
def test_ranks_part_a_batch_without_loss_or_overlap(keys, world_size):
    parts = [rank_keys(keys, rank, world_size) for rank in range(world_size)]
    assert sorted(chain.from_iterable(parts)) == sorted(keys)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_seeds_and_epochs_give_other_orders():
    shards = make_shards({"wide": [40]})
    orders = [make_order(shards, seed=seed, size=40, window_blocks=99) for seed in (0, 1)]
    batches = {tuple(order.plan(step).keys) for order in orders for step in range(3)}
    assert len(batches) == 6


def test_the_order_is_pinned():
    """A change here breaks the resume of every run in progress."""
    order = make_order(make_shards({"tall": [3], "wide": [5, 4]}), seed=7, size=3)
    assert [order.plan(step).keys for step in range(4)] == [
        ["wide/1/1", "wide/0/4", "wide/0/3"],
        ["wide/1/0", "wide/1/2", "wide/1/3"],
        ["wide/0/0", "wide/0/2", "wide/0/1"],
        ["tall/0/2", "tall/0/0", "tall/0/1"],
    ]


def test_buckets_are_drawn_in_proportion_to_their_clips():
    order = make_order(make_shards({"wide": [30], "tall": [10]}), size=4)
    counts = Counter(order.plan(step).bucket for step in range(order.first_step(6)))
    assert counts == {"wide": 45, "tall": 15}


def test_buckets_are_mixed_within_an_epoch():
    order = make_order(make_shards({"wide": [40], "tall": [40]}), size=4)
    buckets = [order.plan(step).bucket for step in range(20)]
    changes = sum(before != after for before, after in pairwise(buckets))
    assert changes > 3


def test_a_bucket_smaller_than_its_batch_repeats_its_clips_evenly():
    order = make_order(make_shards({"wide": [3]}), size=7)
    drawn = Counter(chain.from_iterable(order.plan(step).keys for step in range(3)))
    assert set(drawn.values()) == {7}
    assert len(drawn) == 3


def test_reads_stay_within_a_window_of_blocks():
    shards = make_shards({"wide": [64, 64]})
    order = make_order(shards, size=16, block_clips=8, window_blocks=2)
    for step in range(8):
        keys = order.plan(step).keys
        blocks = {(key.split("/")[1], int(key.split("/")[2]) // 8) for key in keys}
        assert len(blocks) == 2
        assert keys != sorted(keys, key=lambda key: int(key.split("/")[2]))


def test_bucket_sizes_may_differ():
    order = make_order(make_shards({"wide": [8], "tall": [8]}), sizes={"wide": 4, "tall": 2})
    lengths = {(plan.bucket, len(plan.keys)) for plan in map(order.plan, range(6))}
    assert lengths == {("wide", 4), ("tall", 2)}


def test_an_empty_dataset_and_a_negative_step_are_refused():
    with pytest.raises(ConfigError, match="dataset is empty"):
        make_order({"wide": []})
    with pytest.raises(ConfigError, match="step=-1"):
        make_order(make_shards({"wide": [3]})).plan(-1)
