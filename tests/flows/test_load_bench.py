"""How the load benchmark counts: the model's time against time with something to do, memory that grows."""

import pytest

from flows.load_bench import busy_share, covered, growth_of
from serving.store.tables import Job


def job(created_s: float, started_s: float, sample: float, decode: float = 0.0) -> Job:
    """A finished one."""
    seconds = {"sample": sample, "decode": decode, "write": 9.0}
    return Job(created_s=created_s, started_s=started_s, completed_s=99.0, result={"seconds": seconds})


def test_overlaps_count_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6)]) == 4
    assert covered([]) == 0


def test_what_is_not_computed_while_somebody_waits_is_idle() -> None:
    assert busy_share([job(0, 0, 1.5, 0.5), job(0, 2, 2)]) == pytest.approx(1)
    assert busy_share([job(0, 0.5, 1.5), job(0, 2.5, 1.25, 0.25)]) == pytest.approx(3 / 4), "also claims and signing"
    assert busy_share([job(0, 0, 2), job(10, 10, 1.5, 0.5)]) == pytest.approx(1), "while nobody waits nothing counts"


def test_a_batch_counts_once() -> None:
    assert busy_share([job(0, 0, 1.5, 0.5), job(0, 0, 1.5, 0.5), job(1, 3, 1)]) == pytest.approx(3 / 4)


def test_memory_that_grows_after_the_first_minute_is_growth() -> None:
    assert growth_of([1, 5, *[10] * 18]) == 1
    assert growth_of([1, 5, *range(100, 118)]) > 1.1
