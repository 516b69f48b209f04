"""The services around the line, each a process of its own on loopback: how each is started, and when it is ready."""

import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from flows.home import services_folder
from flows.lazy import resolve
from model.errors import CapacityError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
MOST_STARTS = 10
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # outlives the exec below
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died before this began")
os.execv(sys.argv[2], sys.argv[2:])
"""


def free_port(preferred: int = 0) -> int:
    """The preferred port when nothing listens there, else one that the system gives."""
    for port in (preferred, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CapacityError(f"no free TCP port on {HOST}; end some servers and try again")


def quiet_environment() -> dict[str, str]:
    """Settings under which Prefect, Ray and MLflow keep to this machine: local files, no telemetry, few words.

    Set them before these packages are imported; they read them then.
    """
    # The name is odd, but only this keeps Ray's ports on loopback: it replaces 127.0.0.1 by an outer address.
    on_loopback = {} if os.environ.get("RAY_ADDRESS") else {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return on_loopback | {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(services_folder() / "prefect"),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "model,data,training,serving,flows",
        "PREFECT_CLI_PROMPT": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
        "TOKENIZERS_PARALLELISM": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
    }


def prefect_server_command(port: int) -> list[str]:
    """The Prefect server as one process (`prefect server start` would put a second one around it)."""
    return [
        sys.executable,
        *("-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
        *("--host", HOST, "--port", str(port), "--log-level", "error", "--lifespan", "on"),
    ]


def prefect_environment(port: int) -> dict[str, str]:
    """What a client, a worker and the server itself need to find the Prefect server at `port`."""
    return {
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
    }


def ray_environment() -> dict[str, str]:
    """What Ray's processes need to know each other by: a secret token in a file that only this user can read.

    Their temporary files lie apart from Ray's usual place, where any `ray.init()` would look for a cluster to join.
    """
    path = services_folder() / "ray_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    # short, since Ray puts sockets below it, whose paths may have 107 bytes
    apart = Path(tempfile.gettempdir()) / f"skyloom-{os.getuid()}"
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path), "RAY_TMPDIR": str(apart)}


@contextmanager
def prefect_server(running: str | None = None) -> Iterator[str]:
    """A Prefect API for this process: the running one, or a server that ends with this block.

    Should the server die before, another takes its place, with the same runs; Prefect's clients wait for that.

    Yields the API's URL, which is in the environment too; import Prefect inside the block.

    Raises:
        CapacityError: the server did not answer within two minutes; its log is named.
    """
    if running:
        os.environ["PREFECT_API_URL"] = running
        yield running
        return
    port = free_port(4200)
    os.environ |= prefect_environment(port)
    log_file = services_folder() / "prefect.log"
    server = KeptRunning(lambda: launch(prefect_server_command(port), log_file, dies_with_parent=True))
    url = f"http://{HOST}:{port}/api"
    try:
        wait_until_ready(f"{url}/health", server.process, log_file)
        yield url
    finally:
        if "prefect" in sys.modules:  # its log lines travel in a thread; they must arrive before the server goes
            resolve("prefect.logging.handlers:APILogHandler")().flush()
        server.end()


class KeptRunning:
    """A process that is started again when it dies, until it is ended; one that dies at once is so a few times only."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start, self._is_ending, self._lock = start, False, threading.Lock()
        self.process = start()
        threading.Thread(target=self._watch, daemon=True, name="kept running").start()

    def end(self) -> None:
        """Ends it for good."""
        with self._lock:
            self._is_ending = True
        end(self.process)

    def _watch(self) -> None:
        for number in range(MOST_STARTS):
            code = self.process.wait()
            with self._lock:
                if self._is_ending or number == MOST_STARTS - 1:
                    return
                log.warning("a service of this run ended with code %d; it is started again", code)
                self.process = self._start()


def launch(
    command: Sequence[str],
    log_file: Path,
    *,
    environment: Mapping[str, str] | None = None,
    dies_with_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, so that Ctrl-C in the terminal reaches only its parent.

    With `dies_with_parent` the kernel ends it even when the parent is killed with signal 9.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    guard = [sys.executable, "-c", DIE_WITH_PARENT, str(os.getpid())]
    is_guarded = dies_with_parent and sys.platform == "linux"
    with log_file.open("ab") as output:
        return subprocess.Popen(
            [*guard, *command] if is_guarded else command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log_file: Path, *, timeout_s: float = 120.0) -> None:
    """Returns when `url` answers without an error.

    Raises:
        CapacityError: the process ended, or the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CapacityError(f"a service ended with exit code {process.returncode}; see {log_file}")
        try:
            if httpx.get(url, timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise CapacityError(f"{url} did not answer within {timeout_s:.0f} s; see {log_file}")


def end(process: subprocess.Popen[bytes], *, grace_s: float = 10.0) -> None:
    """Asks the process to end, and ends it when it does not."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
