"""What a stage of the line hands back: what it took, what it gave, and the files that prove it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Figures: TypeAlias = dict[str, int | float | str]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One finished stage.

    `digest` names the content that was made (not the time it was made); `outputs` are the files or folders whose
    presence proves the stage done; `took` and `gave` are the figures that the report prints.
    """

    digest: str
    outputs: list[Path]
    took: Figures = field(default_factory=dict)
    gave: Figures = field(default_factory=dict)
