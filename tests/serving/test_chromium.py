"""A real browser at the API: nothing that a client names runs as a script, and no other site uses the server (S10).

`make chaos`; needs Debian's chromium (`bash infra/debian.sh chromium`).
"""

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from data.video import write_mp4
from serving.api import access
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.jobs import JobTable
from serving.worker import Worker

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

ALARM = "document.title='ran'"
SCRIPTS = [
    f"<script>{ALARM}</script>",
    f"<img src=x onerror={ALARM}>",
    f"<svg onload={ALARM}>",
    f"<svg><script>{ALARM}</script></svg>",
    f'"><script>{ALARM}</script>',
    f"'><img src=x onerror={ALARM}>",
    f"</title><script>{ALARM}</script>",
    f"<iframe srcdoc='<script>parent.{ALARM}</script>'>",
    f"<body onload={ALARM}>",
    f"<details open ontoggle={ALARM}>",
    f"<video><source onerror={ALARM}></video>",
    f"<a href=javascript:{ALARM}>x</a>",
    f"<math><mtext></mtext><script>{ALARM}</script></math>",
    f"<input autofocus onfocus={ALARM}>",
    f"<!--><script>{ALARM}</script>-->",
]
"""Fifteen: each as a prompt, as a path that does not exist, as names of things and of a file; 75 attempts."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "needs Debian's chromium: bash infra/debian.sh chromium"
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
        made = playwright.chromium.launch(executable_path=path, args=flags)
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_page()
    yield made
    made.close()


@pytest.fixture
def url(config: ServeConfig, worker: Worker, served) -> Iterator[str]:
    """The API on a real socket."""
    del worker  # it has told what is served
    with served(create_app(config.model_copy(update={"webhook_hosts": ("hooks.example",)}))) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_client_names_never_runs(page: Page, url: str, script: str) -> None:
    made = httpx.post(f"{url}/v1/videos", json={"prompt": script, "seconds": "1", "size": "48x32"}, trust_env=False)
    assert made.status_code == 200
    assert made.json()["prompt"] == script
    for address in (f"/v1/videos/{made.json()['id']}", "/v1/videos", f"/v1/videos/{script}", f"/{script}"):
        page.goto(url + address)
        page.wait_for_timeout(50)
        assert page.title() != "ran", address


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_client_calls_its_things_never_runs(page: Page, url: str, script: str, tmp_path: Path) -> None:
    write_mp4(tmp_path / "film.mp4", np.zeros((4, 32, 48, 3), np.uint8), 8)
    with httpx.Client(base_url=f"{url}/v1", trust_env=False, timeout=30) as client:
        sent = {"video": (script, (tmp_path / "film.mp4").read_bytes(), "video/mp4")}
        character = client.post("/videos/characters", data={"name": script}, files=sent)
        wanted = {"name": script, "url": "https://hooks.example/x", "event_types": ["video.completed"]}
        endpoint = client.post("/webhook_endpoints", json=wanted)
    assert [reply.status_code for reply in (character, endpoint)] == [200, 200], (character.text, endpoint.text)
    assert character.json()["name"] == endpoint.json()["name"] == script
    for address in ("/v1/videos/characters", "/v1/webhook_endpoints", f"/v1/videos?after={quote(script)}"):
        page.goto(url + address)
        page.wait_for_timeout(50)
        assert page.title() != "ran", address


def test_the_alarm_rings_where_scripts_do_run(page: Page) -> None:
    """The negative control: a page that does not escape what it shows."""
    rung = 0
    for script in SCRIPTS:
        page.set_content(f"<title>calm</title><p>{script}</p>")
        page.wait_for_timeout(50)
        rung += page.title() == "ran"
    assert rung >= 8


class OtherSite(BaseHTTPRequestHandler):
    """A page of somebody else's that posts a form to the server, sends it requests and frames it."""

    target = ""

    def do_GET(self) -> None:
        """The page."""
        body = f"""<title>other</title><iframe name=frame src="{self.target}/v1/videos"></iframe>
            <form id=form method=post target=frame enctype=multipart/form-data action="{self.target}/v1/videos">
            <input name=prompt value=forged></form>""".encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Quiet."""


@pytest.fixture
def other_site(url: str) -> Iterator[str]:
    OtherSite.target = url
    server = HTTPServer(("127.0.0.1", 0), OtherSite)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_of_another_site_makes_nothing_reads_nothing_and_frames_nothing(
    page: Page, url: str, other_site: str, jobs: JobTable
) -> None:
    page.goto(other_site)
    page.evaluate("document.getElementById('form').submit()")
    page.wait_for_timeout(300)
    send = "([target, options]) => fetch(target, options).then(reply => reply.text(), error => 'refused')"
    posts = [
        {"method": "POST", "mode": "no-cors", "body": "prompt=forged", "headers": {"content-type": kind}}
        for kind in ("text/plain", "application/x-www-form-urlencoded")
    ]
    seen = [page.evaluate(send, [f"{url}/v1/videos", options]) for options in [{}, *posts]]
    assert seen == ["refused", "", ""], "what another site asks for stays unread"
    assert not jobs.list().jobs
    assert all("has_more" not in frame.content() for frame in page.frames), "nothing of the server's is framed"


def test_without_the_check_the_form_would_have_made_a_video(
    page: Page, url: str, other_site: str, jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the browser does send what the test above sees refused."""
    monkeypatch.setattr(access, "refuse_foreign_pages", lambda request, on_loopback: None)
    page.goto(other_site)
    page.evaluate("document.getElementById('form').submit()")
    page.wait_for_timeout(500)
    assert [job.prompt for job in jobs.list().jobs] == ["forged"]
