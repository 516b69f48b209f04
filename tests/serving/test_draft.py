"""The files of a video that come piece by piece: what they show, whole or absent."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from data.video import read_frames, write_mp4
from serving.draft import Draft, spritesheet
from serving.store.storage import FILE_NAMES


def unsealed(path: Path, media_type: str) -> None:
    """Leaves a file as it is."""


def clip(num_frames: int) -> np.ndarray:
    """Frame k has level 2 k."""
    levels = (2 * np.arange(num_frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, 32, 48, 3)).copy()


@pytest.mark.parametrize("lengths", [[100], [32, 32, 32, 4], [1] * 100])
def test_pieces_become_the_files_of_the_whole(tmp_path: Path, lengths: list[int]) -> None:
    frames, folder = clip(100), tmp_path / "job" / "1"
    draft = Draft(folder, 100, 8)
    for piece in np.split(frames, np.cumsum(lengths)[:-1]):
        assert not folder.exists()
        draft.add(piece)
    files = draft.finish(unsealed)
    assert {path.name for path in folder.iterdir()} == set(FILE_NAMES.values())
    write_mp4(tmp_path / "whole.mp4", frames, 8)
    assert (folder / "video.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    with av.open(str(folder / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", Fraction(8))
    assert files["video"]["num_bytes"] == (folder / "video.mp4").stat().st_size
    assert np.abs(np.asarray(Image.open(folder / "thumbnail.webp")).astype(int) - 100).max() <= 3
    sheet = np.asarray(Image.open(folder / "spritesheet.jpg")).astype(int)
    assert sheet.shape == (4 * 32, 4 * 48, 3)
    tiles = sheet.reshape(4, 32, 4, 48, 3).mean(axis=(1, 3, 4)).ravel()
    assert tiles == pytest.approx(np.linspace(0, 198, 16), abs=3)


def test_a_single_frame_is_kept_as_it_is(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 48, 3), dtype=np.uint8)
    draft = Draft(tmp_path / "1", 1, 8)
    draft.add(picture)
    draft.finish(unsealed)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "1" / "thumbnail.webp")), picture[0])


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def full(path: Path, media_type: str) -> None:
        raise OSError("disk full")

    def written() -> Draft:
        draft = Draft(tmp_path / "1", 4, 8)
        draft.add(clip(4))
        return draft

    with pytest.raises(OSError, match="disk full"):
        written().finish(full)
    written().discard()
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):  # a second try of the same attempt
        written().finish(unsealed)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert read_frames(tmp_path / "1" / "video.mp4").shape == (4, 32, 48, 3)


def test_a_draft_without_frames_leaves_nothing(tmp_path: Path) -> None:
    Draft(tmp_path / "1", 4, 8).discard()
    assert list(tmp_path.iterdir()) == []


def test_sprites_read_like_text() -> None:
    frames = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    sheet = spritesheet(list(frames))
    assert sheet.shape == (8, 12, 3)
    assert sheet[0, 0, 0] == 0
    assert sheet[-1, -1, 0] == 15
    assert list(sheet[0, ::3, 0]) == sorted(sheet[0, ::3, 0])
    assert spritesheet(list(frames[:3])).shape == (4, 6, 3)
