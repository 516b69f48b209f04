from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.catalog import SCHEMAS, read_table, write_table
from model.errors import ConfigError


def test_rows_come_back_sorted_with_nulls_for_what_they_lack(tmp_path: Path):
    path = write_table(tmp_path / "catalog" / "clips.parquet", [{"clip_id": "b"}, {"clip_id": "a", "fps": 8.0}])
    rows = read_table(path)
    assert [row["clip_id"] for row in rows] == ["a", "b"]
    assert rows[0]["fps"] == 8.0
    assert rows[1]["fps"] is None
    assert pq.read_schema(path).names == SCHEMAS["clips"].names


def test_the_order_of_rows_does_not_change_the_bytes(tmp_path: Path):
    rows = [{"path": name, "stage": "list", "attempts": 1} for name in ("x", "a", "m")]
    first = write_table(tmp_path / "1" / "quarantine.parquet", rows).read_bytes()
    second = write_table(tmp_path / "2" / "quarantine.parquet", rows[::-1]).read_bytes()
    assert first == second


def test_a_missing_table_has_no_rows(tmp_path: Path):
    assert read_table(tmp_path / "clips.parquet") == []


def test_an_unknown_table_or_column_is_refused_and_the_old_table_stays(tmp_path: Path):
    path = write_table(tmp_path / "clips.parquet", [{"clip_id": "a"}])
    with pytest.raises(ConfigError, match="no column colour"):
        write_table(path, [{"clip_id": "b", "colour": "red"}])
    with pytest.raises(ConfigError, match="no table is named 'films'"):
        write_table(tmp_path / "films.parquet", [])
    assert [row["clip_id"] for row in read_table(path)] == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["clips.parquet"]
