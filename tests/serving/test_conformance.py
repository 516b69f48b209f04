"""The unmodified OpenAI SDK, several versions, with a server on a real socket: every method, sync and async."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from data.video import write_mp4
from flows.services import free_port
from model.tiny import save_tiny_pipeline
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.loader import load_model
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.worker import Worker

SESSION = Path(__file__).with_name("sdk_session.py")
VERSIONS = ("2.54.0", "3.51.0", "3.57.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, a film and its first picture."""
    path = tmp_path_factory.mktemp("conformance")
    save_tiny_pipeline(path / "tiny")
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), np.uint8)
    write_mp4(path / "film.mp4", frames, 8)
    Image.fromarray(frames[0]).save(path / "film.png")
    return path


@pytest.fixture
def hook_port() -> int:
    """Where the session listens for webhooks."""
    return free_port()


@pytest.fixture
def base_url(folder: Path, shelf, tmp_path: Path, hook_port: int, served) -> Iterator[str]:
    """A server with the real API, the real worker and a tiny model, without Ray."""
    config = ServeConfig.at(
        tmp_path / "serve", tracking_uri="unused", poll_interval_s=0.01, frame_check="off",
        webhook_hosts=(f"127.0.0.1:{hook_port}",), webhook_poll_s=0.05,
    )  # fmt: skip
    jobs = JobTable(Database(config.database_url))
    worker = Worker(
        config, name="tester", jobs=jobs, registry=shelf,
        load=lambda model, _: load_model(model._replace(weights_digest=""), folder / "tiny"),
    )  # fmt: skip
    worker.start()
    with served(create_app(config)) as port:
        yield f"http://127.0.0.1:{port}/v1"
    worker.stop()


def run_session(base_url: str, folder: Path, mode: str, hook_port: int, packages: Path | None = None) -> dict:
    """What came of a session in a process of its own, with the SDK that lies in `packages`."""
    environment = {**os.environ, "PYTHONPATH": str(packages or "")}
    command = [sys.executable, str(SESSION), base_url, str(folder / "film.mp4"), mode, str(hook_port)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_method_of_the_installed_sdk(base_url: str, folder: Path, mode: str, hook_port: int) -> None:
    report = run_session(base_url, folder, mode, hook_port)
    assert "webhook_endpoints" in report["steps"]
    assert {step: said for step, said in report["steps"].items() if said != "ok"} == {}


def test_every_setting_reaches_the_model(base_url: str, folder: Path, packets: Callable) -> None:
    """Each changes the video; the same request again does not."""
    with httpx.Client(base_url=base_url, timeout=60) as client:

        def made(route: str, **fields: Any) -> list[bytes]:
            video = client.post(route, json=plain | fields).raise_for_status().json()
            while video["status"] not in ("completed", "failed"):
                video = client.get(f"/videos/{video['id']}").json()
            assert video["status"] == "completed", video
            return packets(client.get(f"/videos/{video['id']}/content").content)

        plain: dict[str, Any] = {"prompt": "a red ball", "seed": 3, "num_inference_steps": 2}
        new = {"seconds": "1", "size": "48x32"}
        first = made("/videos", **new)
        assert made("/videos", **new) == first
        changes = ({"negative_prompt": "blue"}, {"guidance_scale": 7.0}, {"num_inference_steps": 3}, {"seed": 4})
        assert all(made("/videos", **new, **change) != first for change in changes)
        address = f"data:video/mp4;base64,{base64.b64encode((folder / 'film.mp4').read_bytes()).decode()}"
        clip = {"video": {"video_url": address}}
        weak, strong = (made("/videos/edits", **clip, strength=strength) for strength in (0.5, 1.0))
        assert weak != strong


@pytest.mark.chaos
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_method_of_other_versions(
    base_url: str, folder: Path, tmp_path: Path, hook_port: int, version: str, mode: str
) -> None:
    packages = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(packages), f"openai=={version}"]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    report = run_session(base_url, folder, mode, hook_port, packages)
    assert report["version"] == version
    assert {step: said for step, said in report["steps"].items() if said != "ok"} == {}


@pytest.mark.chaos
def test_every_method_of_the_sdk_for_node(base_url: str, folder: Path, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no Node here: bash infra/debian.sh nodejs npm")
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "openai@6"], cwd=tmp_path, check=True, timeout=300)
    command = ["node", str(SESSION.with_suffix(".mjs")), base_url, str(folder / "film.mp4")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout.splitlines()[-1])["steps"]
    assert len(steps) >= 11
    assert {step: said for step, said in steps.items() if said != "ok"} == {}
