"""Characters after they are made: listed page by page, deleted, expired, each owner's own."""

from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from model.shapes import VideoShape
from serving.config import ServeConfig
from serving.store.characters import CharacterTable
from serving.store.database import Database
from serving.store.janitor import YOUNG_S, Janitor
from serving.store.jobs import JobTable
from serving.store.keys import KeyTable

PATH = "/v1/videos/characters"


@pytest.fixture
def characters(jobs: JobTable) -> CharacterTable:
    return CharacterTable(jobs.database)


def keep(characters: CharacterTable, names: Sequence[str], owner: str = "") -> list[str]:
    """The ids of new characters."""
    shape = VideoShape(4, 32, 48)
    return [characters.create(name, f"upload-{name}", shape, owner).id for name in names]


def listed(client: TestClient, query: str = "", **headers: str) -> dict[str, Any]:
    reply = client.get(f"{PATH}{query}", headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_they_are_listed_page_by_page(client: TestClient, characters: CharacterTable, config: ServeConfig) -> None:
    empty = listed(client)
    assert empty == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
    ids = keep(characters, "abcde")
    found, after = [], ""
    for expected in (2, 2, 1):
        page = listed(client, f"?limit=2{after}")
        assert len(page["data"]) == expected
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        found += page["data"]
        assert page["has_more"] == (len(found) < 5)
        after = f"&after={page['last_id']}"
    assert [card["id"] for card in found] == ids[::-1]
    assert found[-1] == client.get(f"{PATH}/{ids[0]}").json()
    assert found[0]["expires_at"] - found[0]["created_at"] == config.retention_s
    assert client.get(f"{PATH}?after=char_unknown").json()["error"]["param"] == "after"


def test_one_that_is_deleted_is_gone(client: TestClient, characters: CharacterTable) -> None:
    gone, stays = keep(characters, "ab")
    assert client.delete(f"{PATH}/{gone}").json() == {"id": gone, "object": "character.deleted", "deleted": True}
    for reply in (client.delete(f"{PATH}/{gone}"), client.get(f"{PATH}/{gone}")):
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    assert client.post("/v1/videos", json={"prompt": "p", "characters": [gone]}).status_code == 404
    assert [card["id"] for card in listed(client)["data"]] == [stays]


def test_each_owner_has_their_own(client: TestClient, characters: CharacterTable, config: ServeConfig) -> None:
    keys = KeyTable(Database(config.database_url))
    mine, other = keys.create("mine"), keys.create("other")
    (character,) = keep(characters, "a", mine.key.owner)
    mine_header, other_header = ({"authorization": f"Bearer {key.secret}"} for key in (mine, other))
    assert listed(client, **other_header)["data"] == []
    assert client.get(f"{PATH}?after={character}", headers=other_header).status_code == 400
    assert client.delete(f"{PATH}/{character}", headers=other_header).status_code == 404
    assert [card["id"] for card in listed(client, **mine_header)["data"]] == [character]


def test_they_expire_and_their_frames_go_with_them(
    client: TestClient, characters: CharacterTable, config: ServeConfig, jobs: JobTable
) -> None:
    (character,) = keep(characters, "a")
    config.uploads.mkdir(parents=True)
    frames = config.uploads / "upload-a.npy"
    frames.write_bytes(b"x")
    expires = client.get(f"{PATH}/{character}").json()["expires_at"]
    before, after = (Janitor(config, jobs.database, clock=lambda at=at: at) for at in (expires - 5, expires + 5))
    assert config.retention_s > YOUNG_S
    assert before.sweep().characters == 0
    assert frames.exists()
    swept = after.sweep()
    assert (swept.characters, swept.uploads) == (1, 1)
    assert not frames.exists()
    assert client.get(f"{PATH}/{character}").status_code == 404
