"""Progress of a long job: a bar with rate and time left, and the same figures as JSONL."""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Steps per second, averaged by rich over its last samples."""

    def render(self, task: Task) -> Text:
        """The rate of a task, or a dash before it is known."""
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "-", style="cyan")


def progress_bar() -> Progress:
    """A rich progress display with rate, time left and the last figures."""
    return Progress(
        TextColumn("{task.description:>12}"), BarColumn(bar_width=28), MofNCompleteColumn(), _Rate(),
        TimeRemainingColumn(compact=True), TextColumn("{task.fields[figures]}"),
    )  # fmt: skip


class StepLog:
    """The JSONL record of a job's steps, one line each; on resume, steps that will be done again are dropped."""

    def __init__(self, path: Path, first_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_steps(path) if record["step"] < first_step]
        path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a")

    def write(self, step: int, **figures: float) -> None:
        """Append one record."""
        self._file.write(json.dumps({"step": step, "time_s": round(time.time(), 3), **figures}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_steps(path: Path) -> list[dict[str, float]]:
    """The records of a step log; a line that a kill left unfinished is skipped."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


class StepProgress:
    """A bar on the terminal and a `StepLog` together, for loops that run in this process."""

    def __init__(self, name: str, path: Path, num_steps: int, first_step: int = 0) -> None:
        self._bar, self._log = progress_bar(), StepLog(path, first_step)
        self._task = self._bar.add_task(name, total=num_steps, completed=first_step, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._log.close()

    def step(self, step: int, **figures: float) -> None:
        """Record a finished step, which counts from 0."""
        self._log.write(step, **figures)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._bar.update(self._task, completed=step + 1, figures=shown)
