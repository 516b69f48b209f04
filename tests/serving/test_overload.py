"""More than the server takes: what is refused leaves no trace, and what is admitted is exactly the limit (S9)."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.admission import LONGEST_ADVICE_S, Quota
from serving.store.jobs import JobTable
from serving.store.keys import KeyTable
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}
NUM_CLIENTS, LIMIT = 50, 20


@pytest.fixture
def crowd(config: ServeConfig, worker: Worker) -> Iterator[TestClient]:
    """A client of a server whose queue takes `LIMIT` videos and whose worker does not work."""
    with TestClient(
        create_app(config.model_copy(update={"max_queued_jobs": LIMIT})), base_url="http://127.0.0.1"
    ) as client:
        yield client


def ask_at_once(client: TestClient, headers: dict[str, str]) -> list[httpx.Response]:
    """The replies to as many clients as ask together."""
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        asked = [pool.submit(client.post, "/v1/videos", json=A_VIDEO, headers=headers) for _ in range(NUM_CLIENTS)]
        return [reply.result() for reply in asked]


def check_refusals(replies: list[httpx.Response], jobs: JobTable, code: str, owner: str = "") -> None:
    """`LIMIT` were taken, and those alone have a row; the others are told why and when to come back."""
    assert Counter(reply.status_code for reply in replies) == {200: LIMIT, 429: NUM_CLIENTS - LIMIT}
    refused = [reply for reply in replies if reply.status_code == 429]
    assert {reply.json()["error"]["code"] for reply in refused} == {code}
    assert all(0 < float(reply.headers["retry-after"]) <= LONGEST_ADVICE_S for reply in refused)
    taken = {reply.json()["id"] for reply in replies if reply.status_code == 200}
    assert {job.id for job in jobs.list(owner, limit=1000).jobs} == taken


def test_a_full_queue_takes_no_more_than_its_length(crowd: TestClient, jobs: JobTable) -> None:
    check_refusals(ask_at_once(crowd, {}), jobs, "queue_full")


@pytest.mark.parametrize(
    ("quota", "code"),
    [(Quota(max_per_minute=LIMIT), "rate_limit_exceeded"), (Quota(max_active=LIMIT), "quota_exceeded")],
)
def test_an_owner_gets_no_more_than_the_quota(
    config: ServeConfig, worker: Worker, jobs: JobTable, quota: Quota, code: str
) -> None:
    made = KeyTable(jobs.database).create("crowd", quota=quota)
    with TestClient(create_app(config), base_url="http://127.0.0.1") as client:
        check_refusals(ask_at_once(client, {"authorization": f"Bearer {made.secret}"}), jobs, code, made.key.owner)
