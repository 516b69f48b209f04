"""Kills a process that saves checkpoints at a random moment, again and again; test_checkpoint.py runs it.

Arguments: folder, number of kills. Ends with code 0 when each kill left what was said to be saved, whole.
"""

import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch

from training.checkpoint import load_newest, save_checkpoint


def survive_kills(root: Path, rounds: int) -> None:
    """Signal 9 at a random moment of saving; what was said to be saved is there, whole, each time."""
    draw, last = random.Random(6), 0
    for _ in range(rounds):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            save_for_ever(root, last + 1, writing)
        os.close(writing)
        assert select.select([reading], [], [], 60)[0], "the child hangs"
        os.read(reading, 4)  # the first is saved
        time.sleep(draw.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as pipe:
            last += 1 + len(pipe.read()) // 4
        newest = load_newest(root)
        assert newest is not None
        assert newest.step >= last
        assert bool((newest.tensors["w"] == newest.step).all())
        last = newest.step


def save_for_ever(root: Path, step: int, telling: int) -> NoReturn:
    """Saves a checkpoint after the other and tells of each, until it is killed."""
    while True:
        save_checkpoint(root, step, {"w": torch.full((20_000,), float(step))}, {})
        os.write(telling, b"done")
        step += 1


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads do not survive a fork
    survive_kills(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"survived {sys.argv[2]} kills\n")
