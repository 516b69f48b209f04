"""What lies beside a film: captions for whoever trains, and the truth for whoever evaluates."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.worlds.captions import dense_caption, short_caption, structured_caption
from data.worlds.programme import FilmPlan, FilmShot
from model.config import digest_of


def sidecar_text(plan: FilmPlan) -> str:
    """The text of `<film>.captions.json`: each shot's span in seconds with its captions."""
    return _json({"captions": [_caption(shot) for shot in plan.shots]})


def _caption(shot: FilmShot) -> dict[str, Any]:
    attributes = shot.plan.attributes
    return {
        "start_s": shot.start_s,
        "end_s": shot.end_s,
        "short": short_caption(attributes, shot.short_variant),
        "dense": dense_caption(attributes, shot.dense_variant),
        "structured": structured_caption(attributes),
    }


def shot_truth(shot: FilmShot, boxes_px: np.ndarray, centres_px: np.ndarray) -> dict[str, Any]:
    """One shot's truth: span, attributes and, for each frame, its time and the object's box and centre in pixels.

    Pixels count from the upright picture's top left corner; a box is left, top, right, bottom.
    """
    return {
        "start_s": shot.start_s,
        "end_s": shot.end_s,
        "attributes": asdict(shot.plan.attributes),
        "times_s": [round(time_s, 6) for time_s in shot.times_s],
        "boxes_px": np.round(boxes_px, 1).tolist(),
        "centres_px": np.round(centres_px, 1).tolist(),
    }


def film_truth(plan: FilmPlan, shots: Sequence[dict[str, Any]], video_digest: str) -> dict[str, Any]:
    """The content of `<film>.json` in the truth folder; `recipe` and `video` prove that the film is the plan's."""
    return {
        "recipe": recipe_digest(plan),
        "video": video_digest,
        "copy_of": None,
        "width": plan.frame.width,
        "height": plan.frame.height,
        "fps": plan.fps,
        "rotation_deg": plan.rotation_deg,
        "shots": list(shots),
    }


def truth_text(truth: dict[str, Any]) -> str:
    """The truth as the text of its file."""
    return _json(truth)


def recipe_digest(plan: FilmPlan) -> str:
    """Names everything that decides a film's bytes here: its plan and the code that draws it."""
    return digest_of({"plan": asdict(plan), "code": _code_digest()})


@lru_cache
def _code_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"
