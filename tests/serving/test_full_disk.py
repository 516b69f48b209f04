"""A disk that runs full at any point: typed errors, nothing lost, and work goes on once there is space (R9)."""

import errno
import os
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from data.sandbox import Sandbox
from data.video import write_mp4
from model.errors import DiskFullError
from serving.api.app import create_app
from serving.api.intake import LIMITS
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.trouble import is_full, unless_in_trouble
from serving.worker import Worker

Hire = Callable[[ServeConfig, JobTable], Worker]
A_VIDEO = {"prompt": "a red ball", "seconds": "2", "size": "48x32"}
FREE_BYTES = [4096 * number for number in (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB, which only root can make."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@contextmanager
def filled(disk: Path, free_bytes: int) -> Iterator[None]:
    """All but so many bytes of the disk are taken."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    room = status.f_bavail * status.f_frsize - free_bytes
    try:
        if room > 0:
            ballast.write_bytes(b"\0" * room)
        yield
    finally:
        ballast.unlink(missing_ok=True)


def clip_bytes(tmp_path: Path) -> bytes:
    """A small video to upload."""
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3)).astype(np.uint8)
    write_mp4(tmp_path / "clip.mp4", frames, 8)
    return (tmp_path / "clip.mp4").read_bytes()


def test_at_twenty_points_of_a_full_disk_nothing_is_lost(small_disk: Path, tmp_path: Path, hire: Hire) -> None:
    config = ServeConfig.at(
        small_disk / "serve", tracking_uri="unused", frame_check="off", lease_s=0.01, max_attempts=9
    )
    config.storage.mkdir(parents=True)
    jobs = JobTable(Database(config.database_url))
    worker = hire(config, jobs)
    upload, seen, taken = clip_bytes(tmp_path), Counter[int](), []
    with TestClient(create_app(config), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        before = client.post("/v1/videos", json=A_VIDEO).json()["id"]
        worker.run_one()
        for free_bytes in FREE_BYTES:
            with filled(small_disk, free_bytes):
                files = {"video": ("clip.mp4", upload, "video/mp4")}
                for reply in (
                    client.post("/v1/videos", json=A_VIDEO),
                    client.post("/v1/videos/extensions", data={"prompt": "on", "seconds": "1"}, files=files),
                ):
                    seen[reply.status_code] += 1
                    if reply.status_code == 200:
                        taken.append(reply.json()["id"])
                    else:
                        assert reply.json()["error"]["code"] == "insufficient_storage", reply.text
                unless_in_trouble(worker.run_one)
                assert client.get(f"/v1/videos/{before}/content").status_code == 200
        for _ in range(20 * len(taken)):
            worker.run_one()
        states = {client.get(f"/v1/videos/{job_id}").json()["status"] for job_id in taken}
        after = client.post("/v1/videos", json=A_VIDEO)
    assert seen[507] >= 5
    assert seen[200] >= 5
    assert states <= {"completed", "failed"}
    assert "completed" in states
    assert after.status_code == 200
    drafts = [path for path in config.storage.rglob("*") if path.name.startswith(".")]
    assert drafts == []
    jobs.database.close()


def test_an_upload_that_finds_no_space_is_not_the_files_fault(small_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(clip_bytes(tmp_path))
    asked = {"kind": "video", "shapes": [[8, 48, 64]], "fps": 8, "max_frames": 8, "path": str(source)}
    with Sandbox(LIMITS) as sandbox, filled(small_disk, 8192), pytest.raises(DiskFullError, match="free some"):
        sandbox.run("conform", **asked, out=str(small_disk / "out.npy"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_by_its_number(number: int) -> None:
    assert is_full(OSError(number, "full"))
    assert not is_full(OSError(errno.EACCES, "forbidden"))


def test_a_full_disk_is_known_under_the_database() -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert is_full(OperationalError("INSERT", {}, error))
    assert not is_full(OperationalError("INSERT", {}, sqlite3.OperationalError("locked")))


def test_other_errors_still_end_the_worker() -> None:
    def broken() -> bool:
        raise ValueError("not space")

    with pytest.raises(ValueError, match="not space"):
        unless_in_trouble(broken)
