"""What crosses the socket: each of the SDK's calls, its request and our reply, whole, against the documented wire (A1).

What the SDK makes of the replies is test_conformance's.
"""

import base64
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
import openai
import pytest
from dirty_equals import IsNumber, IsPositiveInt, IsStr
from fastapi.testclient import TestClient

from data.video import write_mp4
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.worker import Worker

FORM, JSON, NO_BODY = "multipart/form-data", "application/json", ""
FIELD = re.compile(rb' name="([^"]+)"')
ERROR_FIELDS = {"message", "type", "param", "code"}
A_PICTURE = (
    f"data:image/png;base64,{base64.b64encode(cv2.imencode('.png', np.zeros((64, 64, 3), np.uint8))[1]).decode()}"
)
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API")


class Exchange(NamedTuple):
    """A request, with the names of its fields, and the reply's status and body (that of a file: its type)."""

    line: str
    content_type: str
    fields: list[str]
    status: int
    reply: Any


@pytest.fixture
def heard() -> list[httpx.Response]:
    return []


@pytest.fixture
def sdk(config: ServeConfig, worker: Worker, served: Callable, heard: list[httpx.Response]) -> Iterator[openai.OpenAI]:
    """The SDK, unmodified but for an ear at its HTTP client, and a server on a socket."""

    def hear(reply: httpx.Response) -> None:
        reply.read()
        heard.append(reply)

    with served(create_app(config)) as port, httpx.Client(event_hooks={"response": [hear]}) as http:
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0, http_client=http)


def exchange(reply: httpx.Response) -> Exchange:
    """What was said and answered; an id in the address stands as `{id}`."""
    request = reply.request
    content_type = request.headers.get("content-type", "").partition(";")[0]
    fields = FIELD.findall(request.read()) if content_type == FORM else re.findall(rb'"(\w+)":', request.read())
    path = re.sub(r"/(video|char)_\w+", "/{id}", request.url.raw_path.decode())
    said = reply.headers["content-type"]
    told = reply.json() if said == JSON else said
    return Exchange(f"{request.method} {path}", content_type, [f.decode() for f in fields], reply.status_code, told)


def video(**changes: Any) -> dict[str, Any]:
    """A video as it is told: OpenAI's fields, all of them, then Skyloom's own."""
    wire = {
        "id": IsStr(regex=r"video_\w{16,}"), "object": "video", "model": "skyloom", "status": "queued", "progress": 0,
        "created_at": IsPositiveInt, "completed_at": None, "expires_at": None, "error": None, "prompt": "a red ball",
        "remixed_from_video_id": None, "seconds": "2", "size": "64x64",
    }  # fmt: skip
    own = {
        "seed": IsNumber, "num_inference_steps": 3, "guidance_scale": IsNumber, "negative_prompt": "", "fps": 8.0,
        "model_version": None, "weights_digest": None, "queue_position": None, "wait_s": None,
    }  # fmt: skip
    return wire | own | changes


def done(**changes: Any) -> dict[str, Any]:
    """A video that is completed."""
    ended = {"status": "completed", "progress": 100, "completed_at": IsPositiveInt, "expires_at": IsPositiveInt}
    return video(**ended, model_version="1", weights_digest="digest-1") | changes


def test_every_call_of_the_sdk_and_its_reply(
    sdk: openai.OpenAI, heard: list[httpx.Response], worker: Worker, tmp_path: Path
) -> None:
    write_mp4(tmp_path / "film.mp4", np.zeros((8, 64, 64, 3), np.uint8), 8)
    film = (tmp_path / "film.mp4").read_bytes()
    first = sdk.videos.create(prompt="a red ball", seconds="2", size="64x64", model="skyloom")
    assert worker.run_one()
    sdk.videos.poll(first.id, poll_interval_ms=10)
    sdk.videos.retrieve(first.id)
    sdk.videos.list(limit=1, order="asc")
    for variant in ("video", "thumbnail", "spritesheet"):
        sdk.videos.download_content(first.id, variant=variant)
    sdk.videos.remix(first.id, prompt="a blue ball")
    sdk.videos.edit(prompt="a blue ball", video=film)
    sdk.videos.edit(prompt="a blue ball", video=b"", extra_body={"video": {"id": first.id}})
    sdk.videos.extend(prompt="it rolls", seconds="1", video=film)
    character = sdk.videos.create_character(name="Robin", video=film)
    sdk.videos.get_character(character.id)
    sdk.videos.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.videos.retrieve(first.id)

    card = {
        "id": character.id,
        "object": "character",
        "name": "Robin",
        "created_at": IsPositiveInt,
        "expires_at": IsPositiveInt,
    }
    gone = {"message": IsStr(regex=f".*{first.id}.*"), "type": "invalid_request_error", "param": "video_id"}
    page = {"object": "list", "data": [done()], "has_more": False, "first_id": first.id, "last_id": first.id}
    remade = video(prompt="a blue ball", remixed_from_video_id=first.id)
    assert [exchange(reply) for reply in heard] == [
        ("POST /v1/videos", FORM, ["prompt", "model", "seconds", "size"], 200, video()),
        ("GET /v1/videos/{id}", NO_BODY, [], 200, done()),
        ("GET /v1/videos/{id}", NO_BODY, [], 200, done()),
        ("GET /v1/videos?limit=1&order=asc", NO_BODY, [], 200, page),
        ("GET /v1/videos/{id}/content?variant=video", NO_BODY, [], 200, "video/mp4"),
        ("GET /v1/videos/{id}/content?variant=thumbnail", NO_BODY, [], 200, "image/webp"),
        ("GET /v1/videos/{id}/content?variant=spritesheet", NO_BODY, [], 200, "image/jpeg"),
        ("POST /v1/videos/{id}/remix", JSON, ["prompt"], 200, remade),
        ("POST /v1/videos/edits", FORM, ["prompt", "video"], 200, video(prompt="a blue ball", seconds="1")),
        ("POST /v1/videos/edits", FORM, ["prompt", "video[id]", "video"], 200, remade),
        ("POST /v1/videos/extensions", FORM, ["prompt", "seconds", "video"], 200, video(prompt="it rolls")),
        ("POST /v1/videos/characters", FORM, ["name", "video"], 200, card),
        ("GET /v1/videos/characters/{id}", NO_BODY, [], 200, card),
        ("DELETE /v1/videos/{id}", JSON, [], 200, {"id": first.id, "object": "video.deleted", "deleted": True}),
        ("GET /v1/videos/{id}", NO_BODY, [], 404, {"error": gone | {"code": "not_found"}}),
    ]
    assert all(re.fullmatch(r"req_\w{16,}", reply.headers["x-request-id"]) for reply in heard)
    ids = [reply.headers["x-request-id"] for reply in heard]
    assert all(before != after for before, after in pairwise(ids))


def test_what_a_pending_video_tells_the_poll(sdk: openai.OpenAI, heard: list[httpx.Response]) -> None:
    made = sdk.videos.create(prompt="a red ball", seconds="2", size="64x64")
    sdk.videos.with_raw_response.retrieve(made.id)
    for reply in heard:
        assert 500 <= int(reply.headers["openai-poll-after-ms"]) <= 10_000


@pytest.mark.parametrize(
    ("fields", "encoded"),
    [
        ({"seed": 7}, [b"seed"]),
        ({"guidance_scale": 7.5, "negative_prompt": None}, [b"guidance_scale"]),
        ({"input_reference": {"image_url": A_PICTURE}}, [b"input_reference[image_url]"]),
    ],
    ids=["number", "none is dropped", "nested"],
)
def test_extra_fields_as_the_sdk_encodes_them(
    sdk: openai.OpenAI, heard: list[httpx.Response], fields: dict, encoded: list[bytes]
) -> None:
    made = sdk.videos.create(prompt="a red ball", seconds="2", size="64x64", extra_body=fields)
    assert FIELD.findall(heard[0].request.read()) == [b"prompt", b"seconds", b"size", *encoded]
    told = {name: value for name, value in fields.items() if isinstance(value, int | float)}
    assert {name: getattr(made, name) for name in told} == told


def test_lists_as_the_sdk_encodes_them(sdk: openai.OpenAI, heard: list[httpx.Response]) -> None:
    with pytest.raises(openai.NotFoundError, match="char_nobody"):
        sdk.videos.create(prompt="a red ball", extra_body={"characters": ["char_nobody"]})
    assert FIELD.findall(heard[0].request.read()) == [b"prompt", b"characters[]"]


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"prompt": "p", "characters": ["char_nobody"]}},
        {"data": {"prompt": "p", "characters": '["char_nobody"]'}},
        {"data": {"prompt": "p", "characters[]": "char_nobody"}},
        {"data": {"prompt": "p", "characters[0]": "char_nobody"}},
        {"files": [("prompt", (None, "p")), ("characters[]", (None, "char_nobody"))]},
        {"files": [("prompt", (None, "p")), ("characters", (None, '["char_nobody"]'))]},
    ],
    ids=["json", "json in a form", "brackets", "numbered", "multipart brackets", "json in multipart"],
)
def test_nested_fields_in_every_encoding(client: TestClient, worker: Worker, sent: dict) -> None:
    """Each is read as the same request: it fails for the character that it names, and for nothing else."""
    reply = client.post("/v1/videos", **sent)
    error = reply.json()["error"]
    assert set(error) == ERROR_FIELDS
    assert (reply.status_code, error["code"]) == (404, "not_found"), error
    assert "char_nobody" in error["message"]
