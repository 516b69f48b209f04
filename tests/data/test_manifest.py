from dataclasses import replace

import pytest

from data.manifest import Dataset, Member, MemberReader, merkle_digest, publish, read_card, read_member, retract
from data.tars import write_tar
from model.errors import ShardError


def make_members(folder, group, contents, *, shard=None, bucket="64x64x16"):
    shard = shard or f"{group}-00000.tar"
    entries = write_tar(folder / shard, ((f"{key}.bin", data) for key, data in contents.items()))
    return [
        Member(key, group, shard, entry.offset, entry.size, bucket, entry.digest)
        for key, entry in zip(contents, entries, strict=True)
    ]


@pytest.fixture
def members(tmp_path):
    video = make_members(tmp_path, "video", {"a": b"film a", "b": b"film b"})
    return video + make_members(tmp_path, "text", {"a": b"text a", "b": b"text b"})


def test_publish_and_open_give_back_the_members(tmp_path, members):
    card = publish(tmp_path, members, parents={"source": "1" * 64}, facts={"width": 3})
    dataset = Dataset.open(tmp_path)
    assert dataset.members == members
    assert dataset.card == card
    assert card.num_clips == 2
    assert [read_member(tmp_path, member) for member in dataset.group("text")] == [b"text a", b"text b"]


def test_publishing_twice_changes_no_byte(tmp_path, members):
    publish(tmp_path, members)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    publish(tmp_path, members)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "change", [{"digest": "0" * 64}, {"offset": 7}, {"bucket": "80x48x16"}, {"key": "c"}, {"shard": "video-1.tar"}]
)
def test_the_dataset_id_depends_on_every_column(members, change):
    changed = [replace(members[0], **change), *members[1:]]
    assert merkle_digest(changed, {}) != merkle_digest(members, {})


def test_the_dataset_id_depends_on_the_parents(members):
    assert merkle_digest(members, {"dataset": "a"}) != merkle_digest(members, {"dataset": "b"})


def test_a_flipped_bit_in_a_shard_is_refused(tmp_path, members):
    publish(tmp_path, members)
    path = tmp_path / members[1].shard
    data = bytearray(path.read_bytes())
    data[members[1].offset] ^= 1
    path.write_bytes(data)
    with MemberReader(tmp_path) as reader:
        assert reader.read(members[0]) == b"film a"
        with pytest.raises(ShardError, match=r"holds other bytes for b than the manifest says"):
            reader.read(members[1])


def test_a_missing_shard_is_refused(tmp_path, members):
    (tmp_path / "text-00000.tar").unlink()
    with pytest.raises(ShardError, match=r"text-00000\.tar is missing"):
        read_member(tmp_path, members[2])


def test_a_retracted_folder_does_not_open(tmp_path, members):
    publish(tmp_path, members)
    retract(tmp_path)
    assert read_card(tmp_path) is None
    with pytest.raises(ShardError, match="no finished dataset"):
        Dataset.open(tmp_path)


def test_a_card_of_another_manifest_is_refused(tmp_path, members):
    publish(tmp_path, members)
    old = (tmp_path / "dataset.json").read_bytes()
    publish(tmp_path, [member for member in members if member.key == "a"])
    (tmp_path / "dataset.json").write_bytes(old)
    with pytest.raises(ShardError, match="hashes to"):
        Dataset.open(tmp_path)


def test_tars_of_an_older_dataset_are_removed(tmp_path, members):
    write_tar(tmp_path / "video-00007.tar", [("z.bin", b"old")])
    (tmp_path / "notes.txt").write_text("not ours")
    publish(tmp_path, members)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"video-00000.tar", "text-00000.tar", "manifest.parquet", "dataset.json", "notes.txt"}


def test_groups_with_other_keys_or_another_order_are_refused(tmp_path, members):
    with pytest.raises(ShardError, match=r"differ in keys \(b\)"):
        publish(tmp_path, members[:3])
    with pytest.raises(ShardError, match="only in their order"):
        publish(tmp_path, [*members[:2], members[3], members[2]])


def test_an_empty_or_doubled_dataset_is_refused(tmp_path, members):
    with pytest.raises(ShardError, match="would be empty"):
        publish(tmp_path, [])
    with pytest.raises(ShardError, match="names a key twice"):
        publish(tmp_path, [members[0], members[0]])
