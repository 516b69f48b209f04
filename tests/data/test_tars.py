import hashlib
import tarfile

import pytest

from data.tars import index_tar, write_tar
from model.errors import ShardError

MEMBERS = [("b.mp4", b"second" * 300), ("a.mp4", b""), ("c.mp4", bytes(range(256)) * 5)]


def test_same_members_give_the_same_bytes_and_the_order_is_kept(tmp_path):
    write_tar(tmp_path / "one.tar", MEMBERS)
    write_tar(tmp_path / "other" / "two.tar", iter(MEMBERS))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other" / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        headers = tar.getmembers()
    assert [header.name for header in headers] == [name for name, _ in MEMBERS]
    assert {(header.mtime, header.uid, header.gid, header.mode) for header in headers} == {(0, 0, 0, 0o444)}


def test_entries_say_where_each_member_lies(tmp_path):
    path = tmp_path / "one.tar"
    entries = write_tar(path, MEMBERS)
    data = path.read_bytes()
    for entry, (name, content) in zip(entries, MEMBERS, strict=True):
        assert entry.name == name
        assert data[entry.offset : entry.offset + entry.size] == content
        assert entry.digest == hashlib.sha256(content).hexdigest()
    assert index_tar(path) == entries


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "one.tar"
    write_tar(path, MEMBERS)
    before = path.read_bytes()

    def breaking():
        yield MEMBERS[0]
        raise RuntimeError("source is gone")

    with pytest.raises(RuntimeError, match="source is gone"):
        write_tar(path, breaking())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_tar_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "one.tar"
    write_tar(path, [("a.mp4", b"x" * 10_000), ("b.mp4", b"y" * 10_000)])
    data = path.read_bytes()
    path.write_bytes(data[: int(20_000 * keep)])
    with pytest.raises(ShardError, match=r"one\.tar is not a whole tar"):
        index_tar(path)


def test_a_file_that_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "one.tar"
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(ShardError, match="not a whole tar"):
        index_tar(path)


def add_member(path, name, kind=tarfile.REGTYPE, target=""):
    """Appends a member that `write_tar` would never write."""
    with tarfile.open(path, "a") as tar:
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, target
        tar.addfile(header)


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("a.mp4", tarfile.SYMTYPE, "/etc/passwd"),
        ("a.mp4", tarfile.SYMTYPE, "c.mp4"),
        ("a.mp4", tarfile.LNKTYPE, "../../etc/passwd"),
        ("a.mp4", tarfile.LNKTYPE, "c.mp4"),
        ("a.mp4", tarfile.CHRTYPE, ""),
        ("a.mp4", tarfile.BLKTYPE, ""),
        ("a.mp4", tarfile.FIFOTYPE, ""),
        ("folder", tarfile.DIRTYPE, ""),
        ("../a.mp4", tarfile.REGTYPE, ""),
        ("a/../../b.mp4", tarfile.REGTYPE, ""),
        ("..", tarfile.REGTYPE, ""),
        ("/etc/a.mp4", tarfile.REGTYPE, ""),
    ],
)
def test_a_member_that_is_no_plain_file_inside_is_refused(tmp_path, name, kind, target):
    path = tmp_path / "one.tar"
    write_tar(path, MEMBERS)
    before = index_tar(path)
    add_member(path, "plain.mp4")
    assert index_tar(path)[:-1] == before
    add_member(path, name, kind, target)
    with pytest.raises(ShardError, match="a link, a device, or a name that leads out"):
        index_tar(path)
