"""What curation knows about one source, as it crosses from the child process and as it lies on disk."""

import json
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.atomic import replacing

_HASH = r"^[0-9a-f]{64}$"


def tool_version() -> str:
    """The code that touched a source: our version, PyAV's and FFmpeg's."""
    try:
        ours = version("skyloom")
    except PackageNotFoundError:
        ours = "source"
    return f"skyloom {ours}, av {av.__version__}, ffmpeg {av.ffmpeg_version_info}"


class Record(BaseModel):
    """A frozen row that refuses unknown fields: it may come from a process that read untrusted bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFacts(Record):
    """What a media file says and shows about itself; width and height are upright and in square pixels."""

    container: str
    codec: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    rotation: int = Field(ge=0, lt=360, description="Degrees counter-clockwise that the flag asks for.")
    num_frames: int = Field(ge=0)
    duration_s: float = Field(ge=0, description="From the first frame's time to the end of the last frame.")
    fps: float = Field(ge=0, description="Average: frames over duration.")
    is_vfr: bool
    has_audio: bool
    color_transfer: str


class Scores(Record):
    """What was measured on one clip; verdicts are made from these later, so changing one decodes nothing."""

    motion: float = Field(ge=0, description="Mean change between neighbouring frames, share of full scale.")
    sharpness: float = Field(ge=0, description="Variance of the Laplacian of luma, mean over frames.")
    exposure: float = Field(ge=0, le=1, description="Mean luma.")
    border: float = Field(ge=0, le=1, description="Share of the picture in black bars at its edges.")
    overlay_text: float = Field(ge=0, le=1, description="Share under overlaid text (0: not measured).")
    phash: str = Field(description="64-bit DCT hashes of a few frames, joined, as hex.")
    thumbnail: str = Field(description="8x8 RGB means of the same frames, base64: settles a suspicion.")


class ClipRecord(Record):
    """One normalised clip: its span in the source's own clock, its file and its scores."""

    clip_id: str = Field(pattern=_HASH)
    shot_index: int = Field(ge=0)
    start_pts: int
    end_pts: int
    time_base: str
    bucket: str
    fps: float
    digest: str = Field(pattern=_HASH, description="sha256 of the clip file.")
    num_bytes: int = Field(gt=0)
    scores: Scores

    @property
    def start_s(self) -> float:
        """Where the clip begins, in presentation time."""
        return float(self.start_pts * Fraction(self.time_base))

    @property
    def end_s(self) -> float:
        """Where the clip ends (exclusive), in presentation time."""
        return float(self.end_pts * Fraction(self.time_base))


class Failure(Record):
    """Why something was put into quarantine, and how often it was tried."""

    stage: str
    error_class: str
    message: str
    attempts: int = Field(default=1, ge=1)
    tool_version: str = Field(default_factory=tool_version)


class SourceRecord(Record):
    """The outcome for one source: facts and clips, or a failure; a short shot is one that no window fits."""

    source_id: str = Field(pattern=_HASH)
    facts: SourceFacts | None = None
    num_shots: int = Field(default=0, ge=0)
    num_short_shots: int = Field(default=0, ge=0)
    clips: tuple[ClipRecord, ...] = ()
    failure: Failure | None = None


class RecordStore:
    """One JSON file per (source, ingest settings): what exists is done, what does not is to do."""

    def __init__(self, folder: Path, settings_digest: str) -> None:
        self._folder = folder
        self._suffix = f"{settings_digest[:16]}.json"

    def path(self, source_id: str) -> Path:
        """Where the record of a source lies."""
        return self._folder / f"{source_id}-{self._suffix}"

    def load(self, source_id: str) -> SourceRecord | None:
        """The record, or None when it is missing or unreadable (then the source is simply done again)."""
        try:
            return SourceRecord.model_validate_json(self.path(source_id).read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, record: SourceRecord) -> None:
        """Writes the record atomically; call it after its clips are on disk."""
        with replacing(self.path(record.source_id)) as partial:
            partial.write_text(json.dumps(record.model_dump(mode="json"), sort_keys=True), encoding="utf-8")

    def all(self) -> Iterator[SourceRecord]:
        """Every readable record with these settings, by source id."""
        for path in sorted(self._folder.glob(f"*-{self._suffix}")):
            record = self.load(path.name.split("-", 1)[0])
            if record is not None:
                yield record
