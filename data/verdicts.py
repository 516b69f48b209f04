"""Which clips to keep: a view over stored scores, so that changing a threshold decodes nothing."""

from data.config import ClipThresholds
from data.records import Scores


def drop_reason(scores: Scores, thresholds: ClipThresholds) -> str | None:
    """Why a clip is dropped, the first reason in a fixed order; None to keep it."""
    checks = (
        ("too dark", scores.exposure < thresholds.min_exposure),
        ("too bright", scores.exposure > thresholds.max_exposure),
        ("black bars", scores.border > thresholds.max_border),
        ("too static", scores.motion < thresholds.min_motion),
        ("too restless", scores.motion > thresholds.max_motion),
        ("blurred", scores.sharpness < thresholds.min_sharpness),
        ("overlaid text", scores.overlay_text > thresholds.max_overlay_text),
    )
    return next((reason for reason, holds in checks if holds), None)
