"""Videos from videos, five deep, through the API: every file by every way out is trusted and names its parent (S11)."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from model.tiny import save_tiny_pipeline
from serving.config import ServeConfig
from serving.loader import load_model
from serving.store.jobs import JobTable
from serving.store.storage import FILE_NAMES
from serving.trust.provenance import inspect
from serving.worker import Worker

FEW = {"num_inference_steps": 2, "seed": 1}
DEPTH = 5


@pytest.fixture
def worker(config: ServeConfig, jobs: JobTable, shelf, tmp_path: Path) -> Iterator[Worker]:
    """A tiny real model: the painter makes nothing from a video."""
    save_tiny_pipeline(tmp_path / "tiny")
    made = Worker(
        config, name="tester", jobs=jobs, registry=shelf,
        load=lambda model, _: load_model(model._replace(weights_digest=""), tmp_path / "tiny"),
    )  # fmt: skip
    made.follow_aliases()
    yield made
    made.stop()


def ways_out(client: TestClient, video_id: str) -> Iterator[tuple[str, bytes]]:
    """Each file of a video as a client gets it: whole, and put together from ranges."""
    for variant, name in FILE_NAMES.items():
        path = f"/v1/videos/{video_id}/content?variant={variant}"
        whole = client.get(path).content
        half = len(whole) // 2
        parts = [client.get(path, headers={"range": f"bytes={span}"}) for span in (f"0-{half - 1}", f"{half}-")]
        assert [part.status_code for part in parts] == [206, 206]
        yield name, whole
        yield name, b"".join(part.content for part in parts)


def test_a_chain_of_remixes_is_trusted_by_every_way_out(client: TestClient, worker: Worker, tmp_path: Path) -> None:
    authority = client.get("/v1/provenance/authority").content
    body = {"prompt": "a red ball", "seconds": "0.5", "size": "32x32"} | FEW
    chain = [client.post("/v1/videos", json=body).json()["id"]]
    assert worker.run_one()
    for depth in range(DEPTH):
        remixed = client.post(f"/v1/videos/{chain[-1]}/remix", json={"prompt": f"a ball, {depth}"} | FEW)
        assert remixed.status_code == 200, remixed.text
        chain.append(remixed.json()["id"])
        assert worker.run_one()
    for video_id, parent in zip(chain, [None, *chain], strict=False):
        for name, content in ways_out(client, video_id):
            path = tmp_path / name
            path.write_bytes(content)
            verdict = inspect(path, authority)
            assert (verdict.state, verdict.title) == ("Trusted", video_id), (name, verdict)
            assert verdict.ingredients == ([parent] if parent else [])


def test_pictures_are_trusted_too(client: TestClient, working: None, tmp_path: Path) -> None:
    reply = client.post("/v1/images/generations", json={"prompt": "a red ball", "size": "32x32", "n": 2} | FEW)
    assert reply.status_code == 200, reply.text
    for picture in reply.json()["data"]:
        path = tmp_path / "picture.webp"
        path.write_bytes(base64.b64decode(picture["b64_json"]))
        assert inspect(path, client.get("/v1/provenance/authority").content).state == "Trusted"
