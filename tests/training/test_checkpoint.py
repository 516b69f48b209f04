"""Checkpoints: whole or absent, newest first, damage found, optimisers restored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.diffusion import add_noise, velocity_loss
from model.errors import CheckpointError, DiskFullError
from model.tiny import tiny_transformer
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
from training.config import Schedule
from training.ema import Ema
from training.ema_profiles import power_function
from training.optim import make_optimizers, update


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


class _Run:
    """A tiny transformer in training, with all that a checkpoint holds."""

    def __init__(self) -> None:
        schedule = Schedule(num_steps=100, batch_size=2, lr=1e-3)
        self.network, self.average = tiny_transformer().train(), tiny_transformer()
        self.optimizers = make_optimizers(self.network, schedule, muon_lr=1e-2, weight_decay=0.01)
        self.ema = Ema(self.network, self.average, power_function(0.1))

    def step(self, step: int) -> float:
        """The loss of an update whose data and noise follow from its number."""
        generator = torch.Generator().manual_seed(step)
        x0, noise = torch.randn(2, 2, 4, 2, 4, 4, generator=generator)
        sigma = torch.rand(2, 2, generator=generator)
        states, mask = torch.randn(2, 5, 384, generator=generator), torch.ones(2, 5).bool()
        predicted = self.network(add_noise(x0, noise, sigma), sigma, states, mask)
        loss = velocity_loss(predicted, x0, noise, torch.ones(2, 2).bool())
        update(self.optimizers, loss, self.network, 1.0)
        self.ema.update(step)
        return loss.item()

    def save(self, root: Path, step: int) -> None:
        """As the trainer does."""
        tensors = module_tensors("net", self.network) | module_tensors("ema", self.average)
        save_checkpoint(root, step, tensors | optimizer_tensors(self.optimizers), {})

    def restore(self, root: Path) -> int:
        """The steps that were done."""
        saved = load_newest(root)
        assert saved is not None
        restore_module("net", self.network, saved.tensors)
        restore_module("ema", self.average, saved.tensors)
        restore_optimizers(self.optimizers, saved.tensors)
        return saved.step


def test_training_goes_on_for_fifty_steps_bit_for_bit_after_a_restore(tmp_path: Path) -> None:
    """R6."""
    straight, resumed = _Run(), _Run()
    for step in range(5):
        straight.step(step)
    straight.save(tmp_path, 5)
    assert resumed.restore(tmp_path) == 5
    losses = [[run.step(step) for step in range(5, 55)] for run in (straight, resumed)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 50
    for mine, other in ((straight.network, resumed.network), (straight.average, resumed.average)):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))


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
