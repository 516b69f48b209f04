"""Every way to go wrong ends in the envelope with four fields and a request id, never in `detail`."""

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.worker import Worker

ROOT = Path(__file__).parents[2]
PROMPT_PART = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
JSON = {"content-type": "application/json"}


def check(reply: Response, status: int, code: str, param: str | None = None) -> str:
    """The message of an error reply that has the right shape."""
    assert reply.status_code == status, reply.text
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"error"}
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return error["message"]


@pytest.mark.parametrize(
    ("fields", "code", "param", "message"),
    [
        ({}, "missing_required_parameter", "prompt", "Missing required parameter: 'prompt'."),
        ({"prompt": ""}, "invalid_value", "prompt", "at least 1 character"),
        ({"prompt": 5}, "invalid_type", "prompt", "valid string"),
        ({"prompt": "p\0"}, "invalid_value", "prompt", "NUL"),
        ({"prompt": "p" * 5000}, "invalid_value", "prompt", "at most 4096"),
        ({"prompt": "p", "colour": "red"}, "unknown_parameter", "colour", "Unknown parameter: 'colour'."),
        ({"prompt": "p", "seed": "x"}, "invalid_type", "seed", "valid integer"),
        ({"prompt": "p", "seed": -1}, "invalid_value", "seed", "greater than or equal to 0"),
        ({"prompt": "p", "num_inference_steps": 10**6}, "invalid_value", "num_inference_steps", "less than or equal"),
        ({"prompt": "p", "seconds": "long"}, "invalid_value", "seconds", "not a number of seconds"),
        ({"prompt": "p", "seconds": 10**400}, "invalid_value", "seconds", "too large"),
        ({"prompt": "p", "seconds": "1e9"}, "invalid_value", "seconds", "not a number of seconds"),
        ({"prompt": "p", "seconds": "1.8"}, "invalid_value", "seconds", "use '1.5' or '2'"),
        ({"prompt": "p", "seconds": "0.1"}, "invalid_value", "seconds", "use '0.5' or '1'"),
        ({"prompt": "p", "seconds": "9999"}, "invalid_value", "seconds", "at most 512 seconds"),
        ({"prompt": "p", "size": "big"}, "invalid_value", "size", "not WIDTHxHEIGHT"),
        ({"prompt": "p", "size": "0x64"}, "invalid_value", "size", "use '16x64'"),
        ({"prompt": "p", "size": "70x50"}, "invalid_value", "size", "use '64x48'"),
        ({"prompt": "p", "size": "99200x99200"}, "invalid_value", "size", "use a smaller size"),
        ({"prompt": "p", "fps": 30}, "invalid_value", "fps", "8 frames per second"),
        ({"prompt": "p", "model": "sora-2"}, "model_not_found", "model", "'skyloom'"),
        ({"prompt": "p", "input_reference": "x"}, "invalid_type", "input_reference", "expected a file"),
    ],
)
def test_a_bad_field_is_named(client: TestClient, fields, code: str, param: str, message: str) -> None:
    assert message in check(client.post("/v1/videos", json=fields), 400, code, param)
    assert client.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"prompt": ' + b"1" * 5000 + b"}", "invalid_json"),
        (b"\xff\xfe\xff", "invalid_json"),
        (b"[]", "invalid_type"),
    ],
)
def test_a_broken_json_body(client: TestClient, body: bytes, code: str) -> None:
    check(client.post("/v1/videos", content=body, headers=JSON), 400, code)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("", {"input_reference": {"image_url": "data:image/png;base64,\u00e9"}}, "input_reference"),
        ("", {"input_reference": '{"a":' * 2000}, "input_reference"),
        ("", {"characters": "[" * 2000}, "characters"),
        ("/edits", {"video": {}}, "video[id]"),
        ("/edits", {"video": {"id": 5}}, "video[id]"),
    ],
)
def test_a_broken_input_is_named(client: TestClient, path: str, fields, param: str) -> None:
    reply = client.post(f"/v1/videos{path}", json={"prompt": "p"} | fields)
    check(reply, 400, reply.json()["error"]["code"], param)


@pytest.mark.parametrize("video_id", ["\ud800", "a\0b", "\u00e9", "v" * 5000])
def test_an_id_that_can_be_none(client: TestClient, video_id: str) -> None:
    body = json.dumps({"prompt": "p", "video": {"id": video_id}})
    check(client.post("/v1/videos/edits", content=body, headers=JSON), 404, "not_found", "video_id")
    body = json.dumps({"prompt": "p", "characters": ["video\x7f"]})
    check(client.post("/v1/videos", content=body, headers=JSON), 404, "not_found", "character_id")


def test_nul_in_an_address(client: TestClient) -> None:
    check(client.get("/v1/videos/x%00"), 404, "not_found", "video_id")
    check(client.get("/v1/videos/characters/x%00"), 404, "not_found", "character_id")
    check(client.get("/v1/videos?after=%00"), 400, "invalid_value", "after")


def test_half_a_surrogate_pair(client: TestClient) -> None:
    reply = client.post("/v1/videos", content=b'{"prompt": "\\ud800"}', headers=JSON)
    check(reply, 400, "invalid_value", "prompt")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no parts"),
        ("multipart/form-data; boundary=b", PROMPT_PART + b"x" * 300_000),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nb\r\n--b--"),
        ("application/x-www-form-urlencoded", b"a[=1"),
        ("application/x-www-form-urlencoded", b"prompt=a&prompt=b"),
        ("application/x-www-form-urlencoded", b"a[b]=1&a=2"),
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % i for i in range(1000))),
    ],
)
def test_a_broken_form(client: TestClient, kind: str, body: bytes) -> None:
    reply = client.post("/v1/videos", content=body, headers={"content-type": kind})
    error = reply.json()["error"]
    check(reply, 400, error["code"], error["param"])


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_another_encoding(client: TestClient, kind: str) -> None:
    check(client.post("/v1/videos", content=b"prompt=p", headers={"content-type": kind}), 415, "unsupported_media_type")


def test_a_large_body_is_refused_before_it_is_parsed(config: ServeConfig, worker: Worker) -> None:
    small = config.model_copy(update={"max_body_bytes": 2000})
    with TestClient(create_app(small), base_url="http://127.0.0.1") as client:
        check(client.post("/v1/videos", content=b"x" * 3000, headers=JSON), 413, "request_too_large")
        chunks = (b"x" * 500 for _ in range(10))  # sent chunked, so with no length to go by
        check(client.post("/v1/videos", content=chunks, headers=JSON), 413, "request_too_large")
        assert client.post("/v1/videos", json={"prompt": "p"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/nothing", "/", "/v1/videos/a/b/c", "/docs", "/v1/videos/%2e%2e%2fetc/content/x"])
def test_unknown_addresses(client: TestClient, path: str) -> None:
    check(client.get(path), 404, "not_found")


def test_unknown_videos_methods_and_queries(client: TestClient) -> None:
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", "/content?variant=thumbnail")]:
        check(client.request(method, f"/v1/videos/video_x{path}"), 404, "not_found", "video_id")
    check(client.put("/v1/videos"), 405, "method_not_allowed")
    check(client.get("/v1/videos?limit=1000"), 400, "invalid_value", "limit")
    check(client.get("/v1/videos?limit=x"), 400, "invalid_type", "limit")
    check(client.get("/v1/videos?order=up"), 400, "invalid_value", "order")
    check(client.get("/v1/videos?after=video_x"), 400, "invalid_value", "after")
    check(client.get("/v1/models/gpt"), 404, "model_not_found", "model")


def test_content_of_an_unfinished_video(client: TestClient) -> None:
    made = client.post("/v1/videos", json={"prompt": "p"}).json()
    reply = client.get(f"/v1/videos/{made['id']}/content")
    assert "queued" in check(reply, 409, "video_not_ready", "video_id")
    assert reply.headers["x-should-retry"] == "false"
    check(client.get(f"/v1/videos/{made['id']}/content?variant=gif"), 400, "invalid_value", "variant")


def test_before_a_model_is_loaded(config: ServeConfig) -> None:
    with TestClient(
        create_app(config.model_copy(update={"model_name": "later"})), base_url="http://127.0.0.1"
    ) as client:
        check(client.post("/v1/videos", json={"prompt": "p"}), 503, "model_loading")
        check(client.get("/healthz"), 503, "model_loading")
        assert client.get("/v1/models").json() == {"object": "list", "data": []}


def test_a_fault_of_the_server_tells_nothing_of_itself(client: TestClient) -> None:
    client.app.state.backend = None
    message = check(client.get("/v1/videos"), 500, "server_error")
    assert "NoneType" not in message


def test_the_page_names_every_code_of_the_source() -> None:
    said = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "api.md").read_text().partition("## Errors")[2]))
    sources = "\n".join(path.read_text() for path in sorted((ROOT / "serving").rglob("*.py")))
    sent = set(re.findall(r'(?:code=|"code": |^CODE = |^    \d{3}: )"([a-z]+(?:_[a-z]+)+)"', sources, re.M))
    assert len(sent) > 25
    assert sent - said == set()
