"""The probe: learns what is there to learn, and scores are what they say."""

from pathlib import Path

import numpy as np
import torch

from model.captioner import prepare
from training.config import Schedule
from training.probe import Lesson, Probe, accuracy, fit_probe

VOCABULARY = {"colour": ("red", "blue"), "side": ("left", "right")}


def _clip(colour: str, side: str) -> np.ndarray:
    clip = np.full((8, 64, 64, 3), 128, np.uint8)
    columns = slice(4, 24) if side == "left" else slice(40, 60)
    clip[:, 20:40, columns] = (230, 20, 20) if colour == "red" else (20, 20, 230)
    return clip


def test_the_probe_learns_and_is_loaded_again(tmp_path: Path) -> None:
    truth = [{"colour": colour, "side": side} for colour in ("red", "blue") for side in ("left", "right")] * 4
    clips = [_clip(**attributes) for attributes in truth]
    torch.manual_seed(0)
    probe = Probe(VOCABULARY, dim=32)
    schedule = Schedule(num_steps=40, batch_size=16, lr=3e-3, warmup_steps=2)
    fit_probe(probe, [Lesson(prepare(clips), truth)], schedule, tmp_path / "probe.jsonl")
    assert accuracy(probe.read(clips), truth)["all"] == 1
    votes = [accuracy(probe.read([np.roll(clip, shift, axis=2) for clip in clips]), truth)["all"] for shift in (-3, 3)]
    assert votes == [1, 1], "a little to the side is the same clip"
    probe.save(tmp_path / "probe.safetensors")
    loaded = Probe.load(tmp_path / "probe.safetensors")
    assert loaded.read(clips) == probe.read(clips)
    assert (loaded.vocabulary.keys(), loaded.side_px) == (VOCABULARY.keys(), probe.side_px)


def test_accuracy_counts_each_attribute_and_all_together() -> None:
    seen = [{"a": "x", "b": "y"}, {"a": "x", "b": "z"}]
    asked = [{"a": "x", "b": "y"}, {"a": "x", "b": "y"}]
    assert accuracy(seen, asked) == {"a": 1.0, "b": 0.5, "all": 0.5}
