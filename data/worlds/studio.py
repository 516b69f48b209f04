"""Draws one film with all that lies beside it: the work of a renderer process."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import replacing
from data.worlds.camera import FrameSize
from data.worlds.film_writer import FilmWriter
from data.worlds.programme import TICKS_PER_S, FilmPlan, FilmShot
from data.worlds.tabletop import Tabletop
from data.worlds.truth import film_truth, shot_truth, sidecar_text, truth_text


def render_film(plan: FilmPlan, films_dir: Path, truth_dir: Path) -> str:
    """Writes the film, its captions if it has any, and last its truth; gives the film's name.

    Raises:
        CapacityError: this machine cannot draw without a display.
    """
    with replacing(films_dir / f"{plan.name}.mp4") as partial:
        shots = _render(plan, partial)
        video_digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    sidecar = films_dir / f"{plan.name}.captions.json"
    if plan.is_labelled:
        with replacing(sidecar) as partial:
            partial.write_text(sidecar_text(plan))
    else:
        sidecar.unlink(missing_ok=True)
    with replacing(truth_dir / f"{plan.name}.json") as partial:
        partial.write_text(truth_text(film_truth(plan, shots, video_digest)))
    return plan.name


@lru_cache
def _tabletop(frame: FrameSize) -> Tabletop:
    """One scene per picture size for the life of the process."""
    return Tabletop(frame)


def _render(plan: FilmPlan, path: Path) -> list[dict[str, Any]]:
    tabletop = _tabletop(plan.frame)
    rate = plan.fps or TICKS_PER_S
    size = {"width": plan.frame.width, "height": plan.frame.height}
    shots: list[dict[str, Any]] = []
    with FilmWriter(path, **size, rate=rate, crf=plan.crf, rotation_deg=plan.rotation_deg) as writer:
        for shot in plan.shots:
            take = tabletop.shoot(shot.plan, shot.ticks)
            times, durations = _stored_times(shot, TICKS_PER_S // rate)
            writer.write(take.frames, times, durations)
            shots.append(shot_truth(shot, take.boxes_px, take.centres_px))
    return shots


def _stored_times(shot: FilmShot, ticks_per_unit: int) -> tuple[list[int], list[int]]:
    """When each frame comes on and how long it stays, in the film's own time unit."""
    edges = np.array([*shot.ticks, shot.num_ticks])
    times = (shot.start_tick + edges) // ticks_per_unit
    return times[:-1].tolist(), np.diff(times).tolist()
