"""How the load benchmark counts: time under way against time with something to do."""

import pytest

from flows.load_bench import Span, busy_share, covered


def test_overlaps_count_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6)]) == 4
    assert covered([]) == 0


def test_waiting_while_nothing_is_made_is_idle() -> None:
    at_once = [Span(0, 0, 2), Span(1, 2, 4)]
    assert busy_share(at_once) == 1
    with_a_gap = [Span(0, 0, 2), Span(1, 3, 4)]
    assert busy_share(with_a_gap) == pytest.approx(3 / 4)
    nobody_asked = [Span(0, 0, 2), Span(10, 10, 12)]
    assert busy_share(nobody_asked) == 1
