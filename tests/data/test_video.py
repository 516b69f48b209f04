from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from data.video import indices_at, iter_frames, mp4_writer, open_video, read_at, read_frames, write_mp4
from model.errors import ConfigError, DecodeError


def corners(height: int = 32, width: int = 64) -> np.ndarray:
    """Four corners of different colour, so that any turn or mirror shows."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 40)
    image[: height // 2, width // 2 :] = (20, 200, 60)
    image[height // 2 :, : width // 2] = (30, 60, 220)
    image[height // 2 :, width // 2 :] = (220, 220, 40)
    return image


def grey_ramp(num_frames: int, size: int = 16) -> np.ndarray:
    """Frame k has level 10 + 10 k."""
    levels = (10 + 10 * np.arange(num_frames) % 240).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, size, size, 3)).copy()


def write_raw(path: Path, frames: np.ndarray, pts: list[int], *, rotation: int = 0, mirror: bool = False) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv444p"
        stream.codec_context.time_base = Fraction(1, 10)
        if rotation or mirror:
            stream.set_display_rotation(rotation, hflip=mirror)
        for rgb, stamp in zip(frames, pts, strict=True):
            picture = VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts, picture.time_base = stamp, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def test_write_then_read_gives_the_frames_back(tmp_path: Path):
    frames = grey_ramp(8)
    write_mp4(tmp_path / "a.mp4", frames, 8, crf=4, pixel_format="yuv444p")
    assert np.abs(read_frames(tmp_path / "a.mp4").astype(int) - frames).max() <= 3


def test_no_generation_is_darker_than_the_one_before(tmp_path: Path):
    """swscale's quick RGB loses one to two levels each time."""
    draw = np.random.default_rng(0)
    small = draw.integers(20, 235, (8, 6, 8, 3), dtype=np.uint8)
    frames = [small.repeat(8, axis=1).repeat(8, axis=2)]
    for number in range(3):
        write_mp4(tmp_path / f"{number}.mp4", frames[-1], 8, crf=4)
        frames.append(read_frames(tmp_path / f"{number}.mp4"))
    drift = [float((one.astype(float) - frames[0]).mean()) for one in frames[1:]]
    assert np.abs(drift).max() < 0.3, drift


def test_the_first_frame_is_kept_better_than_the_rest(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype=np.uint8).repeat(6, axis=0)
    frames = np.stack([np.roll(frame, 3 * index, axis=1) for index, frame in enumerate(frames)])
    errors = {}
    for ipratio in (1.4, 2.0):
        write_mp4(tmp_path / "a.mp4", frames, 8, ipratio=ipratio, pixel_format="yuv444p")
        errors[ipratio] = np.square(read_frames(tmp_path / "a.mp4")[0].astype(float) - frames[0]).mean()
    assert errors[2.0] < 0.8 * errors[1.4]


def test_same_frames_give_the_same_bytes_and_no_partial_stays(tmp_path: Path):
    # A smooth pan makes x264 look ahead, and the memory it gets is stirred: unset memory once leaked into the bytes.
    rng = np.random.default_rng(0)
    t, y, x = np.ogrid[:16, :64, :64]
    level = 130 + 60 * np.sin((x + 1.7 * t) / 7) * np.cos((y - 0.9 * t) / 9)
    frames = np.stack([level, level * 0.8, 255 - level], axis=-1).astype(np.uint8)
    seen: set[bytes] = set()
    for index in range(6):
        rubbish = [rng.integers(0, 255, int(size), dtype=np.uint8) for size in rng.integers(100, 200_000, 40)]
        del rubbish
        write_mp4(tmp_path / f"{index}.mp4", frames, 8, pixel_format="yuv444p")
        seen.add((tmp_path / f"{index}.mp4").read_bytes())
    assert len(seen) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{index}.mp4" for index in range(6)]


@pytest.mark.parametrize("lengths", [[1] * 40, [7, 20, 13]])
def test_pieces_give_the_bytes_of_the_whole(tmp_path: Path, lengths: list[int]):
    frames = np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), dtype=np.uint8)
    write_mp4(tmp_path / "whole.mp4", frames, 8)
    with mp4_writer(tmp_path / "pieces.mp4", 8) as write:
        for piece in np.split(frames, np.cumsum(lengths)[:-1]):
            assert not (tmp_path / "pieces.mp4").exists()
            write(piece)
    assert (tmp_path / "pieces.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize(
    ("sizes", "error"),
    [([16, 32], "32x32 cannot follow those of 16x16"), ([16, 17], "cannot follow"), ([], "no frame")],
)
def test_a_video_whose_making_fails_leaves_no_file(tmp_path: Path, sizes: list[int], error: str):
    def write_all() -> None:
        with mp4_writer(tmp_path / "a.mp4", 8) as write:
            for size in sizes:
                write(grey_ramp(40, size))

    with pytest.raises(ConfigError, match=error):
        write_all()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [8, 12.5, Fraction(30000, 1001)])
def test_the_frame_rate_is_exact_and_the_index_comes_first(tmp_path: Path, fps: Fraction | float):
    path = tmp_path / "a.mp4"
    write_mp4(path, grey_ramp(9), fps)
    times = [frame.time_s for frame in iter_frames(path)]
    assert times == pytest.approx([float(k / Fraction(fps)) for k in range(9)], abs=1e-9)
    with open_video(path) as (container, stream):
        assert stream.average_rate == Fraction(fps)
        assert stream.duration * stream.time_base == 9 / Fraction(fps)
        assert not container.streams.audio
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_odd_sizes_need_full_chroma(tmp_path: Path):
    odd = np.zeros((2, 17, 15, 3), np.uint8)
    with pytest.raises(ConfigError, match="15x17 is odd"):
        write_mp4(tmp_path / "a.mp4", odd, 8)
    write_mp4(tmp_path / "a.mp4", odd, 8, pixel_format="yuv444p")
    assert read_frames(tmp_path / "a.mp4").shape == odd.shape


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (np.zeros((2, 16, 16, 3), np.float32), 8),
        (np.zeros((16, 16, 3), np.uint8), 8),
        (np.zeros((0, 16, 16, 3), np.uint8), 8),
        (np.zeros((2, 16, 16, 3), np.uint8), 0),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, frames: np.ndarray, fps: int):
    with pytest.raises(ConfigError):
        write_mp4(tmp_path / "a.mp4", frames, fps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_all_eight_orientations_come_out_upright(tmp_path: Path, rotation: int, mirror: bool):
    image = corners()
    write_raw(tmp_path / "a.mp4", np.stack([image, image]), [0, 1], rotation=rotation, mirror=mirror)
    expected = np.rot90(image, rotation // 90)
    expected = expected[:, ::-1] if mirror else expected
    shown = read_frames(tmp_path / "a.mp4", max_frames=1)[0]
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 2


def test_read_at_follows_timestamps_and_not_frame_numbers(tmp_path: Path):
    # Shown at 0, 0.1, 0.2, 1.0 and 3.0 s: at a constant rate, 0.9 s would be frame 9.
    write_raw(tmp_path / "vfr.mp4", grey_ramp(5), [0, 1, 2, 10, 30])
    shown = read_at(tmp_path / "vfr.mp4", [-1.0, 0.0, 0.15, 0.9, 1.0, 2.99, 9.0])
    assert [round((int(frame.mean()) - 10) / 10) for frame in shown] == [0, 0, 1, 2, 3, 3, 4]


def test_indices_at_takes_the_last_frame_at_or_before():
    assert indices_at([0.0, 0.5, 1.0], [0.0, 0.49, 0.5, 0.99, 7.0]) == [0, 0, 1, 1, 2]


def test_max_frames_bounds_what_is_read(tmp_path: Path):
    write_mp4(tmp_path / "a.mp4", grey_ramp(8), 8)
    assert len(read_frames(tmp_path / "a.mp4", max_frames=3)) == 3


def test_text_is_no_video(tmp_path: Path):
    (tmp_path / "a.mp4").write_text("once upon a time " * 50)
    with pytest.raises(DecodeError, match="does not open as video"):
        read_frames(tmp_path / "a.mp4")
