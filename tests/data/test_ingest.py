import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc

from data.config import IngestConfig, MediaLimits
from data.ingest import ingest_source, probe_source
from data.records import SourceRecord
from data.video import read_frames, write_mp4
from model.errors import DecodeError

SOURCE_ID = "5" * 64
TINY = IngestConfig(buckets=("16x16x4", "32x16x4", "16x32x4"), fps=4.0)


def scene(num_frames: int, colour: tuple[int, int, int], height: int = 32, width: int = 32) -> np.ndarray:
    """A grey block wanders over a plain ground."""
    frames = np.full((num_frames, height, width, 3), colour, np.uint8)
    for index, frame in enumerate(frames):
        left = index % (width - 8)
        frame[8:16, left : left + 8] = 128
    return frames


def write_film(
    path: Path,
    frames: np.ndarray,
    *,
    ticks: list[int] | None = None,
    rotation: int = 0,
    transfer: int | None = None,
    with_audio: bool = False,
) -> Path:
    """H.264 on a clock of 1/100 s: 10 frames a second unless `ticks` says otherwise."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000, layout="mono") if with_audio else None
        for rgb, tick in zip(frames, ticks or range(0, 10 * len(frames), 10), strict=True):
            picture = VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, 100)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if sound is not None:
            silence = AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, 0
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    return path


def ingest(path: Path, clips_dir: Path, config: IngestConfig = TINY, **limits: int) -> SourceRecord:
    return ingest_source(path, SOURCE_ID, config, MediaLimits(**limits), clips_dir)


def test_a_film_of_two_shots_becomes_clips_that_keep_to_their_shot(tmp_path: Path):
    frames = np.concatenate([scene(25, (200, 40, 40)), scene(15, (40, 40, 200))])
    record = ingest(write_film(tmp_path / "film.mp4", frames, with_audio=True), tmp_path)
    assert record.facts is not None
    facts = record.facts.model_dump()
    assert facts["has_audio"]
    assert not facts["is_vfr"]
    assert (facts["codec"], facts["num_frames"], facts["duration_s"], facts["fps"]) == ("h264", 40, 4.0, 10.0)
    assert (record.num_shots, record.num_short_shots) == (2, 0)
    assert [(clip.shot_index, clip.start_s, clip.end_s) for clip in record.clips] == [
        (0, 0.0, 1.0),
        (0, 1.0, 2.0),
        (1, 2.5, 3.5),
    ]
    for clip in record.clips:
        path = tmp_path / f"{clip.clip_id}.mp4"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == clip.digest
        shown = read_frames(path)
        assert shown.shape == (4, 16, 16, 3)
        red, _, blue = shown[:, 12:].mean(axis=(0, 1, 2))
        assert (red > blue) == (clip.shot_index == 0)


def test_timestamps_decide_at_a_variable_rate(tmp_path: Path):
    # The picture turns red at 0.5 s and stays: by frame numbers that would be the second of five frames.
    frames = np.full((5, 32, 32, 3), 60, np.uint8)
    frames[1:] = (200, 40, 40)
    record = ingest(write_film(tmp_path / "vfr.mp4", frames, ticks=[0, 50, 60, 70, 100]), tmp_path)
    assert record.facts is not None
    assert record.facts.is_vfr
    assert record.facts.duration_s == pytest.approx(1.3)
    (clip,) = record.clips
    levels = read_frames(tmp_path / f"{clip.clip_id}.mp4")[:, 8, 8, 0]
    assert [bool(level > 130) for level in levels] == [False, False, True, True]


@pytest.mark.parametrize(("rotation", "bucket"), [(0, "32x16x4"), (90, "16x32x4"), (180, "32x16x4"), (270, "16x32x4")])
def test_the_bucket_follows_the_picture_as_it_is_shown(tmp_path: Path, rotation: int, bucket: str):
    frames = scene(12, (200, 40, 40), width=64)
    frames[:, :, 32:] = (40, 40, 200)  # red on the left, blue on the right
    record = ingest(write_film(tmp_path / "film.mp4", frames, rotation=rotation), tmp_path)
    assert record.facts is not None
    assert record.facts.rotation == rotation
    assert (record.facts.width > record.facts.height) == (rotation % 180 == 0)
    (clip,) = record.clips
    assert clip.bucket == bucket
    upright = np.rot90(read_frames(tmp_path / f"{clip.clip_id}.mp4")[0], -rotation // 90)
    assert upright[12, 2, 0] > upright[12, 2, 2]
    assert upright[12, -3, 2] > upright[12, -3, 0]


def test_the_same_film_gives_the_same_clips_and_other_settings_give_others(tmp_path: Path):
    film = write_film(tmp_path / "film.mp4", scene(12, (200, 40, 40)))
    first, again = ingest(film, tmp_path / "a"), ingest(film, tmp_path / "b")
    assert first == again
    other = ingest(film, tmp_path / "c", TINY.model_copy(update={"crf": 20}))
    assert {clip.clip_id for clip in first.clips}.isdisjoint(clip.clip_id for clip in other.clips)


def test_a_shot_shorter_than_a_clip_is_counted(tmp_path: Path):
    record = ingest(write_film(tmp_path / "film.mp4", scene(8, (200, 40, 40))), tmp_path)
    assert (record.num_shots, record.num_short_shots, record.clips) == (1, 1, ())


def test_bars_show_in_the_scores(tmp_path: Path):
    frames = scene(12, (200, 40, 40))
    frames[:, :6] = frames[:, -6:] = 0
    (clip,) = ingest(write_film(tmp_path / "film.mp4", frames), tmp_path).clips
    assert clip.scores.border == pytest.approx(12 / 32, abs=0.07)


def truncated(film: Path) -> None:
    content = film.read_bytes()
    film.write_bytes(content[: len(content) * 2 // 3])


def damaged(film: Path) -> None:
    content = bytearray(film.read_bytes())
    start, end = content.index(b"mdat") + 4, len(content)
    third = (end - start) // 3
    content[start + third : end - third] = bytes(end - start - 2 * third)
    film.write_bytes(content)


@pytest.mark.parametrize(("break_it", "reason"), [(truncated, "truncated"), (damaged, "damaged")])
def test_a_broken_film_says_how(tmp_path: Path, break_it, reason: str):
    film = tmp_path / "film.mp4"
    write_mp4(film, np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8), 10)
    break_it(film)
    with pytest.raises(DecodeError, match=reason):
        ingest(film, tmp_path / "clips")


def test_sound_alone_text_and_hdr_are_refused(tmp_path: Path):
    with pytest.raises(DecodeError, match="no video stream"):
        ingest(write_sound(tmp_path / "sound.mp4"), tmp_path)
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(DecodeError, match="is no MP4"):
        ingest(tmp_path / "text.mp4", tmp_path)
    hdr = write_film(tmp_path / "hdr.mp4", scene(12, (9, 9, 9)), transfer=ColorTrc.SMPTE2084)
    with pytest.raises(DecodeError, match=r"HDR \(transfer smpte2084\)"):
        ingest(hdr, tmp_path)


@pytest.mark.parametrize(
    ("limit", "reason"), [({"max_pixels": 1000}, "max_pixels=1000"), ({"max_frames": 11}, "max_frames=11")]
)
def test_limits_on_the_picture_hold(tmp_path: Path, limit: dict[str, int], reason: str):
    film = write_film(tmp_path / "film.mp4", scene(12, (200, 40, 40)))
    with pytest.raises(DecodeError, match=reason):
        ingest(film, tmp_path, **limit)


def test_a_playlist_named_mp4_opens_nothing(tmp_path: Path):
    write_film(tmp_path / "a.mp4", scene(12, (200, 40, 40)))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(DecodeError, match="is no MP4"):
        probe_source(tmp_path / "list.mp4", MediaLimits())


def test_probe_gives_the_same_facts_as_ingest(tmp_path: Path):
    film = write_film(tmp_path / "film.mp4", scene(12, (200, 40, 40)))
    assert probe_source(film, MediaLimits()) == ingest(film, tmp_path / "clips").facts


@pytest.mark.parametrize("bucket", ["64x64", "axbxc"])
def test_a_bucket_that_is_none_is_refused(bucket: str):
    with pytest.raises(ValueError, match="WIDTHxHEIGHTxFRAMES"):
        IngestConfig(buckets=(bucket,))
