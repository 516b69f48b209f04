"""Prompt expansion: what is named is kept, what is not is filled in the same way each time."""

import pytest

from data.prompts import expander, tabletop
from data.worlds.captions import dense_caption, every_combination
from model.errors import ConfigError


def test_a_dense_caption_says_the_same_again() -> None:
    for attributes in every_combination(max_count=3)[::37]:
        for variant in range(3):
            assert tabletop(dense_caption(attributes, variant)) == dense_caption(attributes)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("A red ball", ("red ball",)),
        ("a huge VIOLET box bounces", ("large purple cube", "jumps up and down")),
        ("yellow cone rolls to the right, camera zooms", ("yellow cone", "slides to the right", "camera zooms in")),
        ("the camera pans right over a falling blue can", ("blue cylinder", "falls from above", "pans right")),
        ("tiny cyan sphere on a chessboard", ("small cyan ball", "checkered floor")),
        ("can a red ball jump?", ("red ball", "jumps up and down")),
        ("Can you show a green can, please?", ("green cylinder",)),
        ("a blue can the camera pans right", ("blue cylinder",)),
        ("two green boxes fall", ("two", "green cubes fall from above")),
        ("3 small pink balls hop", ("three small pink balls jump up and down",)),
    ],
)
def test_what_is_named_is_kept(prompt: str, named: tuple[str, ...]) -> None:
    expanded = tabletop(prompt)
    assert all(words in expanded for words in named), expanded
    assert expanded == tabletop(prompt)


def test_what_an_edit_leaves_open_stays_as_it_was() -> None:
    before = tabletop("a red ball")
    assert tabletop("a blue ball", like="a red ball") == before.replace("red", "blue")
    assert tabletop("a blue cone", like=before) == before.replace("red ball", "blue cone")


def test_an_edit_need_not_name_the_object() -> None:
    before = tabletop("a red ball that jumps")
    assert tabletop("make it blue", like=before) == before.replace("red", "blue")
    assert "falls from above" in tabletop("it falls", like=before)
    assert tabletop("a city at night", like=before) == "a city at night"


def test_what_a_prompt_leaves_open_is_what_explains_the_video_best() -> None:
    shown = next(each for each in every_combination() if each.colour == "red" and each.shape == "cone")
    settled, asked = _read("a red cone", dense_caption(shown))
    assert settled == dense_caption(shown)
    assert all("red cone" in text for text in asked)
    assert _read("it jumps", dense_caption(shown)) == ("it jumps", [])
    assert _read("", dense_caption(shown))[0] == dense_caption(shown)
    assert _read(dense_caption(shown), "something else") == (dense_caption(shown), [])


def _read(prompt: str, shown: str) -> tuple[str, list[str]]:
    """What a prompt is read as from a video that is like the text `shown`, and all that was asked."""
    reading, asked, misfits = tabletop.reading(prompt), [], None
    try:
        while True:
            texts = reading.send(misfits)
            asked += texts
            misfits = [len(set(text.split()) ^ set(shown.split())) for text in texts]
    except StopIteration as done:
        return done.value, asked


def test_a_prompt_of_another_world_stays() -> None:
    assert tabletop("a city at night in the rain") == "a city at night in the rain"


def test_expanders_go_by_name() -> None:
    assert expander("")("a red ball") == "a red ball"
    assert expander("tabletop") is tabletop
    with pytest.raises(ConfigError, match="tabletop"):
        expander("unknown")
