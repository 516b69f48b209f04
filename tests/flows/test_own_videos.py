"""The recipe for a folder of somebody's own videos: which captions it has, and that nothing needs a truth."""

from pathlib import Path

import pytest

from data.workspace import Workspace
from flows.own_videos import check_captions, own_videos
from flows.presets import PRESETS
from model.errors import ConfigError
from training.registry import failed_gates


@pytest.fixture(autouse=True)
def nothing_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("preset", PRESETS)
def test_no_gate_asks_for_what_nobody_can_know(tmp_path: Path, preset: str) -> None:
    recipe = own_videos(tmp_path, base=PRESETS[preset]())
    assert failed_gates(recipe.registry, Workspace(tmp_path)) == []
    assert recipe.registry.name == PRESETS[preset]().registry.name


def test_captions_are_those_beside_a_video(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "Film.MP4").touch()
    (tmp_path / "notes.txt").write_text("bring milk")
    recipe = own_videos(tmp_path)
    assert recipe.captioner is None
    with pytest.raises(ConfigError, match="no captioner is there"):
        check_captions(recipe)
    (tmp_path / "inner" / "Film.txt").write_text("a ball")
    recipe = own_videos(tmp_path)
    assert recipe.captioner is not None
    check_captions(recipe)


def test_no_captioner_is_refused_because_own_words_differ(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    (tmp_path / "film.txt").write_text("a ball")
    base = PRESETS["starter"]()
    assert base.captioner is not None
    assert base.captioner.minimum
    recipe = own_videos(tmp_path, base=base)
    assert recipe.captioner is not None
    assert recipe.captioner.minimum == {}
