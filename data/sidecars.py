"""Captions that lie beside a video, and which clip each belongs to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data.sources import sidecar_paths
from model.errors import SourceError


class SidecarCaption(BaseModel):
    """One caption and the half-open span of the film, in presentation time, that it describes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    start_s: float = Field(allow_inf_nan=False)
    end_s: float
    short: str = Field(min_length=1)
    dense: str = Field(min_length=1)
    structured: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_length(self) -> "SidecarCaption":
        if not self.end_s > self.start_s:
            raise ValueError(f"the span {self.start_s} to {self.end_s} s is empty; end_s must be the later")
        return self


class _CaptionFile(BaseModel):
    captions: list[SidecarCaption]


def read_sidecar(video: Path) -> list[SidecarCaption]:
    """The captions beside a video: `film.captions.json`, else `film.txt` for the whole film; none is no error.

    Raises:
        SourceError: the file is there and cannot be understood; the message says where it is wrong.
    """
    for path in sidecar_paths(video):
        try:
            text = path.read_text(encoding="utf-8")
            return _whole_film(text) if path.suffix == ".txt" else _CaptionFile.model_validate_json(text).captions
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise SourceError(f"{path.name}: {where}: {first['msg']}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path.name} cannot be read as UTF-8 text ({error})") from error
    return []


def _whole_film(text: str) -> list[SidecarCaption]:
    caption = " ".join(text.split())
    if not caption:
        raise SourceError("the caption file is empty; write a sentence or delete it")
    return [SidecarCaption(start_s=float("-1e9"), end_s=float("inf"), short=caption, dense=caption)]


def caption_for(
    captions: Sequence[SidecarCaption], start_s: float, end_s: float, least_cover: float
) -> SidecarCaption | None:
    """The caption that covers most of the clip's span, when it covers at least `least_cover` of it."""

    def cover(caption: SidecarCaption) -> float:
        return (min(caption.end_s, end_s) - max(caption.start_s, start_s)) / (end_s - start_s)

    best = max(captions, key=cover, default=None)
    return best if best is not None and cover(best) >= least_cover else None
