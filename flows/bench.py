"""Benchmarks: each measures one claim and says whether it holds; docs/benchmarks.md is made from the results."""

import logging
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import Field, ValidationError

from data.atomic import replacing
from flows.home import home
from flows.lazy import resolve
from model.config import Config
from model.errors import ConfigError
from model.precision import compute_dtype

log = logging.getLogger(__name__)

PAGE = Path("docs/benchmarks.md")

BENCHMARKS: dict[str, str] = {
    "ablations": "flows.ablation_bench:ablations",
    "attention": "flows.training_bench:attention",
    "autoencoder": "flows.autoencoder_bench:autoencoder",
    "changes": "flows.change_bench:changes",
    "demo": "flows.demo_bench:demo",
    "edits": "flows.edits_bench:edits",
    "load": "flows.load_bench:load",
    "native-aspect": "flows.ablation_bench:native_aspect",
    "rolling": "flows.rolling_bench:rolling",
    "serving-tax": "flows.tax_bench:tax",
    "starter": "flows.starter_bench:starter",
    "starter-lengths": "flows.length_bench:longer",
    "starter-sizes": "flows.size_bench:sizes",
    "starter-steps": "flows.starter_bench:steps",
    "streaming": "flows.streaming_bench:streaming",
    "tasks": "flows.task_bench:tasks",
    "training-step": "flows.training_bench:training_step",
}
"""Name -> `module:function`; the function takes nothing and returns measurements by row, "" for the only one."""

HEAD = """# Benchmarks

Made by `skyloom bench` from `artifacts/bench/*.json`; do not edit. Each row names the command that repeats it.

| benchmark | what | ours | against | ratio | goal | holds | machine | date | command |
|---|---|---:|---:|---:|---|---|---|---|---|
"""


class Measurement(Config):
    """What a benchmark found: our figure, the figure it is held against, and the goal."""

    what: str = Field(description="what was measured, in one line")
    ours: float
    unit: str = Field(description="unit of both figures")
    peer: float | None = Field(default=None, description="the other's figure, or the limit that may not be passed")
    peer_name: str = Field(default="", description="who or what that is")
    goal: str = Field(description="what must hold, in words")
    holds: bool
    details: dict[str, float | int | str] = {}


class Result(Measurement):
    """A measurement with its circumstances, as it lies in artifacts/bench/NAME.json."""

    name: str
    ratio: float | None
    command: str
    machine: str
    measured_at: str

    @property
    def ours_text(self) -> str:
        """Our figure with its unit."""
        return f"{self.ours:,.4g} {self.unit}"

    @property
    def peer_text(self) -> str:
        """The other figure with its unit and owner."""
        return "" if self.peer is None else f"{self.peer:,.4g} {self.unit} ({self.peer_name})"


def run_benchmark(name: str) -> list[Result]:
    """Runs the benchmark and keeps each of its rows in artifacts/bench/NAME.json or NAME-ROW.json.

    Raises:
        ConfigError: there is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS) or 'none yet'}")
    log.info("benchmark %s", name)
    measure: Callable[[], dict[str, Measurement]] = resolve(BENCHMARKS[name])
    found = measure()
    for result in _results():
        if result.command == _command(name):  # a row that the benchmark does not give any more
            (_folder() / f"{result.name}.json").unlink()
    return [_keep(name, row, measurement) for row, measurement in found.items()]


def _command(benchmark: str) -> str:
    return f"skyloom bench {benchmark}"


def _keep(benchmark: str, row: str, found: Measurement) -> Result:
    name = "-".join(filter(None, (benchmark, row.replace(" ", "-"))))
    result = Result(
        **found.model_dump(),
        name=name,
        ratio=found.ours / found.peer if found.peer else None,
        command=_command(benchmark),
        machine=f"{machine()}, {str(compute_dtype()).removeprefix('torch.')}",
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with replacing(_folder() / f"{name}.json") as partial:
        partial.write_text(result.model_dump_json(indent=1) + "\n")
    return result


def write_page(page: Path = PAGE) -> Path:
    """Rewrites the page from every result; a benchmark that was not run here keeps its rows, if there still is one."""
    results = _results()
    elsewhere = {f"`{_command(name)}`" for name in BENCHMARKS} - {f"`{result.command}`" for result in results}
    old = {name: row for name, row in _old_rows(page).items() if row.split("|")[-2].strip() in elsewhere}
    rows = old | {result.name: _row(result) for result in results}
    with replacing(page) as partial:
        partial.write_text(HEAD + "".join(f"{rows[name]}\n" for name in sorted(rows)))
    return page


def machine() -> str:
    """This machine in a few words: cores, memory, system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{cores} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}"


def _folder() -> Path:
    return home() / "bench"


def _results() -> list[Result]:
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            found.append(Result.model_validate_json(path.read_text()))
        except ValidationError as error:
            log.warning("%s is not a benchmark's result and was left out: %s", path, error)
    return found


def _row(result: Result) -> str:
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
    holds = "yes" if result.holds else "**no**"
    cells = (
        result.name,
        result.what,
        result.ours_text,
        result.peer_text,
        ratio,
        result.goal,
        holds,
        result.machine,
        result.measured_at[:10],
        f"`{result.command}`",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _old_rows(page: Path) -> dict[str, str]:
    if not page.exists():
        return {}
    lines = page.read_text().splitlines()
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("| ") and "| what |" not in line}
