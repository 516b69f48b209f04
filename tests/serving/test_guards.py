"""Guard models of both kinds: what they are asked, how their answers are read, and what becomes of what they refuse."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.jobs import JobTable
from serving.trust.guards import Guard, GuardAwayError, said
from serving.trust.moderation import ModerationError, Moderator
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}
FRAMES = np.zeros((8, 16, 16, 3), np.uint8)


class Server(HTTPServer):
    """A guard that flags what holds a word, and what holds a picture where it is told to."""

    asked: list[tuple[str, dict[str, Any]]]
    flags_pictures = False


class Guarding(BaseHTTPRequestHandler):
    """Answers in the manner of both kinds."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        text = json.dumps(body)
        flagged = "secret" in text or (self.server.flags_pictures and "data:image/png" in text)
        if self.path.endswith("/moderations"):
            answer = {"results": [{"flagged": flagged, "categories": {"hate": False, "leak": True}}]}
        else:
            words = "Safety: Unsafe\nCategories: Leak" if flagged else "Safety: Safe\nCategories: None"
            answer = {"choices": [{"message": {"content": "?" if "puzzle" in text else words}}]}
        self.send_response(500 if "broken" in text else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def guard() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Guarding)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["moderations", "chat"])
def guarded(config: ServeConfig, guard: Server, request: pytest.FixtureRequest) -> ServeConfig:
    """A server that asks a guard of either kind, about frames too."""
    asks = {"guard_url": f"http://127.0.0.1:{guard.server_port}/v1", "guard_model": "g", "guard_kind": request.param}
    return config.model_copy(update=asks | {"guard_frames": True})


def test_texts_are_judged_and_what_cannot_be_is_not_made(guarded: ServeConfig, guard: Server) -> None:
    moderator = Moderator(guarded)
    moderator.check_texts(["a ball"])
    with pytest.raises(ModerationError, match=r"(?i)leak"):
        moderator.check_texts(["a ball", "a secret"])
    with pytest.raises(GuardAwayError, match="does not answer"):
        moderator.check_texts(["broken"])
    assert {body["model"] for _, body in guard.asked} == {"g"}
    assert {path for path, _ in guard.asked} <= {"/v1/moderations", "/v1/chat/completions"}


def test_an_answer_that_says_neither_lets_nothing_pass(guard: Server) -> None:
    with pytest.raises(GuardAwayError):
        Guard(f"http://127.0.0.1:{guard.server_port}/v1", "g", "chat").judge_text("a puzzle")


@pytest.mark.parametrize(
    ("answer", "category"),
    [
        ("Safety: Safe\nCategories: None", None),
        ("Safety: Controversial\nCategories: Politically Sensitive Topics", None),
        ("Safety: Unsafe\nCategories: Violent", "Violent"),
        ("safe", None),
        ("\n\nunsafe\nS12", "S12"),
        ("No", None),
        ("Yes, the prompt violates the policy.", "flagged"),
    ],
)
def test_how_each_model_says_it(answer: str, category: str | None) -> None:
    """As the cards of Qwen3Guard, Llama Guard and ShieldGemma have it."""
    assert said(answer) == category


def test_frames_are_judged_one_by_one_as_pictures(guarded: ServeConfig, guard: Server) -> None:
    moderator = Moderator(guarded)
    moderator.check_frames(FRAMES, 8)
    assert len(guard.asked) == 4
    assert all("data:image/png;base64," in json.dumps(body) for _, body in guard.asked)
    guard.flags_pictures = True
    with pytest.raises(ModerationError, match=r"(?i)leak"):
        moderator.check_frames(FRAMES, 8)
    Moderator(guarded.model_copy(update={"guard_frames": False})).check_frames(FRAMES, 8)
    assert len(guard.asked) == 5


def test_a_video_whose_frames_are_refused_or_not_judged_fails_and_says_why(
    guarded: ServeConfig, guard: Server, client: TestClient, hire: Callable, jobs: JobTable
) -> None:
    guard.flags_pictures = True
    for url, code in ((guarded.guard_url, "moderation_blocked"), ("http://127.0.0.1:9/v1", "moderation_unavailable")):
        worker = hire(guarded.model_copy(update={"guard_url": url}), jobs)
        made = client.post("/v1/videos", json=A_VIDEO).json()
        assert worker.run_one()
        video = client.get(f"/v1/videos/{made['id']}").json()
        assert (video["status"], video["error"]["code"]) == ("failed", code)
    assert not list(guarded.storage.rglob("*.mp4"))


def test_a_guard_that_is_away_is_no_fault_of_the_prompt(config: ServeConfig, worker: Worker) -> None:
    away = config.model_copy(update={"guard_url": "http://127.0.0.1:9/v1"})
    with TestClient(create_app(away), base_url="http://127.0.0.1") as client:
        reply = client.post("/v1/videos", json={"prompt": "a ball"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "moderation_unavailable")
    assert reply.headers["retry-after"] == "5"
