"""The catalog: one Parquet table each for sources, clips, captions and quarantine; same rows, same bytes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import replacing
from model.errors import ConfigError

_TEXT, _INT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


SCHEMAS: dict[str, pa.Schema] = {
    "sources": _schema(
        source_id=_TEXT, path=_TEXT, num_bytes=_INT, container=_TEXT, codec=_TEXT, width=_INT, height=_INT,
        rotation=_INT, num_frames=_INT, duration_s=_REAL, fps=_REAL, is_vfr=_FLAG, has_audio=_FLAG,
        color_transfer=_TEXT, num_shots=_INT, num_clips=_INT, status=_TEXT, duplicate_of=_TEXT,
    ),
    "clips": _schema(
        clip_id=_TEXT, source_id=_TEXT, shot_index=_INT, start_pts=_INT, end_pts=_INT, time_base=_TEXT,
        start_s=_REAL, end_s=_REAL, bucket=_TEXT, fps=_REAL, path=_TEXT, digest=_TEXT, motion=_REAL,
        sharpness=_REAL, exposure=_REAL, border=_REAL, overlay_text=_REAL, phash=_TEXT,
        sidecar_short=_TEXT, sidecar_dense=_TEXT, sidecar_structured=_TEXT, status=_TEXT, drop_reason=_TEXT,
        duplicate_of=_TEXT,
    ),
    "captions": _schema(
        clip_id=_TEXT, short=_TEXT, dense=_TEXT, structured=_TEXT, origin=_TEXT, producer=_TEXT
    ),
    "quarantine": _schema(
        digest=_TEXT, path=_TEXT, stage=_TEXT, error_class=_TEXT, message=_TEXT, attempts=_INT,
        tool_version=_TEXT,
    ),
}  # fmt: skip
"""The columns of each table, by the stem of its file name; all may be null."""

_SORT_KEYS = {
    "sources": ("source_id", "path"),
    "clips": ("clip_id",),
    "captions": ("clip_id",),
    "quarantine": ("path", "stage", "digest"),
}


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Writes the rows, sorted by their key, as the table that the file's stem names; atomic; gives `path`.

    A column that a row lacks is null.

    Raises:
        ConfigError: the stem names no table, or a row has a column that the table lacks.
    """
    if path.stem not in SCHEMAS:
        raise ConfigError(f"no table is named {path.stem!r}; use one of {', '.join(SCHEMAS)}")
    schema, keys = SCHEMAS[path.stem], _SORT_KEYS[path.stem]
    ordered = sorted(rows, key=lambda row: [str(row.get(key) or "") for key in keys])
    unknown = sorted({column for row in ordered for column in row} - set(schema.names))
    if unknown:
        raise ConfigError(f"table {path.stem} has no column {', '.join(unknown)}; add it to SCHEMAS")
    table = pa.Table.from_pylist([dict(row) for row in ordered], schema=schema)
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of one table in file order; no rows when the file does not exist yet."""
    if not path.exists():
        return []
    return pq.read_table(path).to_pylist()
