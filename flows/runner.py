"""How a stage is run, or kept when an earlier run's receipt still holds."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data.atomic import replacing
from data.stage import StageResult
from data.workspace import Workspace
from flows.lazy import resolve
from flows.receipts import (
    Receipt,
    Timing,
    figures,
    is_valid,
    make_receipt,
    read_receipt,
    source_fingerprint,
    stage_key,
    write_receipt,
)
from flows.recipes import Recipe
from flows.stages import STAGES, Stage
from model.errors import ConfigError, SourceError, StageError
from model.weights import pipeline_folder, weights_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The receipt of a stage, and whether it was kept from an earlier run."""

    receipt: Receipt
    kept: bool


def stages_of(recipe: Recipe) -> list[Stage]:
    """The recipe's stages in order; a stage whose settings are None is left out."""
    return [stage for stage in STAGES.values() if getattr(recipe, stage.settings) is not None]


def source_folder(recipe: Recipe, workspace: Workspace) -> Path:
    """The folder of raw videos: the user's own, or the rendered films.

    Raises:
        SourceError: the user's folder does not exist.
    """
    if recipe.source is None:
        return workspace.films
    if not recipe.source.is_dir():
        raise SourceError(f"source {str(recipe.source)!r} is not a folder; give an existing folder of videos")
    return recipe.source.absolute()


def pending(recipe: Recipe, workspace: Workspace) -> list[Stage]:
    """The stages that have work to do: from the first whose receipt is void, all that build on it."""
    void: set[str] = set()
    for stage in stages_of(recipe):
        if void.intersection(stage.after) or kept_receipt(stage, recipe, workspace) is None:
            void.add(stage.name)
    return [stage for stage in stages_of(recipe) if stage.name in void]


def kept_receipt(stage: Stage, recipe: Recipe, workspace: Workspace) -> Receipt | None:
    """The stage's receipt when it still holds, else None."""
    try:
        key = _key(stage, recipe, workspace)
    except StageError:
        return None
    receipt = read_receipt(stage.name, workspace)
    return receipt if is_valid(receipt, key, workspace) else None


def run_stage(name: str, recipe: Recipe, workspace: Workspace) -> Outcome:
    """Runs the stage, or keeps it when its receipt holds.

    Raises:
        ConfigError: the recipe has no such stage.
        StageError: a stage before it has not run, or another process works in this workspace.
    """
    stage = STAGES.get(name)
    if stage is None or stage not in stages_of(recipe):
        known = ", ".join(stage.name for stage in stages_of(recipe))
        raise ConfigError(f"the recipe {recipe.name!r} has no stage {name!r}; it has {known}")
    workspace.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(workspace.root / ".lock", timeout=0):
            return _run_or_keep(stage, recipe, workspace)
    except Timeout:
        raise StageError(f"another process works in {workspace.root}; wait for it, or use another workspace") from None


def _run_or_keep(stage: Stage, recipe: Recipe, workspace: Workspace) -> Outcome:
    key = _key(stage, recipe, workspace)
    receipt = read_receipt(stage.name, workspace)
    if receipt and is_valid(receipt, key, workspace):
        log.info("%s: kept (made %s in %.0f s)", stage.name, receipt.started_at, receipt.seconds)
        return Outcome(receipt, kept=True)
    log.info("%s: %s", stage.name, stage.title)
    _forget_other_work(stage, recipe, workspace)
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    began = time.monotonic()
    result = _work(stage, recipe, workspace)
    receipt = make_receipt(stage.name, key, result, Timing(started_at, time.monotonic() - began), workspace.root)
    write_receipt(receipt, workspace)
    took, gave = figures(receipt.took), figures(receipt.gave)
    log.info(
        "%s: done in %.1f s%s%s",
        stage.name,
        receipt.seconds,
        took and f"; took {took}",
        gave and f"; gave {gave}",
    )
    return Outcome(receipt, kept=False)


def _forget_other_work(stage: Stage, recipe: Recipe, workspace: Workspace) -> None:
    """Deletes the stage's saved state unless it was saved from this very work, and notes that for the next time.

    Settings that the weights do not depend on (`training_digest`) leave a training's state as it is.
    """
    if not stage.state:
        return
    key, whole = _key(stage, recipe, workspace, of_state=True), _key(stage, recipe, workspace)
    note = workspace.receipts / f"{stage.name}.begun"
    if not note.exists() or note.read_text() not in (key, whole):  # once the whole key was noted
        for folder in (workspace.root / name for name in stage.state if (workspace.root / name).exists()):
            log.info("%s: %s was saved from other inputs or settings, and is deleted", stage.name, folder)
            shutil.rmtree(folder, ignore_errors=True)
    with replacing(note) as partial:
        partial.write_text(key)


def _key(stage: Stage, recipe: Recipe, workspace: Workspace, *, of_state: bool = False) -> str:
    """What the stage is made from; with `of_state`, what the state of its training is."""
    settings = getattr(recipe, stage.settings)
    active = {active.name for active in stages_of(recipe)}
    upstream = {name: _upstream_digest(name, stage, workspace) for name in stage.after if name in active}
    if stage.name == "curate":
        upstream["source"] = source_fingerprint(source_folder(recipe, workspace))
    upstream |= {name: weights_digest(folder) for name, folder in _weights_named(settings)}
    matters = getattr(settings, "training_digest", None) if of_state else None
    return stage_key(stage.name, stage.version, matters or settings.model_dump(mode="json"), upstream)


def _weights_named(settings: Any) -> Iterator[tuple[str, Path]]:
    """The weights that the settings name by a folder, which may hold others the next time."""
    if start_from := getattr(settings, "start_from", ""):
        yield "start_from", pipeline_folder(start_from)
    named = {name: getattr(settings, name, None) for name in ("autoencoder", "text_encoder")}
    named["backend"] = getattr(getattr(settings, "backend", None), "folder", None)
    for name, folder in named.items():
        if folder and Path(folder).is_dir():
            yield name, Path(folder)


def _upstream_digest(name: str, stage: Stage, workspace: Workspace) -> str:
    receipt = read_receipt(name, workspace)
    if receipt is None:
        what = f"stage {stage.name!r} builds on {name!r}, which has not run in {workspace.root}"
        raise StageError(f"{what}; run `skyloom {name}` first")
    return receipt.digest


def _work(stage: Stage, recipe: Recipe, workspace: Workspace) -> StageResult:
    call: Callable[..., StageResult] = resolve(stage.call)
    return call(getattr(recipe, stage.settings), *_places(stage, recipe, workspace))


def _places(stage: Stage, recipe: Recipe, workspace: Workspace) -> tuple[Any, ...]:
    """The folders that the stage's function takes after its settings."""
    if stage.name == "films":
        return workspace.films, workspace.truth
    if stage.name == "curate":
        return source_folder(recipe, workspace), workspace
    if stage.name == "showcase":
        return recipe, workspace
    return (workspace,)
