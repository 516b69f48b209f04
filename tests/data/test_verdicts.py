import numpy as np
import pytest

from data.config import ClipThresholds
from data.score import score_clip
from data.verdicts import drop_reason

ORDINARY = score_clip(np.random.default_rng(0).integers(60, 200, (4, 32, 32, 3), dtype=np.uint8))


def test_an_ordinary_clip_is_kept():
    assert drop_reason(ORDINARY, ClipThresholds()) is None


@pytest.mark.parametrize(
    ("score", "value", "threshold", "reason"),
    [
        ("exposure", 0.01, {}, "too dark"),
        ("exposure", 0.99, {}, "too bright"),
        ("border", 0.3, {}, "black bars"),
        ("motion", 0.001, {"min_motion": 0.01}, "too static"),
        ("motion", 0.5, {"max_motion": 0.3}, "too restless"),
        ("sharpness", 3.0, {"min_sharpness": 10}, "blurred"),
        ("overlay_text", 0.2, {"max_overlay_text": 0.1}, "overlaid text"),
    ],
)
def test_each_threshold_has_its_reason(score: str, value: float, threshold: dict[str, float], reason: str):
    scores = ORDINARY.model_copy(update={score: value})
    assert drop_reason(scores, ClipThresholds(**threshold)) == reason
