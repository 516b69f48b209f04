import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sidecars import SidecarCaption, caption_for, read_sidecar
from model.errors import SourceError


def caption(start_s: float, end_s: float, text: str = "a red ball rolls") -> SidecarCaption:
    return SidecarCaption(start_s=start_s, end_s=end_s, short=text, dense=text)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return tmp_path / "film.mp4"


def write_json(film: Path, content: object) -> None:
    film.with_suffix(".captions.json").write_text(json.dumps(content))


def test_spans_are_read_with_their_structure(film: Path):
    entry = {"start_s": 0.0, "end_s": 2.1, "short": "a ball", "dense": "a red ball", "structured": {"colour": "red"}}
    write_json(film, {"captions": [entry], "world": "tabletop"})
    assert read_sidecar(film) == [SidecarCaption.model_validate(entry)]


def test_text_captions_the_whole_film(film: Path):
    film.with_suffix(".txt").write_text("  two dogs\n run ")
    captions = read_sidecar(film)
    found = caption_for(captions, 100.0, 102.0, 0.9)
    assert found is not None
    assert (found.short, found.dense) == ("two dogs run", "two dogs run")


def test_no_sidecar_is_no_error_and_json_wins_over_text(film: Path):
    assert read_sidecar(film) == []
    film.with_suffix(".txt").write_text("from text")
    write_json(film, {"captions": []})
    assert read_sidecar(film) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"captions": [{"start_s": 2, "end_s": 2, "short": "a", "dense": "a"}]}, "captions.0.*empty"),
        ({"captions": [{"start_s": 0, "end_s": 2, "short": "a"}]}, "captions.0.dense"),
        ({"captions": "none"}, "captions"),
        ([], "the file"),
    ],
)
def test_a_malformed_sidecar_says_where(film: Path, content: object, message: str):
    write_json(film, content)
    with pytest.raises(SourceError, match=message):
        read_sidecar(film)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_rubbish_is_refused(film: Path, content: bytes):
    film.with_suffix(".captions.json").write_bytes(content)
    with pytest.raises(SourceError, match=r"film\.captions\.json"):
        read_sidecar(film)


def test_an_empty_text_is_refused(film: Path):
    film.with_suffix(".txt").write_text(" \n")
    with pytest.raises(SourceError, match="empty"):
        read_sidecar(film)


def test_a_clip_takes_the_caption_that_covers_it():
    captions = [caption(0.0, 2.0, "first"), caption(2.0, 4.0, "second")]
    found = caption_for(captions, 2.1, 4.1, 0.9)
    assert found is not None
    assert found.short == "second"
    assert caption_for(captions, 1.0, 3.0, 0.9) is None
    assert caption_for([], 0.0, 2.0, 0.9) is None


@given(start=st.floats(0, 10), end=st.floats(10.1, 20), clip=st.floats(-5, 25))
def test_a_caption_never_goes_to_a_clip_that_it_covers_less(start: float, end: float, clip: float):
    found = caption_for([caption(start, end)], clip, clip + 2, 0.9)
    covered = (min(end, clip + 2) - max(start, clip)) / 2
    assert (found is not None) == (covered >= 0.9 - 1e-9) or abs(covered - 0.9) < 1e-9
