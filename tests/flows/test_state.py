import socket
import subprocess
import sys
import time

import psutil
import pytest

from flows.commands.services import down
from flows.services import free_port, launch
from flows.state import Service, process_of, read_services, running_url, state_file, write_services

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    process = launch(SLEEP, tmp_path / "log")
    yield process
    process.kill()
    process.wait()


def service(process, **changes):
    created_at = psutil.Process(process.pid).create_time()
    values = {"name": "prefect", "pid": process.pid, "created_at": created_at, "url": "http://x", "log": "log"}
    return Service(**values | changes)


def test_running_services_are_remembered(sleeper):
    write_services([service(sleeper)])
    assert [found.pid for found in read_services()] == [sleeper.pid]
    assert running_url("prefect") == "http://x"
    assert running_url("mlflow") is None


def test_a_pid_that_was_given_away_again_is_not_ours(sleeper):
    assert process_of(service(sleeper, created_at=1.0)) is None


def test_down_ends_what_was_started_and_nothing_else(sleeper, tmp_path):
    bystander = subprocess.Popen(SLEEP)
    try:
        write_services([service(sleeper)])
        down("down", [])
        assert not psutil.pid_exists(sleeper.pid)
        assert bystander.poll() is None
        assert not state_file().exists()
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("is_under_way", [True, False])
def test_a_service_dies_with_its_parent_even_by_signal_9(tmp_path, is_under_way):
    code = (
        "import sys; from pathlib import Path; from flows.services import launch; import time\n"
        f"print(launch({SLEEP!r}, Path({str(tmp_path / 'log')!r}), dies_with_parent=True).pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    while is_under_way and child.cmdline() != SLEEP:  # until the guard has become the service
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([child], timeout=5)[1] == []


def test_a_taken_port_is_not_given():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
