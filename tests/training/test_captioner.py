"""A captioner is judged by held-out clips that have captions of their own, and refused where it names them wrongly."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from data.catalog import write_table
from data.video import write_mp4
from data.workspace import Workspace
from model.captioner import STRUCTURE_KEYS
from model.config import digest_of
from model.errors import StageError
from training.captioner import refuse_below, train_captioner
from training.clips import is_held_out
from training.config import CaptionerTraining, CaptionField, Schedule

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
SHORT = CaptionerTraining(
    schedule=Schedule(num_steps=240, batch_size=8, lr=3e-3, warmup_steps=2), dim=32, num_layers=1, side_px=32,
    vocabulary=300, validation_fraction=0.25, minimum={"subject": 0.9},
)  # fmt: skip


def labelled(place: Workspace, *, truly: bool) -> list[dict[str, Any]]:
    """Forty clips of one colour each, whose captions say that colour, or one that has nothing to do with them."""
    rows = []
    for number in range(40):
        shown, other = list(COLOURS)[:: 1 if number % 2 else -1]
        clip_id = digest_of(f"clip {number}")
        said = shown if truly or int(clip_id[-1], 16) % 2 else other
        frames = np.full((8, 32, 32, 3), COLOURS[shown], np.uint8) + np.uint8(number)
        path = place.clips / f"{clip_id}.mp4"
        write_mp4(path, frames, 8)
        rows.append({
            "clip_id": clip_id, "bucket": "32x32x8", "fps": 8.0, "path": str(path.relative_to(place.root)),
            "digest": clip_id, "status": "kept", "sidecar_short": f"a {said} thing",
            "sidecar_dense": f"a {said} thing stays still",
            "sidecar_structured": json.dumps({"subject": f"{said} thing"}),
        })  # fmt: skip
    write_table(place.catalog / "clips.parquet", rows)
    return rows


def test_words_that_fit_the_clips_are_learned_and_counted(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    rows = labelled(place, truly=True)
    result = train_captioner(SHORT, place)
    assert result.gave["validation_clips"] == sum(is_held_out(row["clip_id"], 0.25) for row in rows) > 4
    assert result.gave["same_subject"] == 1.0
    assert "same_action" not in result.gave  # no clip says one
    assert (place.captioner / "stem.safetensors").is_file()


def test_a_captioner_that_names_held_out_clips_wrongly_is_refused_and_not_written(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    labelled(place, truly=False)
    with pytest.raises(StageError, match=r"writes the subject of \d+% of \d+ held-out clips .* asks for 90%"):
        train_captioner(SHORT, place)
    assert not place.captioner.exists()


def test_each_field_has_a_least_share_of_its_own() -> None:
    agreed = {"subject": 0.8, "action": 0.5}
    refuse_below({}, agreed, 10)
    refuse_below({"subject": 0.8, "action": 0.5}, agreed, 10)
    with pytest.raises(StageError, match="the action of 50% of 10"):
        refuse_below({"subject": 0.8, "action": 0.51}, agreed, 10)


def test_a_field_that_no_held_out_clip_has_cannot_pass() -> None:
    with pytest.raises(StageError, match="none of 0 held-out clips has a camera"):
        refuse_below({"camera": 0.5}, {}, 0)


def test_every_field_that_a_captioner_writes_can_be_asked_for() -> None:
    assert get_args(CaptionField) == STRUCTURE_KEYS
