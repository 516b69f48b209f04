"""Training that goes on from other weights: taken over whole, and refused where they do not fit."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from data.workspace import Workspace
from model.errors import CheckpointError, ConfigError
from model.pipeline import SkyloomPipeline
from training.autoencoder import fit, make_autoencoder
from training.clips import ClipSet
from training.config import AutoencoderTraining, Schedule, TransformerTraining
from training.transformer_steps import make_transformer

SHAPE = {
    "fine_channels": 16, "coarse_channels": 16, "frame_channels": 16, "latent_channels": 4,
    "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1, 1),
}  # fmt: skip
SCHEDULE = Schedule(num_steps=2, batch_size=2, lr=1e-3)


def autoencoder_settings(**changes: object) -> AutoencoderTraining:
    return AutoencoderTraining.model_validate({"schedule": SCHEDULE, **SHAPE, **changes})


def transformer_settings(**changes: object) -> TransformerTraining:
    settings = {"schedule": SCHEDULE, "dim": 32, "num_heads": 2, "num_blocks": 1, "num_text_blocks": 1}
    return TransformerTraining.model_validate(settings | changes)


@pytest.fixture
def folder(tmp_path):
    """A pipeline folder whose weights no seed gives."""
    autoencoder = make_autoencoder(autoencoder_settings())
    transformer = make_transformer(transformer_settings(), 4, 384)
    with torch.no_grad():
        for network in (autoencoder, transformer):
            for parameter in network.parameters():
                parameter.add_(0.5)
        autoencoder.latent_mean.add_(3)
    SkyloomPipeline(autoencoder, transformer).save_pretrained(str(tmp_path / "pipeline"), safe_serialization=True)
    return tmp_path / "pipeline"


def test_both_networks_begin_with_the_given_weights_and_statistics(folder):
    autoencoder = make_autoencoder(autoencoder_settings(start_from=str(folder)))
    transformer = make_transformer(transformer_settings(start_from=str(folder)), 4, 384)
    fresh = make_transformer(transformer_settings(), 4, 384)
    assert torch.equal(autoencoder.latent_mean, torch.full((4,), 3.0))
    for mine, seeded in zip(transformer.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, seeded + 0.5)
    assert all(parameter.requires_grad for parameter in transformer.parameters())


def test_weights_of_another_shape_are_refused_by_name(folder):
    with pytest.raises(ConfigError, match=r"(?s)tensors of the transformer differ.*recipe's sizes"):
        make_transformer(transformer_settings(start_from=str(folder), num_blocks=2), 4, 384)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no autoencoder"):
        make_autoencoder(autoencoder_settings(start_from=str(tmp_path)))


def test_a_decoder_cannot_be_trained_alone_without_an_encoder():
    with pytest.raises(ValidationError, match="start_from"):
        autoencoder_settings(noisy_tail=1)
    assert not autoencoder_settings(noisy_tail=1, start_from="starter").trains_encoder


def test_a_relative_folder_means_the_same_from_everywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert transformer_settings(start_from="weights").start_from == str(tmp_path / "weights")
    assert transformer_settings(start_from="starter").start_from == "starter"


def test_the_decoder_alone_leaves_the_latents_as_they_were(folder, tmp_path):
    settings = autoencoder_settings(start_from=str(folder), noisy_tail=1)
    frames = np.random.default_rng(0).integers(0, 255, (4, 8, 32, 32, 3), dtype=np.uint8)
    rows = [{"clip_id": name, "digest": name, "sidecar_dense": "", "sidecar_short": ""} for name in "abcd"]
    network = make_autoencoder(settings)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(network, settings, {"32x32x8": ClipSet("32x32x8", rows, frames)}, Workspace(tmp_path / "run"))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("decoder") for name in changed)
