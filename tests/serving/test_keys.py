"""API keys: who gets in, who sees what, how much may be asked for."""

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.admission import Quota
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.keys import KeyTable, NewKey
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}
ROUTES = [
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/skyloom"),
    ("GET", "/v1/videos"),
    ("POST", "/v1/videos"),
    ("GET", "/v1/videos/video_x"),
    ("DELETE", "/v1/videos/video_x"),
    ("GET", "/v1/videos/video_x/content"),
    ("POST", "/v1/videos/video_x/remix"),
    ("POST", "/v1/videos/edits"),
    ("POST", "/v1/videos/extensions"),
    ("POST", "/v1/videos/joins"),
    ("POST", "/v1/videos/blends"),
    ("POST", "/v1/videos/loops"),
    ("POST", "/v1/videos/storyboards"),
    ("POST", "/v1/videos/variations"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/videos/characters"),
    ("GET", "/v1/videos/characters/char_x"),
    ("GET", "/v1/videos/video_x/events"),
    ("GET", "/v1/provenance/authority"),
    ("GET", "/v1/webhook_event_types"),
    ("GET", "/v1/webhook_endpoints"),
    ("POST", "/v1/webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints/we_x"),
    ("POST", "/v1/webhook_endpoints/we_x"),
    ("DELETE", "/v1/webhook_endpoints/we_x"),
    ("POST", "/v1/webhook_endpoints/we_x/rotate_secret"),
    ("POST", "/v1/webhook_endpoints/we_x/test"),
]


@pytest.fixture
def keys(config: ServeConfig, jobs: JobTable) -> Iterator[KeyTable]:
    database = Database(config.database_url)
    yield KeyTable(database)
    database.close()


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.secret}"}


def test_the_list_of_routes_is_whole(config: ServeConfig, jobs: JobTable) -> None:
    paths = create_app(config).openapi()["paths"]
    served = {
        (method.upper(), re.sub(r"{\w+}", "*", path))
        for path, methods in paths.items()
        if path != "/healthz"
        for method in methods
    }
    assert served == {(method, re.sub(r"\w+_x$|\w+_x(?=/)|(?<=models/)skyloom", "*", path)) for method, path in ROUTES}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_once_there_is_a_key_every_route_needs_one(client: TestClient, keys: KeyTable, method: str, path: str) -> None:
    made, revoked, expired = (keys.create(name) for name in ("made", "revoked", "expired"))
    keys.revoke(revoked.key.id)
    expired = KeyTable(keys._database, clock=lambda: 1.0).create("expired", lifetime_s=5)
    bad = ["", "Bearer", "Bearer x", f"Basic {made.secret}", f"Bearer {made.secret}x"]
    for header in [*bad, *(f"Bearer {key.secret}" for key in (revoked, expired))]:
        reply = client.request(method, path, headers={"authorization": header})
        assert reply.status_code == 401, (header, reply.text)
        error = reply.json()["error"]
        assert error["code"] == "invalid_api_key"
        assert made.secret not in reply.text
    reply = client.request(method, path, headers=bearer(made))
    assert reply.status_code not in (401, 403, 500)


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


def test_off_loopback_nothing_is_open(config: ServeConfig, jobs: JobTable) -> None:
    public = config.model_copy(update={"host": "0.0.0.0"})
    with TestClient(create_app(public), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/videos").status_code == 401
    with TestClient(create_app(public.model_copy(update={"keys": "off"})), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/videos").status_code == 200


def test_tenants_see_only_their_own(client: TestClient, worker: Worker, keys: KeyTable) -> None:
    mine, sister, other = keys.create("a", owner="us"), keys.create("b", owner="us"), keys.create("c")
    video = client.post("/v1/videos", json=A_VIDEO, headers=bearer(mine)).json()
    assert worker.run_one()
    for key, is_ours in ((mine, True), (sister, True), (other, False)):
        listed = client.get("/v1/videos", headers=bearer(key)).json()["data"]
        assert [found["id"] for found in listed] == ([video["id"]] if is_ours else [])
        for path in ("", "/content"):
            reply = client.get(f"/v1/videos/{video['id']}{path}", headers=bearer(key))
            assert reply.status_code == (200 if is_ours else 404)
    strangers = [
        client.delete(f"/v1/videos/{video['id']}", headers=bearer(other)),
        client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "p"}, headers=bearer(other)),
        client.post(
            "/v1/videos/extensions",
            json={"prompt": "p", "seconds": "1", "video": {"id": video["id"]}},
            headers=bearer(other),
        ),
        client.post("/v1/videos/characters", json={"name": "n", "video": {"id": video["id"]}}, headers=bearer(other)),
    ]
    unknown = client.delete("/v1/videos/video_unknown", headers=bearer(other))
    for reply in strangers:
        assert reply.status_code == 404
        said = reply.json()["error"]["message"].replace(video["id"], "video_unknown")
        assert said == unknown.json()["error"]["message"]  # nothing tells a stranger's video from none
    cursor = client.get(f"/v1/videos?after={video['id']}", headers=bearer(other))
    assert cursor.status_code == 400
    assert client.delete(f"/v1/videos/{video['id']}", headers=bearer(sister)).status_code == 200


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


def test_a_secret_is_nowhere_in_the_database(config: ServeConfig, keys: KeyTable) -> None:
    secret = keys.create("k").secret
    folder = config.storage.parent
    assert all(secret.encode() not in path.read_bytes() for path in folder.glob("jobs.db*"))
