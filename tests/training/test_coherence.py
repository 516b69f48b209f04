"""Connected components of an asked colour."""

import numpy as np

from data.worlds.palette import COLOURS_RGB
from training.coherence import colour_mask, num_components, one_object_share, outline_change, palette_hues

HUES = palette_hues(COLOURS_RGB)


def _frame(*boxes: tuple[str, int, int, int]) -> np.ndarray:
    frame = np.full((64, 64, 3), 128, np.uint8)
    for colour, row, column, side in boxes:
        frame[row : row + side, column : column + side] = np.round(np.array(COLOURS_RGB[colour]) * 255)
    return frame


def test_every_colour_is_found_as_itself_alone_even_in_shadow() -> None:
    for colour in COLOURS_RGB:
        frame = _frame((colour, 20, 20, 10))
        for light in (1.0, 0.6):
            lit = (frame * light).astype(np.uint8)
            assert num_components(lit, colour, HUES) == 1
            assert sum(colour_mask(lit, other, HUES).sum() for other in COLOURS_RGB if other != colour) == 0


def test_pieces_are_counted_and_specks_are_not() -> None:
    assert num_components(_frame(("red", 5, 5, 8), ("red", 40, 40, 8)), "red", HUES) == 2
    assert num_components(_frame(("red", 5, 5, 8), ("red", 40, 40, 1)), "red", HUES) == 1
    assert num_components(_frame(("blue", 5, 5, 8)), "red", HUES) == 0


def test_the_share_counts_frames_with_exactly_one() -> None:
    whole, broken = _frame(("red", 5, 5, 8)), _frame(("red", 5, 5, 8), ("red", 40, 40, 8))
    clips = [np.stack([whole, whole]), np.stack([whole, broken])]
    assert one_object_share(clips, ["red", "red"], HUES) == 0.75


def test_an_outline_that_only_moves_does_not_change() -> None:
    moving = np.stack([_frame(("red", 5 + 3 * step, 5 + 2 * step, 10)) for step in range(6)])
    assert outline_change(moving, "red", HUES) < 0.01
    boiling = np.stack([_frame(("red", 20, 20, 10 + 4 * (step % 2))) for step in range(6)])
    assert 0.4 < outline_change(boiling, "red", HUES) < 0.6
    assert np.isnan(outline_change(moving, "blue", HUES))
