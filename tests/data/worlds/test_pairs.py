"""Pairs for edits: two colours in one picture, told apart, and films that stay as they were."""

from dataclasses import replace

import numpy as np
import pytest

from data.worlds.captions import Attributes
from data.worlds.choreography import plan_shot
from data.worlds.pairs import SQUARE, Pair, pairs
from data.worlds.palette import COLOURS_RGB
from data.worlds.tabletop import Tabletop
from training.coherence import colour_mask, palette_hues

HUES = palette_hues(COLOURS_RGB)


@pytest.fixture(scope="module")
def filmed() -> list[Pair]:
    return list(pairs(8, 5, num_frames=4, side_px=64, fps=8))


def test_each_pair_shows_its_two_colours_and_no_third(filmed: list[Pair]) -> None:
    for pair in filmed:
        assert pair.video.shape == (4, 64, 64, 3)
        assert pair.attributes.count == "two"
        assert pair.attributes.is_held_out
        for frame in pair.video:
            areas = {colour: int(colour_mask(frame, colour, HUES).sum()) for colour in HUES}
            shown = sorted(areas, key=lambda colour: -areas[colour])[:2]
            assert set(shown) == {pair.attributes.colour, pair.second_colour}
            assert sum(areas.values()) - areas[shown[0]] - areas[shown[1]] <= 0.1 * areas[shown[1]]


def test_the_second_colour_is_near_the_first_and_far_from_it(filmed: list[Pair]) -> None:
    colours = list(HUES)
    steps = {(colours.index(pair.second_colour) - colours.index(pair.attributes.colour)) % 8 for pair in filmed}
    assert steps == {1, 2, 3, 4, 5, 6, 7}


def test_a_group_without_a_second_colour_is_alike() -> None:
    attributes = Attributes("red", "cube", "large", "jumps", "white", "stays still", "two")
    plan = plan_shot(attributes, 2.0, 0.8, SQUARE, np.random.default_rng(0))
    with Tabletop(SQUARE) as tabletop:
        mixed = tabletop.shoot(replace(plan, second_colour="blue"), [0]).frames[0]
        alike = tabletop.shoot(plan, [0]).frames[0]
    assert colour_mask(mixed, "blue", HUES).any()
    assert not colour_mask(alike, "blue", HUES).any()
