"""The embedded source: renders the tabletop's films into a folder, as anybody's videos would lie there."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from data.atomic import remove_partials, replacing
from data.stage import StageResult
from data.worlds.config import FilmsConfig
from data.worlds.programme import FilmPlan, plan_films
from data.worlds.studio import render_film
from data.worlds.truth import recipe_digest, sidecar_text, truth_text
from model.config import digest_of
from model.errors import StageError

logger = logging.getLogger(__name__)

# Where the truncated film breaks off.
_TRUNCATED_AT = 0.6


def render_films(
    config: FilmsConfig,
    films_dir: Path,
    truth_dir: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> StageResult:
    """All films of the settings, those that lie there whole kept as they are; the digest names all their bytes.

    Truth goes to `truth_dir` only, as `<film>.json`; films of other settings that this stage once made are removed.
    `on_progress` hears after each film how many of how many are done.

    Raises:
        CapacityError: MuJoCo cannot draw without a display on this machine.
        StageError: a renderer process died.
    """
    started = time.monotonic()
    plans = plan_films(config)
    for folder in (films_dir, truth_dir):
        folder.mkdir(parents=True, exist_ok=True)
        remove_partials(folder)
    missing = [plan for plan in plans if not _is_finished(plan, films_dir, truth_dir)]
    num_kept = len(plans) - len(missing)
    for num_done, name in enumerate(_rendered(missing, config, films_dir, truth_dir), num_kept + 1):
        logger.info("film %d of %d: %s", num_done, len(plans), name)
        if on_progress is not None:
            on_progress(num_done, len(plans))
    copies = _write_copies(config, plans, films_dir, truth_dir)
    names = [*(plan.name for plan in plans), *copies]
    _remove_others(names, films_dir, truth_dir)
    return _result(config, plans, missing, names, films_dir, time.monotonic() - started)


def _is_finished(plan: FilmPlan, films_dir: Path, truth_dir: Path) -> bool:
    try:
        truth = json.loads((truth_dir / f"{plan.name}.json").read_text())
        video_digest = _file_digest(films_dir / f"{plan.name}.mp4")
        sidecar = films_dir / f"{plan.name}.captions.json"
        captions = sidecar.read_text() if sidecar.exists() else None
    except (OSError, ValueError):
        return False
    expected = (recipe_digest(plan), video_digest, sidecar_text(plan) if plan.is_labelled else None)
    return (truth.get("recipe"), truth.get("video"), captions) == expected


def _rendered(plans: list[FilmPlan], config: FilmsConfig, films_dir: Path, truth_dir: Path) -> Iterator[str]:
    """Renders the films side by side and gives the name of each as it is done."""
    if not plans:
        return
    num_processes = min(config.num_processes or len(os.sched_getaffinity(0)), len(plans))
    # Long films first, so that no process is left with one at the end.
    plans = sorted(plans, key=lambda plan: -sum(len(shot.ticks) for shot in plan.shots))
    # Spawned, not forked: a GL context does not survive a fork.
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn"), initializer=_follow_parent) as pool:
        futures: list[Future[str]] = [pool.submit(render_film, plan, films_dir, truth_dir) for plan in plans]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise StageError(
                "a process that renders films ended on its own, perhaps for lack of memory; run the stage again "
                "(finished films are kept) with fewer processes (films.num_processes)"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _follow_parent() -> None:
    """Makes a renderer process end when its parent is killed, which the pool itself would not."""
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _write_copies(config: FilmsConfig, plans: list[FilmPlan], films_dir: Path, truth_dir: Path) -> list[str]:
    """The odd files that need no drawing: an exact duplicate of the first film, and the last one broken off."""
    copies: list[str] = []
    for wanted, plan, part in ((config.duplicate, plans[0], 1.0), (config.truncated, plans[-1], _TRUNCATED_AT)):
        if wanted:
            copies.append(f"film-{len(plans) + len(copies):03d}")
            _copy_film(plan.name, copies[-1], part, films_dir, truth_dir)
    return copies


def _copy_film(name: str, copy: str, part: float, films_dir: Path, truth_dir: Path) -> None:
    video = (films_dir / f"{name}.mp4").read_bytes()
    video = video[: int(len(video) * part)]
    truth: dict[str, Any] = json.loads((truth_dir / f"{name}.json").read_text())
    truth |= {"copy_of": name, "recipe": digest_of([truth["recipe"], part]), "video": hashlib.sha256(video).hexdigest()}
    (films_dir / f"{copy}.captions.json").unlink(missing_ok=True)
    _write(films_dir / f"{copy}.mp4", video)
    _write(truth_dir / f"{copy}.json", truth_text(truth).encode())


def _write(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        with replacing(path) as partial:
            partial.write_bytes(content)


def _remove_others(names: Iterable[str], films_dir: Path, truth_dir: Path) -> None:
    """Deletes films of earlier settings; a video without a truth file is not ours and stays."""
    for truth in sorted(truth_dir.glob("film-*.json")):
        if truth.stem not in set(names):
            for path in (films_dir / f"{truth.stem}.mp4", films_dir / f"{truth.stem}.captions.json", truth):
                path.unlink(missing_ok=True)


def _result(
    config: FilmsConfig,
    plans: list[FilmPlan],
    rendered: list[FilmPlan],
    names: list[str],
    films_dir: Path,
    took_s: float,
) -> StageResult:
    videos = [films_dir / f"{name}.mp4" for name in names]
    sidecars = [path for name in names if (path := films_dir / f"{name}.captions.json").exists()]
    files = sorted([*videos, *sidecars])
    num_drawn = _num_frames(rendered)
    return StageResult(
        digest=digest_of([[path.name, _file_digest(path)] for path in files]),
        outputs=files,
        took={"films": config.num_films, "shots_per_film": config.shots_per_film, "seed": config.seed},
        gave={
            "files": len(videos),
            "captioned_films": len(sidecars),
            "rendered_now": len(rendered),
            "shots": sum(len(plan.shots) for plan in plans),
            "frames": _num_frames(plans),
            "video_s": round(sum(plan.shots[-1].end_s for plan in plans), 1),
            "frames_per_s": round(num_drawn / took_s, 1) if rendered else 0.0,
            "seconds": round(took_s, 3),
            "bytes": sum(path.stat().st_size for path in videos),
        },
    )


def _num_frames(plans: Iterable[FilmPlan]) -> int:
    return sum(len(shot.ticks) for plan in plans for shot in plan.shots)


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
