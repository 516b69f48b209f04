"""Checkpoints: whole or absent, newest first, damage found, optimisers restored."""

import os
import random
import select
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import nn

from model.errors import CheckpointError
from training.checkpoint import (
    COMMITTED,
    FACTS,
    STATE,
    committed_folders,
    load_checkpoint,
    load_newest,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizers,
    save_checkpoint,
)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, {"w": torch.full((2,), float(step))}, {"note": step})
    assert [folder.name for folder in committed_folders(tmp_path)] == ["step-000030", "step-000020"]
    newest = load_newest(tmp_path)
    assert newest is not None
    assert (newest.step, newest.facts, newest.tensors["w"].tolist()) == (30, {"note": 30}, [30.0, 30.0])


def test_a_checkpoint_without_commit_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"w": torch.ones(1)}, {})
    (save_checkpoint(tmp_path, 2, {"w": torch.ones(1)}, {}) / COMMITTED).unlink()
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 1
    with pytest.raises(CheckpointError, match="never finished"):
        load_checkpoint(tmp_path / "step-000002")


@pytest.mark.parametrize("name", [STATE, FACTS, COMMITTED])
def test_every_single_byte_of_damage_is_found(tmp_path: Path, name: str) -> None:
    saved = {"w": torch.arange(8.0)}
    folder = save_checkpoint(tmp_path, 1, saved, {"a": "b"})
    good = (folder / name).read_bytes()
    for place in range(len(good)):
        for flip in (1, 0x80):
            (folder / name).write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
            try:
                found = load_checkpoint(folder)
            except CheckpointError:
                continue
            assert name == COMMITTED, "what is promised by digest cannot change unseen"
            assert (found.step, found.facts, found.tensors["w"].tolist()) == (1, {"a": "b"}, saved["w"].tolist())


def test_kills_while_saving_leave_the_newest_whole(tmp_path: Path) -> None:
    survive_kills(tmp_path, rounds=10)


@pytest.mark.chaos
def test_many_kills_while_saving_leave_the_newest_whole(tmp_path: Path) -> None:
    survive_kills(tmp_path, rounds=100)


def survive_kills(root: Path, rounds: int) -> None:
    """R6: signal 9 at a random moment of saving; what was said to be saved is there, whole, each time."""
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
    """Saves a checkpoint after the other and tells of each, until it is killed.

    The tensor is so small that torch uses one thread: its others did not survive the fork.
    """
    while True:
        save_checkpoint(root, step, {"w": torch.full((20_000,), float(step))}, {})
        os.write(telling, b"done")
        step += 1


def test_nothing_saved_is_no_error(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") is None


def test_training_goes_on_bit_for_bit_after_a_restore(tmp_path: Path) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
        return network, torch.optim.AdamW(network.parameters(), lr=0.1)

    def update(network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.zero_grad()
        network(torch.full((3, 4), float(step))).square().mean().backward()
        optimizer.step()

    straight, optimizer = build()
    for step in range(6):
        update(straight, optimizer, step)
        if step == 2:
            tensors = module_tensors("net", straight) | optimizer_tensors({"adam": optimizer})
            save_checkpoint(tmp_path, 3, tensors, {})
    resumed, optimizer = build()
    saved = load_newest(tmp_path)
    assert saved is not None
    restore_module("net", resumed, saved.tensors)
    restore_optimizers({"adam": optimizer}, saved.tensors)
    for step in range(3, 6):
        update(resumed, optimizer, step)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
