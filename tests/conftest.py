"""What every test may lean on: services that are quiet, keep to this machine and write to a folder of their own."""

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import uvicorn
from jaxtyping import install_import_hook

# Ray, Prefect, MLflow and MuJoCo read these when they are imported, so they stand before every import of one.
_home = tempfile.mkdtemp(prefix="skyloom-tests-")
os.environ |= {
    "DO_NOT_TRACK": "1",
    "MUJOCO_GL": "egl",
    "OMP_NUM_THREADS": "1",  # tiny models are slower on two threads than on one, and the tests run two at once
    "PREFECT_HOME": f"{_home}/prefect",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SKYLOOM_HOME": f"{_home}/artifacts",
}
for _name in ("RAY_ADDRESS", "PREFECT_API_URL"):
    os.environ.pop(_name, None)

# Shapes in the signatures of model/ are checked in tests only: they cannot rot, and production pays nothing. Modules
# whose methods give `Self` are left out, since beartype takes that word only on classes that it decorates itself.
SHAPED = (
    "autoencoder",
    "autoencoder_blocks",
    "diffusion",
    "guidance",
    "layers",
    "memory",
    "pixels",
    "rope",
    "sampling",
    "streaming",
    "transformer",
)
install_import_hook([f"model.{name}" for name in SHAPED], "beartype.beartype")


@pytest.fixture
def served() -> Callable[..., AbstractContextManager[int]]:
    """Serves an ASGI application on a real socket while a `with` lasts, and gives the port; options are uvicorn's."""
    return _served


@contextmanager
def _served(app: Any, **options: Any) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, **{"log_level": "critical"} | options))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


class Canary:
    """A port that nobody may connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.visits = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                visitor = self._socket.accept()[0]
            except OSError:
                return
            self.visits += 1  # before the visitor is told: who came reads the count as soon as the line is shut
            visitor.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    time.sleep(0.05)
    made.close()
