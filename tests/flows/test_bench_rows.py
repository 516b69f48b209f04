"""When a benchmark's row holds."""

from flows.bench_rows import at_least_share, at_most, half_of


def test_a_share_holds_from_its_goal_on() -> None:
    four_of_five = [True] * 4 + [False]
    assert at_least_share("x", four_of_five, [False], "y").holds
    assert not at_least_share("x", four_of_five, [False], "y", goal=0.9).holds
    row = at_least_share("x", four_of_five, [True, False], "y")
    assert (row.ours, row.peer, row.goal) == (80.0, 50.0, "at least 80 %")


def test_a_limit_holds_up_to_itself() -> None:
    assert at_most("x", 2.0, 2, 9.0, "y", unit="px").holds
    assert not at_most("x", 2.01, 2, 9.0, "y", unit="px").holds
    assert at_most("x", 2.0, 2, 9.0, "y", unit="px").goal == "at most 2 px"
    assert at_most("x", 1.0, 1.2, 9.0, "y").goal == "at most 1.2"


def test_half_of_the_naive_error_is_enough() -> None:
    assert half_of("x", 1.0, 2.0, "y").holds
    assert not half_of("x", 1.1, 2.0, "y").holds
