import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.sources import SourceFile, group_duplicates, hash_file, list_sources
from model.errors import SourceError


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a user without privileges may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root reads every file whatever its mode, so the test steps down for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def reasons(folder: Path) -> dict[str, str]:
    return {bad.name: bad.failure.message for bad in list_sources(folder).unreadable}


def test_videos_are_found_below_the_folder_in_name_order(tmp_path: Path):
    for name in ("b/two.MKV", "a/one.mp4", "c.txt", "a/.hidden.mp4", ".cache/three.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    listing = list_sources(tmp_path)
    assert [file.name for file in listing.files] == ["a/one.mp4", "b/two.MKV"]
    assert listing.files[0].source_id == hashlib.sha256(b"a/one.mp4").hexdigest()
    assert listing.files[0].num_bytes == len(b"a/one.mp4")
    assert listing.num_ignored == 1
    assert not listing.unreadable


def test_a_folder_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="is not a folder"):
        list_sources(tmp_path / "missing")


def test_loops_dangling_links_pipes_and_empty_files_each_have_a_reason(tmp_path: Path):
    (tmp_path / "good.mp4").write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    found = reasons(tmp_path)
    assert sorted(found) == ["deep/loop", "empty.mp4", "gone.mp4", "pipe.mp4", "self.mp4"]
    assert "symlink loop" in found["deep/loop"]
    assert "0 bytes" in found["empty.mp4"]
    assert "No such file" in found["gone.mp4"]
    assert "not a regular file" in found["pipe.mp4"]
    assert "symbolic links" in found["self.mp4"]
    assert [file.name for file in list_sources(tmp_path).files] == ["good.mp4"]


def test_a_linked_folder_is_followed(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp4").write_bytes(b"x")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "link").symlink_to(tmp_path / "elsewhere")
    assert [file.name for file in list_sources(tmp_path / "films").files] == ["link/a.mp4"]


def test_what_may_not_be_read_is_named(open_folder: Path, request: pytest.FixtureRequest):
    (open_folder / "secret.mp4").write_bytes(b"x")
    (open_folder / "secret.mp4").chmod(0)
    (open_folder / "closed").mkdir(mode=0)
    (open_folder / "listed").mkdir()
    (open_folder / "listed" / "inside.mp4").write_bytes(b"x")
    (open_folder / "listed").chmod(0o444)
    request.getfixturevalue("unprivileged")
    assert reasons(open_folder) == {
        "closed": "Permission denied",
        "listed/inside.mp4": "Permission denied",
        "secret.mp4": "Permission denied",
    }


def test_a_name_that_is_no_utf_8_can_be_written_down(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes(b"x")
    assert [file.name for file in list_sources(tmp_path).files] == ["caf\\xe9.mp4"]


def test_equal_bytes_are_one_source_and_the_captioned_file_is_used(tmp_path: Path):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"same" if name != "c.mp4" else b"other")
    (tmp_path / "b.txt").write_text("a caption")
    groups = group_duplicates(list_sources(tmp_path).files)
    assert sorted([file.name for file in files] for files in groups.values()) == [["b.mp4", "a.mp4"], ["c.mp4"]]


def test_renaming_changes_no_id(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"bytes")
    before = hash_file(tmp_path / "a.mp4")
    assert hash_file((tmp_path / "a.mp4").rename(tmp_path / "b.mp4")) == before


def test_the_first_file_is_used_when_none_has_a_caption(tmp_path: Path):
    files = [SourceFile(name, tmp_path / name, "f" * 64, 1) for name in ("z.mp4", "a.mp4")]
    assert [file.name for file in group_duplicates(files)["f" * 64]] == ["a.mp4", "z.mp4"]
