"""A server that stands open on loopback does nothing for the pages of other sites, and all for programs."""

import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.api.browsers import is_loopback
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.store.keys import KeyTable

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}
FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "http://localhost:9999", "sec-fetch-site": "same-site"},
    {"origin": "null"},
    {"origin": "http://["},
    {"sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_makes_and_deletes_nothing(
    client: TestClient, jobs: JobTable, headers: dict[str, str]
) -> None:
    video = client.post("/v1/videos", json=A_VIDEO).json()
    for reply in (
        client.post("/v1/videos", data=A_VIDEO, headers=headers),
        client.delete(f"/v1/videos/{video['id']}", headers=headers),
        client.post("/v1/webhook_endpoints", json={}, headers=headers),
    ):
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] == "cross_site_request"
    assert [job.id for job in jobs.list().jobs] == [video["id"]]


@pytest.mark.parametrize("headers", [{}, {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}])
def test_programs_and_own_pages_are_served(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/videos", json=A_VIDEO, headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1"])
def test_a_name_that_was_pointed_here_reads_nothing(client: TestClient, host: str) -> None:
    reply = client.get("/v1/videos", headers={"host": host})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_loopback_has_several_names(client: TestClient, host: str) -> None:
    assert client.get("/v1/videos", headers={"host": host}).status_code == 200


def test_with_a_key_the_name_and_the_site_do_not_matter(config: ServeConfig, client: TestClient) -> None:
    database = Database(config.database_url)
    key = KeyTable(database).create("page", scopes=("read", "write"))
    headers = {"authorization": f"Bearer {key.secret}", "origin": "https://studio.example", "host": "video.example"}
    assert client.post("/v1/videos", json=A_VIDEO, headers=headers).status_code == 200
    database.close()


def test_an_address_that_the_operator_opened_has_any_name(config: ServeConfig, client: TestClient) -> None:
    del client  # its worker has told what is served
    opened = config.model_copy(update={"host": "0.0.0.0", "keys": "off"})
    with TestClient(create_app(opened), base_url="http://video.example") as public:
        assert public.get("/v1/videos").status_code == 200
        assert public.post("/v1/videos", json=A_VIDEO, headers=FOREIGN[0]).status_code == 403


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("", None, "0.0.0.0", "::", "10.0.0.1", "localhost.example")))
