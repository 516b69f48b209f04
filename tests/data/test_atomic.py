from pathlib import Path

import pytest

from data.atomic import remove_partials, replacing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_partials_of_killed_writers_are_removed(tmp_path: Path):
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("new")
        orphan = partial.with_name(partial.name.replace("a.json", "b.json"))
        orphan.write_text("half")
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
