from itertools import chain, islice

import pytest
import torch

from data.latents import pack
from data.loader import LatentLoader, LoaderConfig, other_sizes
from data.manifest import Dataset, Member, publish
from data.tars import write_tar
from model.errors import ConfigError, ShardError
from model.shapes import Compression

AUTOENCODER, TEXT = "a" * 64, "t" * 64
DIM = 8
BUCKETS = {"32x16x8": (2, 2, 4), "16x32x8": (2, 4, 2)}


def make_members(folder, number, bucket, grid):
    """One shard per group; a clip's latents and states hold its own number, so that a mix-up shows."""
    keys = [f"{bucket}-{number}-{index}" for index in range(5)]
    tensors = {"latent": {}, "prompt": {}}
    for index, key in enumerate(keys):
        value = float(index + 10 * number)
        tensors["latent"][key] = {"mean": torch.full((4, *grid), value), "logvar": torch.full((4, *grid), -value)}
        dense, short = torch.full((3 + index, DIM), value + 0.5), torch.full((2, DIM), value)
        tensors["prompt"][key] = {"dense": dense, "short": short}
    headers = {"latent": {"autoencoder": AUTOENCODER}, "prompt": {"text_encoder": TEXT}}
    members = {}
    for group, by_key in tensors.items():
        name = f"{group}-{number:05d}.tar"
        packed = [(f"{key}.{group}.safetensors", pack(by_key[key], headers[group])) for key in keys]
        entries = write_tar(folder / name, packed)
        members[group] = [
            Member(key, group, name, entry.offset, entry.size, bucket, entry.digest)
            for key, entry in zip(keys, entries, strict=True)
        ]
    return members


@pytest.fixture
def folder(tmp_path):
    made = [
        make_members(tmp_path, 0, "32x16x8", BUCKETS["32x16x8"]),
        make_members(tmp_path, 1, "32x16x8", BUCKETS["32x16x8"]),
    ]
    made.append(make_members(tmp_path, 2, "16x32x8", BUCKETS["16x32x8"]))
    members = list(chain.from_iterable(part[group] for group in ("latent", "prompt") for part in made))
    facts = {"latent_channels": 4, "max_prompt_tokens": 7, "prompt_dim": DIM}
    publish(tmp_path, members, parents={"autoencoder": AUTOENCODER, "text_encoder": TEXT}, facts=facts)
    return tmp_path


def value_of(key):
    _, number, index = key.rsplit("-", 2)
    return int(index) + 10 * int(number)


@pytest.mark.parametrize("cache", [False, True])
def test_each_row_of_a_batch_belongs_to_its_key(folder, cache):
    loader = LatentLoader(LoaderConfig(batch_size=4, cache=cache, dense_probability=0.5), folder)
    seen = set()
    for batch in islice(loader.batches(), 30):
        assert len(batch) == 4
        assert batch.mean.shape == (4, 4, *BUCKETS[batch.bucket])
        assert batch.mean.dtype == batch.prompt_states.dtype == torch.float32
        assert batch.prompt_states.shape == (4, 7, DIM)
        for row, key in enumerate(batch.keys):
            value = value_of(key)
            assert (batch.mean[row] == value).all()
            assert (batch.logvar[row] == -value).all()
            length = 3 + value % 10 if batch.is_dense[row] else 2
            assert batch.prompt_mask[row].sum() == length
            assert (batch.prompt_states[row, :length] == value + 0.5 * batch.is_dense[row]).all()
            assert (batch.prompt_states[row, length:] == 0).all()
            seen.add(key)
    assert seen == set(loader.keys)
    assert len(seen) == loader.num_clips == 15


def test_a_loader_that_resumes_goes_on_as_the_unbroken_one(folder):
    config = LoaderConfig(batch_size=4, seed=3)
    unbroken = list(islice(LatentLoader(config, folder).batches(), 12))
    resumed = list(islice(LatentLoader(config.model_copy(update={"cache": True}), folder).batches(7), 5))
    for before, after in zip(unbroken[7:], resumed, strict=True):
        assert (before.step, before.bucket, before.keys, before.is_dense) == (
            after.step,
            after.bucket,
            after.keys,
            after.is_dense,
        )
        assert torch.equal(before.mean, after.mean)
        assert torch.equal(before.prompt_states, after.prompt_states)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_out_the_batch_of_one_rank(folder, world_size):
    config = LoaderConfig(batch_size=4, dense_probability=0.5)
    alone = LatentLoader(config, folder)
    ranks = [LatentLoader(config, folder, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in (0, 5, 11):
        whole, parts = alone.batch(step), [rank.batch(step) for rank in ranks]
        for rank, part in enumerate(parts):
            assert part.keys == whole.keys[rank::world_size]
            assert torch.equal(part.mean, whole.mean[rank::world_size])
            assert torch.equal(part.prompt_states, whole.prompt_states[rank::world_size])


def test_the_choice_of_caption_follows_its_probability_and_step(folder):
    loader = LatentLoader(LoaderConfig(dense_probability=0.3), folder)
    choices = [loader.takes_dense(step, "some clip") for step in range(4000)]
    assert 0.27 < sum(choices) / len(choices) < 0.33
    assert not any(LatentLoader(LoaderConfig(dense_probability=0), folder).takes_dense(s, "k") for s in range(99))
    assert all(LatentLoader(LoaderConfig(dense_probability=1), folder).takes_dense(s, "k") for s in range(99))


def test_long_prompts_are_cut(folder):
    loader = LatentLoader(LoaderConfig(batch_size=15, max_prompt_tokens=4, dense_probability=1), folder)
    batch = loader.batch(0)
    assert batch.prompt_states.shape == (15, 4, DIM)
    assert batch.prompt_mask.sum(1).max() == 4


def test_latents_of_other_weights_are_refused(folder):
    LatentLoader(LoaderConfig(), folder, autoencoder_digest=AUTOENCODER, text_encoder_digest=TEXT)
    with pytest.raises(ShardError, match="made by autoencoder aaaaaaaaaaaa"):
        LatentLoader(LoaderConfig(), folder, autoencoder_digest="b" * 64)
    with pytest.raises(ShardError, match="made by text_encoder tttttttttttt"):
        LatentLoader(LoaderConfig(), folder, text_encoder_digest="b" * 64)


def test_a_changed_latent_is_refused_when_it_is_read(folder):
    path = folder / "latent-00002.tar"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    loader = LatentLoader(LoaderConfig(batch_size=15), folder)
    with pytest.raises(ShardError, match="holds other bytes"):
        list(islice(loader.batches(), 4))


def test_more_ranks_than_clips_in_a_batch_and_unknown_buckets_are_refused(folder):
    with pytest.raises(ConfigError, match="a global batch of 2 clips"):
        LatentLoader(LoaderConfig(batch_size=2), folder, world_size=3)
    with pytest.raises(ConfigError, match="batch_sizes names 9x9x9"):
        LatentLoader(LoaderConfig(batch_sizes={"9x9x9": 3}), folder)


def test_batch_sizes_can_be_set_by_bucket(folder):
    loader = LatentLoader(LoaderConfig(batch_size=5, batch_sizes={"16x32x8": 2}), folder)
    sizes = {(batch.bucket, len(batch)) for batch in islice(loader.batches(), 12)}
    assert sizes == {("32x16x8", 5), ("16x32x8", 2)}


VIEWS = {"": (2, 2, 4), "image_": (1, 2, 4), "x0.5_": (2, 1, 2), "x2_": (2, 4, 8)}


@pytest.fixture
def viewed(tmp_path):
    """A folder of clips that are there as stills and at two other sizes too."""
    keys = [f"clip-{index}" for index in range(8)]
    tensors = {f"{view}{name}": torch.zeros(4, *grid) for view, grid in VIEWS.items() for name in ("mean", "logvar")}
    states: dict[str, torch.Tensor] = dict.fromkeys(("dense", "short"), torch.zeros(2, DIM))
    members: list[Member] = []
    for group, suffix, content, header in (
        ("latent", "latent.safetensors", tensors, {"autoencoder": AUTOENCODER}),
        ("prompt", "prompt.safetensors", states, {"text_encoder": TEXT}),
    ):
        entries = write_tar(tmp_path / f"{group}.tar", [(f"{key}.{suffix}", pack(content, header)) for key in keys])
        members += [
            Member(key, group, f"{group}.tar", entry.offset, entry.size, "32x16x8", entry.digest)
            for key, entry in zip(keys, entries, strict=True)
        ]
    facts = {"latent_channels": 4, "max_prompt_tokens": 2, "prompt_dim": DIM}
    publish(tmp_path, members, parents={"autoencoder": AUTOENCODER, "text_encoder": TEXT}, facts=facts)
    return tmp_path


def test_the_other_sizes_that_latents_hold(viewed):
    assert other_sizes(Dataset.open(viewed), viewed, Compression(4, 8, 8)) == ["16x8x8", "64x32x8"]


def test_latents_of_one_size_hold_no_other(folder):
    assert other_sizes(Dataset.open(folder), folder, Compression(4, 8, 8)) == []


def test_a_share_of_the_batches_shows_stills_and_another_each_other_size(viewed):
    loader = LatentLoader(LoaderConfig(batch_size=2, image_fraction=0.2, scaled_fraction=0.4, cache=True), viewed)
    grids = [tuple(loader.batch(step).mean.shape[2:]) for step in range(400)]
    shares = {view: grids.count(grid) / len(grids) for view, grid in VIEWS.items()}
    assert shares == pytest.approx({"": 0.4, "image_": 0.2, "x0.5_": 0.2, "x2_": 0.2}, abs=0.06)


def test_other_sizes_that_were_not_encoded_are_asked_for_in_vain(folder):
    with pytest.raises(ShardError, match="encode with scales"):
        LatentLoader(LoaderConfig(batch_size=2, scaled_fraction=0.5), folder).batch(0)
