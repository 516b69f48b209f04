"""The autoencoder's training: resumed bit for bit, refused for other data, and better than nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data.workspace import Workspace
from model.autoencoder import VideoAutoencoder
from model.errors import ConfigError
from training.autoencoder import draw_batch, fit, make_autoencoder, measure_latents, measure_reconstruction, psnr_db
from training.clips import ClipSet
from training.config import AutoencoderTraining, Schedule

SCHEDULE = Schedule(num_steps=6, batch_size=4, lr=1e-3, warmup_steps=1, checkpoint_every=2)
CONFIG = AutoencoderTraining(
    schedule=SCHEDULE,
    fine_channels=16,
    coarse_channels=16,
    frame_channels=16,
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1, 1),
    latent_channels=4,
)


def _row(name: str) -> dict[str, str]:
    return {"clip_id": name, "digest": name, "sidecar_dense": "", "sidecar_short": ""}


@pytest.fixture
def sets() -> dict[str, ClipSet]:
    frames = np.random.default_rng(0).integers(0, 255, (6, 8, 32, 32, 3), dtype=np.uint8)
    return {"32x32x8": ClipSet("32x32x8", [_row(str(index)) for index in range(6)], frames)}


def _fitted(sets: dict[str, ClipSet], workspace: Workspace) -> VideoAutoencoder:
    network = make_autoencoder(CONFIG)
    fit(network, CONFIG, sets, workspace)
    return network


def _weights(network: VideoAutoencoder) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_a_killed_training_ends_with_the_same_weights(sets: dict[str, ClipSet], tmp_path: Path) -> None:
    unbroken = Workspace(tmp_path / "unbroken")
    straight = _fitted(sets, unbroken)
    killed = Workspace(tmp_path / "killed")
    newest = unbroken.checkpoints("autoencoder") / "step-000004"
    shutil.copytree(newest, killed.checkpoints("autoencoder") / newest.name)
    assert torch.equal(_weights(_fitted(sets, killed)), _weights(straight))
    assert [line.split(",")[0] for line in (killed.logs / "autoencoder.jsonl").read_text().splitlines()] == [
        '{"step": 4',
        '{"step": 5',
    ]


def test_a_checkpoint_of_other_clips_is_not_used(sets: dict[str, ClipSet], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    _fitted(sets, workspace)
    others = {name: ClipSet(name, [_row("new"), *one.rows[1:]], one.frames) for name, one in sets.items()}
    _fitted(others, workspace)
    assert len((workspace.logs / "autoencoder.jsonl").read_text().splitlines()) == SCHEDULE.num_steps


def test_training_helps_and_latents_come_out_normal(tmp_path: Path) -> None:
    flat = np.repeat(np.arange(0, 240, 30, dtype=np.uint8), 8 * 32 * 32 * 3).reshape(8, 8, 32, 32, 3)
    sets = {"32x32x8": ClipSet("32x32x8", [_row(str(index)) for index in range(8)], flat)}
    config = CONFIG.model_copy(update={"schedule": SCHEDULE.model_copy(update={"num_steps": 40})})
    network = make_autoencoder(config)
    before = measure_reconstruction(network, sets)["psnr_db"]
    fit(network, config, sets, Workspace(tmp_path))
    measure_latents(network, sets)
    assert measure_reconstruction(network, sets)["psnr_db"] > before + 3
    assert network.latent_std.min() > 0


def test_a_crop_of_half_a_group_is_refused(sets: dict[str, ClipSet]) -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        draw_batch(sets, CONFIG.model_copy(update={"num_frames": 6}), 0)


def test_psnr_of_known_errors() -> None:
    assert psnr_db(4.0) == pytest.approx(0)
    assert psnr_db(0.04) == pytest.approx(20)
