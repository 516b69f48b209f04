from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from data.normalize import Normalizer, cover_size, nearest_shape
from model.shapes import VideoShape

SHAPES = [VideoShape.parse(bucket) for bucket in ("64x64x16", "80x48x16", "48x80x16")]
SIZES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("width", "height", "bucket"),
    [(100, 100, "64x64x16"), (1920, 1080, "80x48x16"), (1080, 1920, "48x80x16"), (640, 272, "80x48x16"),
     (110, 100, "64x64x16"), (640, 480, "80x48x16"), (480, 640, "48x80x16")],
)  # fmt: skip
def test_the_nearest_aspect_is_chosen_on_a_log_scale(width: int, height: int, bucket: str):
    assert nearest_shape(width, height, SHAPES).bucket == bucket


@given(width=SIZES, height=SIZES, shape=st.sampled_from(SHAPES))
def test_the_scaled_picture_covers_the_bucket_and_touches_it(width: int, height: int, shape: VideoShape):
    scaled_width, scaled_height = cover_size(width, height, shape)
    assert scaled_width >= shape.width
    assert scaled_height >= shape.height
    assert scaled_width == shape.width or scaled_height == shape.height


def picture(image: np.ndarray) -> VideoFrame:
    return VideoFrame.from_ndarray(image, format="rgb24")


def test_a_wide_picture_is_cropped_at_its_centre():
    image = np.zeros((64, 192, 3), np.uint8)
    image[:, 64:128] = (200, 40, 40)
    shown = Normalizer([VideoShape(16, 64, 64)], 1)(picture(image))
    assert shown.shape == (64, 64, 3)
    assert np.abs(shown[:, 2:-2].astype(int) - (200, 40, 40)).max() <= 2


def test_scaling_down_averages_the_area():
    checkers = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    shown = Normalizer([VideoShape(16, 64, 64)], 1)(picture(np.repeat(checkers[..., None], 3, axis=2)))
    assert np.abs(shown.astype(int) - 127).max() <= 3


def test_pixels_that_are_not_square_count_as_wide_as_they_are_shown():
    normalizer = Normalizer(SHAPES, Fraction(16, 9))
    assert normalizer.shape_for(picture(np.zeros((100, 100, 3), np.uint8))).bucket == "80x48x16"
