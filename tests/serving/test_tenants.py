"""Every route that the application has, asked without a key, with a dead one, and by a stranger (S7).

The routes come from the application: one that is new fails here until it has a place in the lists below.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.keys import KeyTable, NewKey
from serving.store.webhooks import WebhookTable
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}
VIDEO, CHARACTER, ENDPOINT = "{video_id}", "{character_id}", "{endpoint_id}"

OPEN = {"GET /healthz"}
"""What anybody may ask."""

SHARED = {
    "GET /metrics", "GET /v1/models", "GET /v1/models/{model}", "GET /v1/provenance/authority",
    "GET /v1/webhook_event_types", "POST /v1/videos/loops", "POST /v1/videos/storyboards",
    "POST /v1/images/generations", "POST /v1/webhook_endpoints",
}  # fmt: skip
"""What names nothing that belongs to somebody."""

LISTS = {"GET /v1/videos": VIDEO, "GET /v1/videos/characters": CHARACTER, "GET /v1/webhook_endpoints": ENDPOINT}
"""What shows the caller's own, and whose they are."""

QUERIES = {"GET /v1/videos/{video_id}/content": ["", "?variant=thumbnail", "?variant=spritesheet"]}
"""What a route that names its object in its path is asked beside."""

BODIES: dict[str, list[dict[str, Any]]] = {
    "POST /v1/videos": [A_VIDEO | {"characters": [CHARACTER]}],
    "POST /v1/videos/variations": [A_VIDEO | {"n": 2, "characters": [CHARACTER]}],
    "POST /v1/videos/{video_id}/remix": [{"prompt": "p"}],
    "POST /v1/videos/edits": [{"prompt": "p", "video": {"id": VIDEO}}],
    "POST /v1/videos/extensions": [{"prompt": "p", "seconds": "1", "video": {"id": VIDEO}}],
    "POST /v1/videos/joins": [{"seconds": "1", "video": {"id": VIDEO}, "second_video": {"id": VIDEO}}],
    "POST /v1/videos/blends": [{"video": {"id": VIDEO}, "second_video": {"id": VIDEO}}],
    "POST /v1/videos/characters": [{"name": "n", "video": {"id": VIDEO}}],
    "POST /v1/webhook_endpoints/{endpoint_id}": [{"name": "taken"}],
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret": [{}],
    "POST /v1/webhook_endpoints/{endpoint_id}/test": [{"event_type": "video.completed"}],
}
"""What a route takes that names an object in its path or here."""


class Tenants(NamedTuple):
    """One who owns a video, a character and an endpoint, and one who owns nothing."""

    owner: NewKey
    stranger: NewKey
    owned: dict[str, str]
    unknown: dict[str, str]


@pytest.fixture
def keys(config: ServeConfig, worker: Worker) -> Iterator[KeyTable]:
    database = Database(config.database_url)
    yield KeyTable(database)
    database.close()


@pytest.fixture
def tenants(client: TestClient, worker: Worker, keys: KeyTable, config: ServeConfig) -> Tenants:
    owner, stranger = keys.create("owner"), keys.create("stranger")
    video = client.post("/v1/videos", json=A_VIDEO, headers=bearer(owner)).json()["id"]
    assert worker.run_one()
    made = client.post("/v1/videos/characters", json={"name": "n", "video": {"id": video}}, headers=bearer(owner))
    database = Database(config.database_url)
    endpoint = WebhookTable(database).create(owner.key.owner, name="mine", url="https://a.org/", event_types=[])
    owned = {VIDEO: video, CHARACTER: made.json()["id"], ENDPOINT: endpoint.id}
    return Tenants(owner, stranger, owned, {name: own[:-6] + "abcdef" for name, own in owned.items()})


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.secret}"}


def routes(client: TestClient) -> list[str]:
    """`METHOD /path` of every route that the application documents."""
    paths = client.get("/openapi.json").json()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def filled(value: Any, ids: dict[str, str]) -> Any:
    """The same with ids in place of the names in braces."""
    if isinstance(value, dict):
        return {key: filled(inner, ids) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, ids) for inner in value]
    for name, found in ids.items():
        value = value.replace(name, found) if isinstance(value, str) else value
    return value


def questions(route: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    """What is asked of a route: method, address with names in braces, body."""
    method, path = route.split(" ")
    return [(method, path + query, body) for query in QUERIES.get(route, [""]) for body in BODIES.get(route, [None])]


def test_every_route_has_its_place(client: TestClient) -> None:
    documented = set(routes(client))
    in_paths = {route for route in documented if any(name in route for name in (VIDEO, CHARACTER, ENDPOINT))}
    assert documented == OPEN | SHARED | set(LISTS) | set(BODIES) | in_paths
    assert {route for route in documented if route.startswith("POST")} <= SHARED | set(BODIES)


def test_without_a_live_key_nothing_is_told(client: TestClient, keys: KeyTable, tenants: Tenants) -> None:
    revoked, expired = keys.create("revoked"), KeyTable(keys._database, clock=lambda: 1.0).create("e", lifetime_s=5)
    assert keys.revoke(revoked.key.id)
    secret = tenants.owner.secret
    dead = ["", "Bearer", "Bearer x", f"Basic {secret}", f"Bearer {secret}x", f"Bearer {secret[:-1]}", secret]
    dead += [f"Bearer {key.secret}" for key in (revoked, expired)]
    for route in set(routes(client)) - OPEN:
        for method, path, body in questions(route):
            address = filled(path, tenants.owned | {"{model}": "skyloom"})
            for header in dead:
                reply = client.request(method, address, json=body, headers={"authorization": header})
                assert reply.status_code == 401, (route, header, reply.text)
                assert reply.json()["error"]["code"] == "invalid_api_key"
                assert secret not in reply.text
            assert client.request(method, address, json=body).status_code == 401


def said(reply: Response, ids: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    """All that a reply tells, ids and what differs between any two replies aside."""
    text = reply.text
    for name, found in ids.items():
        text = text.replace(found, name)
    return reply.status_code, text, {name: value for name, value in reply.headers.items() if name != "x-request-id"}


def test_a_stranger_cannot_tell_what_is_another_s_from_what_is_not_there(client: TestClient, tenants: Tenants) -> None:
    num_asked = 0
    for route in set(routes(client)) - OPEN - SHARED - set(LISTS):
        for method, path, body in questions(route):
            replies = [
                said(
                    client.request(method, filled(path, ids), json=filled(body, ids), headers=bearer(tenants.stranger)),
                    ids,
                )
                for ids in (tenants.owned, tenants.unknown)
            ]
            assert replies[0] == replies[1], route
            assert replies[0][0] == 404, (route, replies[0])
            num_asked += 1
    assert num_asked >= len(BODIES)
    for route, name in LISTS.items():
        path = route.split(" ")[1]
        assert client.get(path, headers=bearer(tenants.stranger)).json()["data"] == []
        replies = [
            said(client.get(f"{path}?after={ids[name]}", headers=bearer(tenants.stranger)), ids)
            for ids in (tenants.owned, tenants.unknown)
        ]
        assert replies[0] == replies[1]
        assert replies[0][0] == 400


def test_what_strangers_try_changes_nothing_and_the_owner_has_it_all(client: TestClient, tenants: Tenants) -> None:
    def whole() -> list[Any]:
        asked = [route for route in routes(client) if route.startswith("GET") and route not in OPEN | {"GET /metrics"}]
        addresses = [
            filled(path, tenants.owned | {"{model}": "skyloom"}) for route in asked for _, path, _ in questions(route)
        ]
        replies = [client.get(address, headers=bearer(tenants.owner)) for address in addresses]
        assert [reply.status_code for reply in replies] == [200] * len(addresses)
        return [reply.content for reply in replies]

    before = whole()
    for route in set(routes(client)) - OPEN - SHARED:
        for method, path, body in questions(route):
            address, sent = filled(path, tenants.owned), filled(body, tenants.owned)
            client.request(method, address, json=sent, headers=bearer(tenants.stranger))
            client.request(method, address, json=sent)
    assert whole() == before


def test_the_owner_s_other_keys_open_the_same(client: TestClient, keys: KeyTable, tenants: Tenants) -> None:
    sister = keys.create("sister", owner=tenants.owner.key.owner)
    for route, name in LISTS.items():
        listed = client.get(route.split(" ")[1], headers=bearer(sister)).json()["data"]
        assert [found["id"] for found in listed] == [tenants.owned[name]]


def test_off_loopback_nothing_is_open(config: ServeConfig, worker: Worker) -> None:
    public = config.model_copy(update={"host": "0.0.0.0"})
    with TestClient(create_app(public), base_url="http://127.0.0.1") as client:
        for route in set(routes(client)) - OPEN:
            method, path = route.split(" ")
            assert client.request(method, path).status_code == 401, route
    with TestClient(create_app(public.model_copy(update={"keys": "off"})), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/videos").status_code == 200
