"""Each making command with a tiny real model: the file it writes, what it keeps, what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.video import read_frames, write_mp4
from flows.commands import champion
from flows.commands.generate import animate, blend, edit, extend, generate, join, loop, storyboard
from model.errors import ConfigError, DecodeError
from model.pipeline import SkyloomPipeline
from model.shapes import VideoShape
from model.tasks import Generate
from model.tiny import save_tiny_pipeline

Make = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("champion")
    save_tiny_pipeline(path)
    return path


@pytest.fixture
def made(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Runs a command and reads the file that it wrote."""
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))  # no run lies there, so the starter is taken: this folder
    monkeypatch.setattr(champion, "STARTER", folder)

    def run(command: Callable[[str, list[str]], None], *words: object) -> np.ndarray:
        out = tmp_path / "out.mp4"
        command(command.__name__, [*map(str, words), "-o", str(out), "--seed", "1", "--num_steps", "2"])
        return read_frames(out)

    return run


@pytest.fixture
def film(tmp_path: Path) -> Path:
    levels = np.linspace(20, 220, 64)
    frames = np.broadcast_to(levels[None, :, None, None], (16, 64, 64, 3)).astype(np.uint8)
    write_mp4(tmp_path / "film.mp4", frames, 8)
    return tmp_path / "film.mp4"


def test_a_prompt_at_any_length_and_size(made: Make) -> None:
    assert made(generate, "a red ball", "--seconds", "3", "--size", "32x48").shape == (24, 48, 32, 3)


def test_a_long_video_is_written_as_it_comes(made: Make, folder: Path, tmp_path: Path) -> None:
    assert len(made(generate, "a red ball", "--frames", "72", "--size", "32x32")) == 72
    task = Generate("a red ball", VideoShape(72, 32, 32))
    whole = SkyloomPipeline.from_pretrained(folder)(task, seed=1, num_steps=2)
    write_mp4(tmp_path / "whole.mp4", whole, 8)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_length_is_said_once(made: Make) -> None:
    with pytest.raises(ConfigError, match="--frames 72 say the length"):
        made(generate, "a red ball", "--frames", "72", "--seconds", "9")


def test_a_loop(made: Make) -> None:
    assert made(loop, "a red ball").shape == (16, 64, 64, 3)


def test_an_animation_begins_with_its_picture(made: Make, tmp_path: Path) -> None:
    Image.new("RGB", (90, 90), (200, 30, 30)).save(tmp_path / "image.png")
    frames = made(animate, tmp_path / "image.png", "it rolls")
    assert frames.shape == (16, 64, 64, 3)
    assert np.abs(frames[0].mean(axis=(0, 1)) - (200, 30, 30)).max() < 8


@pytest.mark.parametrize(("direction", "kept"), [("forward", slice(0, 16)), ("backward", slice(8, 24))])
def test_an_extension_keeps_the_video(made: Make, film: Path, direction: str, kept: slice) -> None:
    frames = made(extend, film, "it rolls", "--seconds", "1", "--direction", direction)
    assert len(frames) == 24
    assert np.abs(frames[kept].astype(int) - read_frames(film)).mean() < 12, "only what encoding costs"


def test_a_join_and_a_blend(made: Make, film: Path) -> None:
    assert len(made(join, film, film, "--seconds", "0.5")) == 36
    assert len(made(blend, film, film, "--first_prompt", "a ball", "--second_prompt", "a cube")) == 16


def test_an_edit_from_one_prompt_to_another(made: Make, film: Path) -> None:
    assert made(edit, film, "a blue ball", "--from", "a red ball").shape == (16, 64, 64, 3)


def test_a_storyboard(made: Make) -> None:
    assert len(made(storyboard, "1: a red ball falls", "1.5: a blue cube: it jumps")) == 20


def test_a_scene_begins_with_a_file(made: Make, film: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 90), (200, 30, 30)).save(tmp_path / "a picture.png")
    frames = made(storyboard, f"1 {tmp_path / 'a picture.png'}: it rolls", f"2.5 {film}: it jumps")
    assert len(frames) == 28
    assert np.abs(frames[0].mean(axis=(0, 1)) - (200, 30, 30)).max() < 8
    assert np.abs(frames[8:24].astype(int) - read_frames(film)).mean() < 12, "only what encoding costs"
    with pytest.raises(ConfigError, match="16 frames"):
        made(storyboard, f"1 {film}: it jumps")
    with pytest.raises(DecodeError, match="missing"):
        made(storyboard, "1 missing.mp4: it jumps")


@pytest.mark.parametrize("scene", ["a red ball", "2:", "x: a red ball"])
def test_a_scene_that_cannot_be_read_is_shown(made: Make, scene: str) -> None:
    with pytest.raises(ConfigError, match=r"scene|seconds"):
        made(storyboard, scene)
