from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from data.containers import check_complete, demuxer_of
from model.errors import DecodeError

FORMATS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4"}


@pytest.fixture(scope="module", params=FORMATS)
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("containers") / f"a.{request.param}"
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(FORMATS[request.param], rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index, rgb in enumerate(noise):
            picture = VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_the_demuxer_is_told_by_content_and_opens_the_file(video: Path, tmp_path: Path):
    renamed = tmp_path / "film.bin"
    renamed.write_bytes(video.read_bytes())
    with av.open(str(renamed), format=demuxer_of(renamed)) as container:
        assert len(list(container.decode(video=0))) == 12


def test_a_whole_file_is_complete(video: Path):
    check_complete(video)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_cut_file_says_so(video: Path, tmp_path: Path, share: float):
    content = video.read_bytes()
    cut = tmp_path / f"cut{video.suffix}"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DecodeError, match="truncated"):
        check_complete(cut)


@pytest.mark.parametrize(
    "content", [b"", b"hello world, no video", b"#EXTM3U\nfile:///etc/passwd", b"ffconcat version 1.0\nfile a.mp4"]
)
def test_playlists_and_text_have_no_demuxer(tmp_path: Path, content: bytes):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="is no MP4"):
        demuxer_of(path)


def test_boxes_that_lie_do_not_loop(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x01mdat" + bytes(8) + bytes(100))
    check_complete(path)
