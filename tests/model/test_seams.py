"""Made frames meet given ones: no step at the seam of a still scene, and nothing left of the correction farther on."""

import numpy as np
import pytest

from model.seams import FADE_FRAMES, Pinned, Seam, begun_where_calmest, met, met_around

LOSS = 9


def still(num_frames: int, grey: int) -> np.ndarray:
    return np.full((num_frames, 4, 6, 3), grey, np.uint8)


@pytest.mark.parametrize("num_frames", [1, 4, 12, 40])
def test_a_still_scene_leaves_and_arrives_without_a_step(num_frames):
    given, decoded = still(1, 100), still(num_frames, 100 - LOSS)
    seam = Seam(given[0], decoded[0])
    for made in (met(decoded, before=seam), met(decoded, after=seam)[::-1]):
        steps = np.abs(np.diff(np.concatenate([given, made]).astype(int), axis=0)).max(axis=(1, 2, 3))
        assert steps.max() <= LOSS / (FADE_FRAMES + 1) + 1 < LOSS
        assert np.array_equal(made[FADE_FRAMES:], decoded[FADE_FRAMES:])


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_pinned_pictures_are_met_as_given_ones_are_however_the_frames_come(cut: int) -> None:
    given, decoded = still(1, 100)[0], still(6, 100 - LOSS)
    pinned = Pinned({1: given})
    made = np.concatenate([pinned.put([part])[0] for part in (decoded[:cut], decoded[cut:]) if len(part)])
    assert np.array_equal(made[0], decoded[0])
    assert np.array_equal(made[1], given)
    assert np.array_equal(made[2:], met(decoded[2:], before=Seam(given, decoded[1])))
    assert made[2].min() > decoded[2].max()


def test_nothing_wraps_around_at_black_and_white():
    made = met(still(2, 250), before=Seam(still(1, 255)[0], still(1, 245)[0]))
    assert made.max() == 255
    made = met(still(2, 5), after=Seam(still(1, 0)[0], still(1, 10)[0]))
    assert made.min() == 0


def test_nothing_is_left_of_the_loss_where_what_was_there_has_gone():
    given, decoded, made = still(1, 100)[0], still(1, 100)[0], still(3, 100)
    given[1, 1], decoded[1, 1] = 210, 200  # something small, of which the decoder loses 10
    assert (met(made, before=Seam(given, decoded)) == 100).all()
    made[:, 1, 1] = 200
    assert (met(made, before=Seam(given, decoded))[:, 1, 1] > 204).all()


def test_without_a_seam_frames_stay_as_they_are():
    clip = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    assert np.array_equal(met(clip), clip)


def test_a_ring_begins_where_it_changes_least() -> None:
    ring = np.concatenate([still(1, grey) for grey in (100, 110, 121, 122, 112)])
    assert begun_where_calmest(ring)[:, 0, 0, 0].tolist() == [122, 112, 100, 110, 121]


@pytest.fixture
def region() -> np.ndarray:
    """The right half of a picture, in two frames."""
    is_made = np.zeros((2, 16, 24), bool)
    is_made[..., 12:] = True
    return is_made


def test_a_region_made_anew_takes_on_what_the_decoder_lost_around_it(region: np.ndarray) -> None:
    given, decoded = np.full((2, 16, 24, 3), 100, np.uint8), np.full((2, 16, 24, 3), 100 - LOSS, np.uint8)
    row = met_around(decoded, given, region)[1, 8, :, 0].astype(int)
    assert (row[:12] == 100).all()
    assert np.abs(np.diff(row)).max() < LOSS / 2
    assert (row[18:] == 100 - LOSS).all(), "farther in nothing is left of it"


def test_around_a_region_the_given_pixels_stay_to_the_last_bit(region: np.ndarray) -> None:
    given, made = np.random.default_rng(0).integers(0, 255, (2, 2, 16, 24, 3), dtype=np.uint8)
    met_up = met_around(made, given, region)
    assert np.array_equal(met_up[~region], given[~region])
    everywhere = np.ones_like(region)
    assert np.array_equal(met_around(made, given, everywhere), made), "nothing is given that it could meet"
