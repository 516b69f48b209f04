from pathlib import Path

import pytest
from pydantic import ValidationError

from data.records import Failure, RecordStore, SourceRecord

RECORD = SourceRecord(source_id="a" * 64, failure=Failure(stage="ingest", error_class="DecodeError", message="cut"))


def test_a_record_comes_back_and_belongs_to_its_settings(tmp_path: Path):
    store = RecordStore(tmp_path, "1" * 64)
    store.save(RECORD)
    assert store.load(RECORD.source_id) == RECORD
    assert RecordStore(tmp_path, "2" * 64).load(RECORD.source_id) is None
    assert store.load("b" * 64) is None


@pytest.mark.parametrize("content", ["", "{", '{"source_id": "x"}', "[]"])
def test_a_damaged_record_counts_as_missing(tmp_path: Path, content: str):
    store = RecordStore(tmp_path, "1" * 64)
    store.path("a" * 64).write_text(content)
    assert store.load("a" * 64) is None


def test_a_child_cannot_smuggle_fields_or_paths_in():
    with pytest.raises(ValidationError):
        SourceRecord.model_validate({"source_id": "../../etc/passwd"})
    with pytest.raises(ValidationError):
        SourceRecord.model_validate({"source_id": "a" * 64, "command": "rm"})
