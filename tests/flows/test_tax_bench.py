"""How the API's tax is reckoned from rounds of noisy times."""

import numpy as np
import pytest

from flows.tax_bench import ratio_of_rounds


def test_the_ratio_is_that_of_the_rounds_although_the_machine_grows_slower() -> None:
    paces = [1.1**step for step in range(9)]  # a peer's round, one of ours, a peer's round ...
    peers = [[pace, 99.0, pace * 0.9] for pace in paces[::2]]
    ours = [[1.02 * pace, 99.0, 1.02 * pace * 0.9] for pace in paces[1::2]]
    assert ratio_of_rounds(ours, peers) == pytest.approx((1.02, 1.02, 1.02))


def test_the_interval_holds_the_true_ratio_and_narrows_with_the_rounds() -> None:
    rng = np.random.default_rng(1)

    def interval(num_rounds: int) -> tuple[float, float]:
        times = rng.lognormal(0, 0.05, (2 * num_rounds + 1, 5))
        _, low, high = ratio_of_rounds(times[1::2] * 1.1, times[::2])
        return low, high

    intervals = [interval(20) for _ in range(40)]
    for num_rounds in (8, 30):
        holding = [low <= 1.1 <= high for low, high in (interval(num_rounds) for _ in range(300))]
        assert 0.91 <= np.mean(holding) <= 0.99
    widths = [high - low for low, high in intervals]
    few, many = interval(5), interval(80)
    assert many[1] - many[0] < np.mean(widths) < few[1] - few[0]
