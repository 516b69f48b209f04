"""Workers, Ray and the stage itself killed with signal 9 while latents are made: the manifest is the same (R8).

`make chaos`.
"""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from data.config import ShardConfig
from data.manifest import Dataset
from data.shards import write_dataset
from model.tiny import tiny_autoencoder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

NUM_KILLS, MOST_TRIES = 50, 100  # a try counts when the stage was still at work
VICTIMS = ("worker", "raylet", "stage")
STAGE = """
import sys
from pathlib import Path
from data.config import EncodeConfig
from data.encode import encode_dataset
from data.workspace import Workspace
encode_dataset(EncodeConfig(batch_size=2, text_batch_size=3, num_threads=1, num_actors=2), Workspace(Path(sys.argv[1])))
"""


def started(workspace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STAGE, str(workspace.root)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)


def processes_of(stage: subprocess.Popen[bytes], kind: str) -> list[psutil.Process]:
    """The processes of one kind below a running stage."""
    if kind == "stage":
        return [psutil.Process(stage.pid)]
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(stage.pid).children(recursive=True)
        names = {"worker": "ray::ShardEncoder", "raylet": "raylet/raylet"}
        return [each for each in below if names[kind] in " ".join(_words(each))]
    return []


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def end_all(stage: subprocess.Popen[bytes], below: list[psutil.Process]) -> None:
    """Ends the stage and what is left of its Ray."""
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    stage.kill()
    stage.wait()


def kill_one(workspace, kind: str, draw: random.Random) -> bool:
    """Whether a process of the kind was killed while the stage was at work; the stage has ended then."""
    stage = started(workspace)
    deadline = time.monotonic() + 600
    while not (found := processes_of(stage, kind)) and stage.poll() is None:
        assert time.monotonic() < deadline, f"no {kind} came up"
        time.sleep(0.02)
    time.sleep(draw.uniform(0, 1.5))
    below = psutil.Process(stage.pid).children(recursive=True) if stage.poll() is None else []
    was_at_work, was_killed = stage.poll() is None, False
    for victim in draw.sample(found, min(1, len(found))):
        with suppress(psutil.NoSuchProcess):
            victim.kill()  # a raylet that forks is two of them for a moment
            was_killed = True
    with suppress(subprocess.TimeoutExpired):
        code = stage.wait(30 if kind == "worker" else 10)
        if kind == "worker" and was_at_work:
            assert code == 0, "a lost worker ends no stage"
    end_all(stage, below)
    return was_at_work and was_killed


def test_whatever_is_killed_the_latents_are_the_same(workspace, captioned) -> None:
    write_dataset(ShardConfig(clips_per_shard=1), workspace)
    tiny_autoencoder().save_pretrained(str(workspace.autoencoder))
    assert started(workspace).wait(600) == 0
    clean = {path.name: path.read_bytes() for path in workspace.latents.iterdir()}
    draw, num_killed, number = random.Random(0), 0, 0
    while num_killed < NUM_KILLS:
        assert number < MOST_TRIES
        for name in draw.sample(sorted(name for name in clean if name.endswith(".tar")), 6):
            (workspace.latents / name).unlink(missing_ok=True)
        num_killed += kill_one(workspace, VICTIMS[number % len(VICTIMS)], draw)
        number += 1
    assert started(workspace).wait(600) == 0
    assert {path.name: path.read_bytes() for path in workspace.latents.iterdir()} == clean
    keys = [member.key for member in Dataset.open(workspace.latents).group("latent")]
    assert sorted(keys) == sorted(row["clip_id"] for row in captioned), "none is missing, none is twice"
