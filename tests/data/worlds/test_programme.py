import numpy as np
import pytest
from pydantic import ValidationError

from data.worlds.config import FilmsConfig
from data.worlds.programme import TICKS_PER_S, plan_films


@pytest.fixture(scope="module")
def plans():
    return plan_films(FilmsConfig(num_films=20, shots_per_film=9, seed=4))


def test_films_differ_in_aspect_and_rate(plans):
    assert len({(plan.frame.width, plan.frame.height) for plan in plans}) == 3
    rates = [plan.fps for plan in plans]
    assert {12, 16, 24, None} < set(rates)
    assert rates.count(8) >= 0.75 * len(rates)
    assert [plan.rotation_deg for plan in plans].count(90) == 1


def test_shots_follow_one_another_and_last_two_seconds_and_a_little(plans):
    for plan in plans:
        end_tick = 0
        for shot in plan.shots:
            assert shot.start_tick == end_tick
            assert 2.1 <= shot.end_s - shot.start_s <= 2.6
            assert shot.ticks[0] == 0
            assert shot.ticks[-1] < shot.num_ticks
            end_tick += shot.num_ticks


def test_frame_times_are_even_except_in_the_variable_film(plans):
    for plan in plans:
        times = np.concatenate([shot.times_s for shot in plan.shots])
        steps = np.unique(np.round(np.diff(times) * TICKS_PER_S).astype(int))
        assert (len(steps) > 1) if plan.fps is None else (steps.tolist() == [TICKS_PER_S // plan.fps])


def test_neighbouring_shots_have_different_floors(plans):
    pairs = [
        (shot.plan.attributes.floor, following.plan.attributes.floor)
        for plan in plans
        for shot, following in zip(plan.shots, plan.shots[1:], strict=False)
    ]
    assert sum(one == other for one, other in pairs) <= 0.02 * len(pairs)


def test_no_shot_shows_a_held_out_combination(plans):
    assert not any(shot.plan.attributes.is_held_out for plan in plans for shot in plan.shots)


@pytest.mark.parametrize(("fraction", "num"), [(0.5, 10), (0.25, 5), (0.0, 0)])
def test_the_labelled_fraction_is_kept(fraction, num):
    plans = plan_films(FilmsConfig(num_films=20, shots_per_film=1, labelled_fraction=fraction))
    assert sum(plan.is_labelled for plan in plans) == num


def test_more_than_half_labelled_is_refused():
    with pytest.raises(ValidationError):
        FilmsConfig(labelled_fraction=0.6)


def test_more_films_leave_the_earlier_ones_as_they_are(plans):
    more = plan_films(FilmsConfig(num_films=24, shots_per_film=9, seed=4))
    assert more[:20] == plans
    assert plan_films(FilmsConfig(num_films=20, shots_per_film=9, seed=5)) != plans
