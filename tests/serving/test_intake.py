"""Uploads as they are kept: each owner's own, whole or decoded again, in use as long as somebody needs them."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from data.video import write_mp4
from model.shapes import VideoShape
from serving.api.errors import ApiError
from serving.api.intake import Intake, Material, file_digest
from serving.config import ServeConfig
from serving.store.characters import MOST_CHARACTERS, CharacterTable
from serving.store.janitor import YOUNG_S, Janitor
from serving.store.jobs import JobTable
from serving.worker import Worker


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    ramp = np.arange(8, dtype=np.uint8)[:, None, None, None] * 20
    write_mp4(tmp_path / "film.mp4", np.broadcast_to(ramp, (8, 32, 48, 3)), 8)
    return (tmp_path / "film.mp4").read_bytes()


def take(intake: Intake, film: bytes, owner: str = "") -> Material:
    return intake.take(film, "video", [VideoShape(8, 32, 48)], fps=8, max_frames=8, param="video", owner=owner)


def test_owners_share_no_upload(tmp_path: Path, film: bytes) -> None:
    intake = Intake(tmp_path / "uploads")
    mine, again, theirs = take(intake, film, "a"), take(intake, film, "a"), take(intake, film, "b")
    assert mine == again
    assert mine.name != theirs.name
    assert max(len(mine.name), len(theirs.name)) <= 64
    assert file_digest(mine.name) == file_digest(theirs.name)


@pytest.mark.parametrize("num_bytes", [0, 10, 200])
def test_one_that_a_power_cut_left_is_decoded_again(tmp_path: Path, film: bytes, num_bytes: int) -> None:
    intake = Intake(tmp_path / "uploads")
    kept = take(intake, film)
    (path,) = (tmp_path / "uploads").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:num_bytes])
    assert take(intake, film) == kept
    assert path.read_bytes() == whole


def test_whoever_has_too_many_waits_and_others_do_not(tmp_path: Path, film: bytes) -> None:
    intake = Intake(tmp_path / "uploads", max_owner_bytes=1)
    take(intake, film, "a")
    take(intake, film, "a")  # nothing new
    with pytest.raises(ApiError, match="Too many uploads") as caught:
        take(intake, film + b"\0", "a")
    assert (caught.value.status, caught.value.headers["retry-after"]) == (429, "120")
    take(intake, film + b"\0", "b")


def test_a_video_keeps_the_frames_of_a_character_that_is_deleted_meanwhile(
    client: TestClient, worker: Worker, config: ServeConfig, jobs: JobTable, film: bytes
) -> None:
    made = client.post("/v1/videos/characters", data={"name": "n"}, files={"video": film}).json()
    (upload,) = config.uploads.glob("*.npy")
    old = time.time() - 10 * YOUNG_S
    os.utime(upload, (old, old))
    wanted = {"prompt": "p", "seconds": "1", "characters": [made["id"]]}
    assert client.post("/v1/videos", json=wanted).status_code == 200
    assert Janitor(config, jobs.database).sweep().uploads == 0
    upload.unlink()
    gone = client.post("/v1/videos", json=wanted)
    assert (gone.status_code, gone.json()["error"]["param"]) == (404, "characters")


def test_one_owner_has_only_so_many_characters(client: TestClient, jobs: JobTable, worker: Worker, film: bytes) -> None:
    characters, shape = CharacterTable(jobs.database), VideoShape(4, 32, 48)
    for _ in range(MOST_CHARACTERS):
        characters.create("n", "upload", shape, "")
    reply = client.post("/v1/videos/characters", data={"name": "n"}, files={"video": film})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many")
    characters.create("n", "upload", shape, "other")
