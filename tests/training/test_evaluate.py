"""What captions say, word by word."""

import pytest

from training.evaluate import says


@pytest.mark.parametrize(
    ("caption", "words", "found"),
    [
        ("a blue ball on a checkered floor", "red", False),
        ("a red ball on a checkered floor", "red", True),
        ("a large ball, the camera pans left", "the camera pans left", True),
        ("two small cubes", "a small", False),
        ("a small cube", "a small", True),
    ],
)
def test_words_are_whole(caption: str, words: str, found: bool) -> None:
    assert says(caption, words) == found
