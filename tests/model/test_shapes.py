"""Shapes: parsing, latent grids, refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigError
from model.shapes import Compression, VideoShape


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 4000))
def test_bucket_names_and_shapes_are_one_to_one(num_frames: int, height: int, width: int) -> None:
    shape = VideoShape(num_frames, height, width)
    assert VideoShape.parse(shape.bucket) == shape


@pytest.mark.parametrize("text", ["64x64", "axbxc", "64x64x16x2", "-8x8x8", ""])
def test_a_text_that_is_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="WIDTHxHEIGHTxFRAMES"):
        VideoShape.parse(text)


def test_latent_grid_divides_each_axis() -> None:
    assert VideoShape(16, 48, 80).latent(Compression()) == (4, 6, 10)


@given(st.integers(0, 64), st.integers(0, 64), st.integers(0, 64))
def test_only_whole_positive_multiples_have_a_latent_grid(num_frames: int, height: int, width: int) -> None:
    shape, fits = (
        VideoShape(num_frames, height, width),
        all(
            size > 0 and size % step == 0 for size, step in zip((num_frames, height, width), Compression(), strict=True)
        ),
    )
    if fits:
        assert shape.latent(Compression()).num_cells == num_frames * height * width // 256
    else:
        with pytest.raises(ConfigError, match="not a positive multiple"):
            shape.latent(Compression())


def test_a_scaled_shape_has_whole_steps_and_never_vanishes() -> None:
    assert VideoShape(16, 112, 112).scaled(4 / 7, 16) == VideoShape(16, 64, 64)
    assert VideoShape(16, 96, 160).scaled(0.6, 16) == VideoShape(16, 64, 96)
    assert VideoShape(16, 32, 32).scaled(0.01, 16) == VideoShape(16, 16, 16)
