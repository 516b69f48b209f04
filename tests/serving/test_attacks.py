"""Hostile requests: names that climb out of folders, addresses to fetch, bodies without end."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.worker import Worker

CLIMBS = ["../", "..\\", "%2e%2e%2f", "..%2f", "%252e%252e%252f", "....//", "..;/", "\u2025/", "/./../", "..\0/"]
TARGETS = ["etc/passwd", "jobs.db", "identity/key.pem", "../jobs.db", "files/identity/key.pem"]
NAMES = [climb * depth + target for climb in CLIMBS for depth in (1, 3, 8) for target in TARGETS]
NAMES += [f"/{target}" for target in TARGETS] + [f"C:\\{target}" for target in TARGETS]
NAMES += [f"video_x{name}" for name in NAMES[:50]]


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_name_leads_out_of_its_folder(
    client: TestClient, worker: Worker, config: ServeConfig, tmp_path: Path
) -> None:
    """S5: in ids, variants, model names and file names."""
    assert len(NAMES) >= 200
    own = client.post("/v1/videos", json={"prompt": "p"}).json()["id"]
    assert worker.run_one()
    before = files_below(tmp_path)
    for name in NAMES:
        quoted = quote(name, safe="%")
        for path in (
            f"/v1/videos/{quoted}",
            f"/v1/videos/{quoted}/content",
            f"/v1/videos/{own}/content?variant={quoted}",
            f"/v1/models/{quoted}",
            f"/v1/videos/characters/{quoted}",
        ):
            reply = client.get(path)
            assert reply.status_code in (400, 404), (path, reply.status_code)
            assert b"PRIVATE KEY" not in reply.content
        upload = client.post(
            "/v1/videos/edits", data={"prompt": "p"}, files={"video": (name, b"no video", "video/mp4")}
        )
        assert upload.status_code == 400
    assert files_below(tmp_path) - before <= {Path("serve/files/uploads")}


def test_no_reference_is_fetched_whatever_its_form(client: TestClient, worker: Worker, canary) -> None:
    """S4: as a picture or a model by address; webhooks and the registry have tests of their own."""
    hosts = ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
    hosts += ["0.0.0.0", "user@127.0.0.1", "127.0.0.1#@a.org", "127.0.0.1.", "127.0.0.1%2f", "[::]"]
    forms = [f"{scheme}://{host}:{canary.port}/x" for scheme in ("http", "https", "ftp") for host in hosts]
    forms += ["file:///etc/passwd", f"gopher://127.0.0.1:{canary.port}/_x", "jar:file:///x", "//127.0.0.1/x", "data:x"]
    assert len(forms) >= 40
    for form in forms:
        reply = client.post("/v1/videos", json={"prompt": "p", "input_reference": {"image_url": form}})
        assert reply.status_code == 400, form
        for named in (form, f"models:/{form}", f"runs:/{form}"):
            reply = client.post("/v1/videos", json={"prompt": "p", "model": named})
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_found")
    assert canary.visits == 0


def test_a_body_without_end_is_cut_off(config: ServeConfig, worker: Worker) -> None:
    """S8: no length is declared, and the sender never stops; no more is taken than the limit and one piece."""
    limit, piece, taken, said = config.max_body_bytes, 65_536, 0, []

    async def receive() -> dict[str, Any]:  # httpx would read the whole body before it asks
        nonlocal taken
        taken += piece
        return {"type": "http.request", "body": b"x" * piece, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "headers": headers}
    anyio.run(create_app(config), scope, receive, send)
    assert said[0]["status"] == 413
    assert taken <= limit + piece


@pytest.mark.parametrize(
    "body",
    [
        {"files": [("video", (f"{n}.mp4", b"x", "video/mp4")) for n in range(1000)]},
        {"data": {f"field{n}": "x" for n in range(10_000)}},
        {"data": {"prompt": "x" * 2_000_000}},
        {"files": {"prompt": (None, "x" * 2_000_000)}},
        {"files": [("video", (None, "x")) for _ in range(10_000)]},
        {"files": {"prompt": (None, "x" * 100_000_000)}},
    ],
    ids=["files", "fields", "long field", "long part", "parts", "very long part"],
)
def test_too_many_or_too_large_parts_are_refused(client: TestClient, worker: Worker, body: dict) -> None:
    reply = client.post("/v1/videos/edits", **body)
    assert reply.status_code in (400, 413)
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
