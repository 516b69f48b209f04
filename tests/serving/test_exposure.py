"""The server does not start beside MLflow, Prefect or Ray that other machines may use as they like (S13).

127.1 is another way to write 127.0.0.1, and no name of loopback to us: it stands for an address of another machine.
"""

import base64
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from flows.commands.flags import read_flags
from flows.commands.serve import ServeFlags
from flows.services import free_port
from model.errors import ConfigError
from serving.app import build, start
from serving.config import ServeConfig
from serving.exposure import check_services

LOOPBACK, ELSEWHERE = "127.0.0.1", "127.1"
Guarded = Callable[[str], int]


@pytest.fixture
def guarded(served) -> Iterator[Guarded]:
    """Starts a server that gives everything to one `USER:PASSWORD` (to anybody, without one); returns its port."""
    running = ExitStack()

    def run(login: str) -> int:
        wanted = f"Basic {base64.b64encode(login.encode()).decode()}"

        def answer(request: Request) -> Response:
            allowed = not login or request.headers.get("authorization") == wanted
            return PlainTextResponse("here", status_code=200 if allowed else 401)

        app = Starlette(routes=[Route("/{path:path}", answer)])
        return running.enter_context(served(app))

    with running:
        yield run


def test_what_is_on_loopback_needs_no_password(guarded: Guarded) -> None:
    port = guarded("")
    environment = {"PREFECT_API_URL": f"http://localhost:{port}/api"}
    for host in (LOOPBACK, "localhost", "[::1]"):
        check_services(f"http://{host}:{port}", f"{host}:6379", environment)


@pytest.mark.parametrize("uri", ["sqlite:////srv/mlflow.db", "/srv/mlruns", "postgresql://u:p@elsewhere/mlflow"])
@pytest.mark.parametrize("ray_address", ["", "auto", "local"])
def test_a_machine_of_its_own_needs_no_password(uri: str, ray_address: str) -> None:
    check_services(uri, ray_address, {})


def test_mlflow_that_asks_nobody_is_refused(guarded: Guarded) -> None:
    port = guarded("")
    with pytest.raises(ConfigError, match=rf"MLflow at 127.1:{port} asks nobody.*MLFLOW_AUTH_ADMIN_PASSWORD.*insecure"):
        check_services(f"http://u:secret@{ELSEWHERE}:{port}/", "", {})


def test_the_first_password_of_mlflow_is_refused(guarded: Guarded) -> None:
    port = guarded("admin:password1234")
    with pytest.raises(ConfigError, match=rf"MLflow at 127.1:{port} has the password of its first start"):
        check_services(f"http://{ELSEWHERE}:{port}", "", {})


def test_prefect_that_asks_nobody_is_refused(guarded: Guarded) -> None:
    port = guarded("")
    with pytest.raises(ConfigError, match=rf"Prefect at 127.1:{port}.*PREFECT_SERVER_API_AUTH_STRING"):
        check_services("", "", {"PREFECT_API_URL": f"http://{ELSEWHERE}:{port}/api"})


@pytest.mark.parametrize("address", ["ray:6379", "ray://10.1.2.3:10001", "[fd00::1]:6379", "0.0.0.0:6379"])
def test_ray_without_a_token_is_refused(address: str) -> None:
    for mode in ({}, {"RAY_AUTH_MODE": "disabled"}):
        with pytest.raises(ConfigError, match=r"Ray at .*RAY_AUTH_MODE=token"):
            check_services("", address, mode)
    check_services("", address, {"RAY_AUTH_MODE": "token"})


def test_services_that_ask_who_calls_may_be_anywhere(guarded: Guarded) -> None:
    port = guarded("operator:a long one")
    environment = {"PREFECT_API_URL": f"http://{ELSEWHERE}:{port}/api", "RAY_AUTH_MODE": "token"}
    check_services(f"http://{ELSEWHERE}:{port}", "ray:6379", environment)


def test_all_that_is_open_is_named_at_once_and_no_password(guarded: Guarded) -> None:
    port = guarded("")
    with pytest.raises(ConfigError) as refused:
        check_services(
            f"http://u:secret@{ELSEWHERE}:{port}", "ray:6379", {"PREFECT_API_URL": f"http://{ELSEWHERE}:{port}"}
        )
    assert [name for name in ("MLflow", "Prefect", "Ray") if name in str(refused.value)] == ["MLflow", "Prefect", "Ray"]
    assert "secret" not in str(refused.value)


def test_what_does_not_answer_is_not_called_open() -> None:
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        check_services(f"http://{ELSEWHERE}:{silent.getsockname()[1]}", "", {})


def test_neither_way_to_start_passes_an_open_service(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = guarded("")
    config = ServeConfig.at(tmp_path, tracking_uri=f"http://{ELSEWHERE}:{port}")
    for way in (build, start):
        with pytest.raises(ConfigError, match="MLflow"):
            way(config)
    assert build(config.model_copy(update={"insecure_dev": True}))
    config = ServeConfig.at(tmp_path, tracking_uri="sqlite:///unused")
    assert build(config)
    monkeypatch.setenv("RAY_ADDRESS", "ray:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # a Ray that was started in this process has set it
    with pytest.raises(ConfigError, match="Ray at ray:6379"):
        build(config)


@pytest.mark.parametrize("word", ["--insecure-dev", "--insecure_dev"])
def test_the_flag_is_off_until_it_is_given(word: str) -> None:
    assert not read_flags(ServeFlags, "serve", []).insecure_dev
    assert read_flags(ServeFlags, "serve", [word]).model_dump()["insecure_dev"]


@contextlib.contextmanager
def service(folder: Path, health: str, command: list[str], **environment: str) -> Iterator[None]:
    """A real server, once it answers."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=os.environ | environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(health, trust_env=False).is_success:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.integration
@pytest.mark.parametrize("login", ["", "operator:a long one"])
def test_a_real_prefect_is_seen_as_it_is(tmp_path: Path, login: str) -> None:
    port = free_port()
    command = ["uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", LOOPBACK, "--port", str(port)]
    settings = {"PREFECT_HOME": str(tmp_path)} | ({"PREFECT_SERVER_API_AUTH_STRING": login} if login else {})
    asked = {"PREFECT_API_URL": f"http://{ELSEWHERE}:{port}/api"}
    with service(tmp_path, f"http://{LOOPBACK}:{port}/api/health", command, **settings):
        if login:
            asked_with = {"auth": tuple(login.split(":")), "timeout": 60, "trust_env": False}
            assert httpx.get(f"http://{LOOPBACK}:{port}/api/admin/version", **asked_with).is_success
            check_services("", "", asked)
        else:
            with pytest.raises(ConfigError, match="Prefect"):
                check_services("", "", asked)


@pytest.mark.integration
def test_a_real_mlflow_is_seen_as_it_is(tmp_path: Path) -> None:
    """Open as it comes; with basic-auth, which wants a package more, it was tried by hand: 401 until one logs in."""
    port = free_port()
    where = ["--host", LOOPBACK, "--port", str(port), "--workers", "1", "--allowed-hosts", "*"]
    command = ["mlflow", "server", *where, "--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    with service(tmp_path, f"http://{LOOPBACK}:{port}/health", command), pytest.raises(ConfigError, match="MLflow"):
        check_services(f"http://{ELSEWHERE}:{port}", "", {})
