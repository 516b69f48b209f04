"""A service of a run that dies is started again; one that was ended is not, nor one that cannot live."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import services
from flows.services import KeptRunning


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_dies_is_started_again_until_it_is_ended() -> None:
    started: list[int] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        started.append(process.pid)
        return process

    kept = KeptRunning(start)
    kept.process.kill()
    wait_for(lambda: len(started) == 2)
    assert kept.process.pid == started[1]
    kept.end()
    time.sleep(0.2)
    assert len(started) == 2
    assert kept.process.poll() is not None


def test_what_cannot_live_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(services, "MOST_STARTS", 3)
    started = tmp_path / "started"
    command = [sys.executable, "-c", f"open({str(started)!r}, 'a').write('x')"]
    kept = KeptRunning(lambda: subprocess.Popen(command))
    wait_for(lambda: started.exists() and started.read_text() == "xxx")
    time.sleep(0.3)
    assert started.read_text() == "xxx"
    kept.end()
