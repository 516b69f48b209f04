"""Several videos or pictures of one request: all or none, each with its own seed; a repeated request makes none."""

import base64
import io
import threading

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select

from serving.config import ServeConfig
from serving.store.admission import Quota
from serving.store.database import Database
from serving.store.events import ANNOUNCED
from serving.store.jobs import JobTable, NewJob
from serving.store.keys import KeyTable
from serving.store.tables import Delivery
from serving.store.webhooks import WebhookTable
from serving.trust.provenance import inspect
from serving.worker import Worker

A_PICTURE = {"operation": {"kind": "image"}, "inputs": {}}
A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


@pytest.mark.parametrize(("seed", "seeds"), [(2**31, [2**31, 2**31 + 1]), (2**63 - 1, [2**63 - 1, 0])])
def test_every_seed_that_is_taken_is_used(client: TestClient, worker: Worker, seed: int, seeds: list[int]) -> None:
    page = client.post("/v1/videos/variations", json=A_VIDEO | {"n": 2, "seed": seed}).json()
    assert [video["seed"] for video in page["data"]] == seeds


def test_variations_differ_in_their_seeds_only(client: TestClient, worker: Worker) -> None:
    page = client.post("/v1/videos/variations", json=A_VIDEO | {"n": 3, "seed": 5}).json()
    assert [video["seed"] for video in page["data"]] == [5, 6, 7]
    assert len({video["id"] for video in page["data"]}) == 3
    assert {video["prompt"] for video in page["data"]} == {"a red ball"}


@pytest.mark.parametrize("marks", [{"Idempotency-Key": "k"}, {"x-stainless-retry-count": "1"}])
def test_a_repeated_request_finds_its_variations(client: TestClient, worker: Worker, marks: dict[str, str]) -> None:
    first = {name: value for name, value in marks.items() if name != "x-stainless-retry-count"}
    pages = [client.post("/v1/videos/variations", json=A_VIDEO | {"n": 3}, headers=h).json() for h in (first, marks)]
    assert pages[0] == pages[1]


def test_the_longest_key_finds_its_variations(client: TestClient, worker: Worker, jobs: JobTable) -> None:
    pages = [
        client.post("/v1/videos/variations", json=A_VIDEO | {"n": 2}, headers={"Idempotency-Key": "k" * 255}).json()
        for _ in range(2)
    ]
    assert pages[0] == pages[1]
    assert jobs.num_waiting() == 2


def test_all_or_none(config: ServeConfig, client: TestClient, worker: Worker, jobs: JobTable) -> None:
    key = KeyTable(Database(config.database_url)).create("k", quota=Quota(max_active=3))
    headers = {"authorization": f"Bearer {key.secret}"}
    refused = client.post("/v1/videos/variations", json=A_VIDEO | {"n": 4}, headers=headers)
    assert refused.status_code == 429
    assert jobs.num_waiting() == 0
    assert client.post("/v1/videos/variations", json=A_VIDEO | {"n": 3}, headers=headers).status_code == 200


@pytest.mark.parametrize("n", [0, 17, "many"])
def test_a_number_that_is_too_large_or_none(client: TestClient, worker: Worker, n: object) -> None:
    reply = client.post("/v1/videos/variations", json=A_VIDEO | {"n": n})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "n")


def test_pictures_come_in_the_reply_and_are_not_kept(
    client: TestClient, working: None, config: ServeConfig, tmp_path
) -> None:
    reply = client.post("/v1/images/generations", json={"prompt": "a red ball", "size": "64x48", "n": 2, "seed": 1})
    assert reply.status_code == 200, reply.text
    pictures = [base64.b64decode(picture["b64_json"]) for picture in reply.json()["data"]]
    for content in pictures:
        assert Image.open(io.BytesIO(content)).size == (64, 48)
        path = tmp_path / "picture.webp"
        path.write_bytes(content)
        assert inspect(path, (config.identity / "authority.pem").read_bytes()).state == "Trusted"
    assert pictures[0] != pictures[1]
    assert client.get("/v1/videos").json()["data"] == []
    assert not list(config.storage.rglob("*.webp"))


def test_nobody_hears_of_a_picture_but_who_waits_for_it(
    config: ServeConfig, client: TestClient, worker: Worker, jobs: JobTable
) -> None:
    WebhookTable(jobs.database).create("", name="n", url="https://a.org/", event_types=list(ANNOUNCED))
    wanted = [NewJob(model="skyloom", prompt="p", seconds="0.125", size="48x32", settings=A_PICTURE | {"seed": seed})
              for seed in (1, 2)]  # fmt: skip
    done, failed = (job for job, _ in jobs.create_all(wanted))
    lease = jobs.claim("one", lease_s=60)
    assert lease
    assert lease.job.id == done.id
    assert jobs.complete(lease, {})
    lease = jobs.claim("one", lease_s=60)
    assert lease
    assert jobs.fail(lease, code="generation_failed", message="no")
    with jobs.database.read() as session:
        assert session.scalars(select(Delivery)).all() == []
    assert client.get("/v1/videos").json()["data"] == []
    for picture in (done, failed):
        assert client.get(f"/v1/videos/{picture.id}").status_code == 404
        assert client.get(f"/v1/videos/{picture.id}/content").status_code == 404


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("generation_failed", 500, {"x-should-retry": "false"}),
        ("insufficient_storage", 507, {"x-should-retry": "false"}),
        ("moderation_unavailable", 503, {"retry-after": "10"}),
    ],
)
def test_a_picture_that_fails_says_why_and_whether_to_ask_again(
    client: TestClient, jobs: JobTable, worker: Worker, code: str, status: int, advice: dict[str, str]
) -> None:
    def fail() -> None:
        lease = None
        while lease is None:
            lease = jobs.claim("one", lease_s=60)
        jobs.fail(lease, code=code, message="no")

    thread = threading.Thread(target=fail)
    thread.start()
    reply = client.post("/v1/images/generations", json={"prompt": "p"})
    thread.join()
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert advice.items() <= dict(reply.headers).items()


def test_a_picture_that_is_refused_is_an_error(client: TestClient, working: None) -> None:
    reply = client.post("/v1/images/generations", json={"prompt": "porn"})
    assert reply.json()["error"]["code"] == "moderation_blocked"
    assert client.post("/v1/images/generations", json={"prompt": "p", "output_format": "png"}).status_code == 400
