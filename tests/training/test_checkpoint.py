"""Checkpoints: whole or absent, newest first, damage found, optimisers restored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from model.errors import CheckpointError, DiskFullError
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


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.chaos)])
def test_kills_while_saving_leave_the_newest_whole(tmp_path: Path, rounds: int) -> None:
    """R6, in a process of its own: one that has threads cannot be forked safely."""
    script = Path(__file__).with_name("kill_the_saver.py")
    done = subprocess.run([sys.executable, script, tmp_path, str(rounds)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"survived {rounds} kills\n"), done.stderr


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


def test_a_full_disk_is_named_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        save_checkpoint(disk / "run", 1, {"w": torch.ones(1000)}, {})
        for num_values in (300_000, 261_000):  # too much for the tensors, and for what comes after them
            with pytest.raises(DiskFullError, match="free some and resume"):
                save_checkpoint(disk / "run", 2, {"w": torch.ones(num_values)}, {})
            assert [folder.name for folder in (disk / "run").iterdir()] == ["step-000001"]
            saved = load_newest(disk / "run")
            assert saved is not None
            assert saved.step == 1
        assert save_checkpoint(disk / "run", 2, {"w": torch.ones(1000)}, {}).name == "step-000002"
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
