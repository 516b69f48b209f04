"""API keys: when one is needed, what it allows, how much may be asked for; test_tenants.py has who sees what."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from serving.config import ServeConfig
from serving.store.admission import FIRST_GUESS_S, Quota
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.keys import KeyTable, NewKey
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


@pytest.fixture
def keys(config: ServeConfig, jobs: JobTable) -> Iterator[KeyTable]:
    database = Database(config.database_url)
    yield KeyTable(database)
    database.close()


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.secret}"}


def test_health_needs_no_key(client: TestClient, keys: KeyTable) -> None:
    keys.create("some")
    assert client.get("/healthz").status_code == 200


def test_without_any_key_loopback_is_open_and_revoking_the_last_does_not_open_it_again(
    client: TestClient, keys: KeyTable
) -> None:
    assert client.get("/v1/videos").status_code == 200
    only = keys.create("only")
    assert client.get("/v1/videos").status_code == 401
    assert keys.revoke(only.key.id)
    assert not keys.revoke(only.key.id)
    assert client.get("/v1/videos").status_code == 401


def test_an_idempotency_key_is_the_callers_own(client: TestClient, worker: Worker, keys: KeyTable) -> None:
    ids = [
        client.post("/v1/videos", json=A_VIDEO, headers=bearer(key) | {"Idempotency-Key": "k"}).json()["id"]
        for key in (keys.create("a"), keys.create("b"))
    ]
    assert ids[0] != ids[1]


def test_scopes_limit_what_a_key_may_do(client: TestClient, worker: Worker, keys: KeyTable) -> None:
    reader = keys.create("reader", scopes=("read",))
    assert client.get("/v1/videos", headers=bearer(reader)).status_code == 200
    refused = client.post("/v1/videos", json=A_VIDEO, headers=bearer(reader))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")


def test_what_everybody_does_is_told_to_a_key_made_for_it_alone(client: TestClient, keys: KeyTable) -> None:
    usual, scraper = keys.create("usual"), keys.create("scraper", scopes=("metrics",))
    refused = client.get("/metrics", headers=bearer(usual))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert "skyloom_jobs" in client.get("/metrics", headers=bearer(scraper)).text
    assert client.get("/v1/videos", headers=bearer(scraper)).status_code == 403


def test_quotas_hold_and_make_no_row(client: TestClient, worker: Worker, keys: KeyTable, jobs: JobTable) -> None:
    few = keys.create("few", quota=Quota(max_active=2))
    replies = [client.post("/v1/videos", json=A_VIDEO, headers=bearer(few)) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 429, 429, 429]
    assert replies[-1].json()["error"]["code"] == "quota_exceeded"
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 120
    assert jobs.num_waiting() == 2
    assert worker.run_one()
    assert client.post("/v1/videos", json=A_VIDEO, headers=bearer(few)).status_code == 200


def test_the_minutes_quota_is_not_given_back_by_deleting(client: TestClient, worker: Worker, keys: KeyTable) -> None:
    hasty = keys.create("hasty", quota=Quota(max_per_minute=3))
    for _ in range(3):
        video = client.post("/v1/videos", json=A_VIDEO, headers=bearer(hasty)).json()
        client.delete(f"/v1/videos/{video['id']}", headers=bearer(hasty))
    refused = client.post("/v1/videos", json=A_VIDEO, headers=bearer(hasty))
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 50 <= int(refused.headers["retry-after"]) <= 60


def test_the_days_quota_counts_seconds_of_making(
    client: TestClient, worker: Worker, keys: KeyTable, jobs: JobTable
) -> None:
    poor = keys.create("poor", quota=Quota(max_compute_s_per_day=1e-9))
    assert client.post("/v1/videos", json=A_VIDEO, headers=bearer(poor)).status_code == 200
    assert worker.run_one()
    assert client.post("/v1/videos", json=A_VIDEO, headers=bearer(poor)).status_code == 429


def test_the_days_quota_counts_what_waits(client: TestClient, worker: Worker, keys: KeyTable, jobs: JobTable) -> None:
    poor = keys.create("poor", quota=Quota(max_compute_s_per_day=2.5 * FIRST_GUESS_S))
    replies = [client.post("/v1/videos", json=A_VIDEO, headers=bearer(poor)) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]
    while worker.run_one():
        pass
    # now it is known that a video takes no time here
    assert client.post("/v1/videos", json=A_VIDEO, headers=bearer(poor)).status_code == 200


def test_a_secret_is_nowhere_in_the_database(config: ServeConfig, keys: KeyTable) -> None:
    secret = keys.create("k").secret
    folder = config.storage.parent
    assert all(secret.encode() not in path.read_bytes() for path in folder.glob("jobs.db*"))
