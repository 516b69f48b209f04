import hashlib
import json
import os

import pytest

os.environ["WDS_SECURE"] = "1"  # webdataset reads it when it is imported; else it would unpickle what it finds
import webdataset

from data.catalog import write_table
from data.config import ShardConfig
from data.manifest import Dataset, read_member
from data.shards import plan_shards, write_dataset
from model.errors import ShardError, StageError

CONFIG = ShardConfig(clips_per_shard=3)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_one_bucket_sorted_and_at_most_so_many_clips():
    clips = [{"clip_id": f"{index:02d}", "bucket": "tall" if index % 3 else "wide"} for index in range(11)]
    spans = plan_shards(reversed(clips), 3)
    assert [(span.index, span.bucket, [row["clip_id"] for row in span.rows]) for span in spans] == [
        (0, "tall", ["01", "02", "04"]),
        (1, "tall", ["05", "07", "08"]),
        (2, "tall", ["10"]),
        (3, "wide", ["00", "03", "06"]),
        (4, "wide", ["09"]),
    ]


def test_the_stock_library_reads_clips_and_captions_that_belong_together(workspace, captioned):
    result = write_dataset(CONFIG, workspace)
    videos = {}
    for name in sorted(path.name for path in workspace.shards.glob("video-*.tar")):
        samples = list(webdataset.WebDataset(str(workspace.shards / name), shardshuffle=False, empty_check=False))
        text_name = name.replace("video", "text")
        texts = list(webdataset.WebDataset(str(workspace.shards / text_name), shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == [text["__key__"] for text in texts]
        videos |= {
            sample["__key__"]: (sample["mp4"], json.loads(text["json"]))
            for sample, text in zip(samples, texts, strict=True)
        }
    assert set(videos) == {clip["clip_id"] for clip in captioned}
    for clip in captioned:
        mp4, text = videos[clip["clip_id"]]
        assert hashlib.sha256(mp4).hexdigest() == clip["digest"]
        assert text["short"] == f"short of {clip['clip_id'][:6]}"
        assert text["structured"] == {"subject": clip["clip_id"][:4]}
        assert set(text) == {"short", "dense", "structured", "origin"}
    assert result.gave["clips"] == 7
    assert result.gave["shards"] == 6
    assert result.gave["captions_sidecar"] == 7


def test_members_are_read_by_the_manifest(workspace, captioned):
    write_dataset(CONFIG, workspace)
    dataset = Dataset.open(workspace.shards)
    by_key = {clip["clip_id"]: clip for clip in captioned}
    for member in dataset.group("video"):
        clip = by_key[member.key]
        assert read_member(workspace.shards, member) == (workspace.root / clip["path"]).read_bytes()
        assert member.bucket == clip["bucket"]


def test_two_workspaces_with_the_same_clips_give_the_same_bytes(workspace, captioned, tmp_path):
    first = write_dataset(CONFIG, workspace)
    before = contents(workspace.shards)
    for path in workspace.shards.iterdir():
        path.unlink()
    assert write_dataset(CONFIG, workspace).digest == first.digest
    assert contents(workspace.shards) == before


def test_a_second_run_writes_no_shard(workspace, captioned):
    first = write_dataset(CONFIG, workspace)
    times = {path.name: path.stat().st_mtime_ns for path in workspace.shards.glob("*.tar")}
    second = write_dataset(CONFIG, workspace)
    assert (second.digest, second.gave["shards_written"]) == (first.digest, 0)
    assert {path.name: path.stat().st_mtime_ns for path in workspace.shards.glob("*.tar")} == times


@pytest.mark.parametrize("harm", ["missing", "cut", "flipped"])
def test_only_a_harmed_shard_is_written_again(workspace, captioned, harm):
    write_dataset(CONFIG, workspace)
    before = contents(workspace.shards)
    path = workspace.shards / "video-00001.tar"
    data = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 3])
    else:
        data[600] ^= 1
        path.write_bytes(data)
    assert write_dataset(CONFIG, workspace).gave["shards_written"] == 1
    assert contents(workspace.shards) == before


def test_new_captions_leave_the_video_shards_alone(workspace, captioned, caption_row):
    first = write_dataset(CONFIG, workspace)
    videos = {path: path.stat().st_mtime_ns for path in workspace.shards.glob("video-*.tar")}
    rows = [caption_row(clip, dense="another text", origin="captioner") for clip in captioned]
    write_table(workspace.catalog / "captions.parquet", rows)
    second = write_dataset(CONFIG, workspace)
    assert second.digest != first.digest
    assert second.gave["shards_written"] == 3
    assert {path: path.stat().st_mtime_ns for path in videos} == videos


def test_fewer_clips_remove_the_shards_of_before(workspace, captioned, write_clips):
    write_dataset(CONFIG, workspace)
    write_clips(captioned[:2])
    write_dataset(CONFIG, workspace)
    assert sorted(contents(workspace.shards)) == [
        "dataset.json",
        "manifest.parquet",
        "text-00000.tar",
        "video-00000.tar",
    ]
    assert Dataset.open(workspace.shards).card.num_clips == 2


def test_a_clip_without_a_caption_stays_out_and_is_counted(workspace, captioned, caption_row):
    write_table(workspace.catalog / "captions.parquet", [caption_row(clip) for clip in captioned[1:]])
    result = write_dataset(CONFIG, workspace)
    assert (result.gave["clips"], result.gave["uncaptioned"]) == (6, 1)
    assert captioned[0]["clip_id"] not in {member.key for member in Dataset.open(workspace.shards).members}


def test_no_captions_at_all_are_refused(workspace, captioned):
    write_table(workspace.catalog / "captions.parquet", [])
    with pytest.raises(StageError, match="none of 7 kept clips has a caption"):
        write_dataset(CONFIG, workspace)


def test_a_clip_that_changed_since_curation_is_refused_and_the_old_dataset_does_not_open(workspace, captioned):
    write_dataset(CONFIG, workspace)
    clip = captioned[0]
    (workspace.root / clip["path"]).write_bytes(b"something else")
    for path in workspace.shards.glob("video-*.tar"):
        path.unlink()
    with pytest.raises(ShardError, match="curate again"):
        write_dataset(CONFIG, workspace)
    with pytest.raises(ShardError, match="no finished dataset"):
        Dataset.open(workspace.shards)


def test_a_clip_file_that_vanished_is_refused(workspace, captioned):
    (workspace.root / captioned[0]["path"]).unlink()
    with pytest.raises(ShardError, match="not on disk"):
        write_dataset(CONFIG, workspace)
