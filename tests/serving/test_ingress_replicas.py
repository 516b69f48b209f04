"""Replicas of the API hold nothing of their own: whatever one was told, any other answers for."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from data.video import write_mp4
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32", "seed": 7}


@pytest.fixture
def replicas(config: ServeConfig, worker: Worker) -> Iterator[tuple[TestClient, TestClient]]:
    """Two of them, as Serve would start them: from the same settings."""
    del worker  # which makes the tables and says what is served
    with _client(config) as first, _client(config) as second:
        yield first, second


def _client(config: ServeConfig) -> TestClient:
    return TestClient(create_app(config), base_url="http://127.0.0.1")


def test_any_replica_answers_for_any_job(replicas: tuple[TestClient, TestClient], worker: Worker) -> None:
    first, second = replicas
    key = {"idempotency-key": "once"}
    made = first.post("/v1/videos", json=A_VIDEO, headers=key).json()
    assert second.post("/v1/videos", json=A_VIDEO, headers=key).json()["id"] == made["id"], "a retry elsewhere"
    path = f"/v1/videos/{made['id']}"
    assert second.get(path).json()["status"] == "queued"
    assert worker.run_one()
    for one, other in ((first, second), (second, first)):
        assert one.get(path).json() == other.get(path).json()
        assert one.get(f"{path}/content").content == other.get(f"{path}/content").content
        assert [video["id"] for video in one.get("/v1/videos").json()["data"]] == [made["id"]]
    remixed = second.post(f"{path}/remix", json={"prompt": "a blue ball"}).json()
    assert first.get(f"/v1/videos/{remixed['id']}").json()["remixed_from_video_id"] == made["id"]
    assert second.delete(path).json()["deleted"]
    assert first.get(path).status_code == 404


def test_what_one_was_sent_any_other_uses(replicas: tuple[TestClient, TestClient], tmp_path: Path) -> None:
    first, second = replicas
    write_mp4(tmp_path / "ball.mp4", np.zeros((8, 32, 48, 3), np.uint8), 8)
    sent = {"video": ("ball.mp4", (tmp_path / "ball.mp4").read_bytes(), "video/mp4")}
    character = first.post("/v1/videos/characters", data={"name": "ball"}, files=sent).json()
    assert second.get(f"/v1/videos/characters/{character['id']}").json() == character
    made = second.post("/v1/videos", json={"prompt": "it rolls", "characters": [character["id"]]})
    assert made.status_code == 200, made.text
