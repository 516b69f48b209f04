"""The judge's figures: intervals and distances say what they should."""

import numpy as np
import pytest

from training.frechet import frechet_distance, principal_axes
from training.judge import wilson_interval


def test_the_interval_holds_the_share_and_narrows_with_trials() -> None:
    for share in (0.0, 0.5, 0.97, 1.0):
        low, high = wilson_interval(share, 64)
        wide = high - low
        assert 0 <= low <= share <= high <= 1
        assert np.subtract(*reversed(wilson_interval(share, 1024))) < wide
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def test_the_distance_is_that_of_the_gaussians() -> None:
    draw = np.random.default_rng(0)
    first = draw.normal(size=(20_000, 3))
    second = draw.normal(size=(20_000, 3)) * 2 + np.array([1.0, 0.0, 0.0])
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(first, second) == pytest.approx(1 + 3 * (1 - 2) ** 2, rel=0.05)


def test_axes_are_those_of_the_largest_spread() -> None:
    features = np.random.default_rng(0).normal(size=(500, 4)) * np.array([0.1, 5.0, 0.1, 1.0])
    axes = principal_axes(features, 2)
    assert np.abs(axes).argmax(axis=0).tolist() == [1, 3]
