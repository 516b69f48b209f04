"""A rank's steps without Ray: resumed to the bit, on half clips too, and on a GPU where there is one."""

from pathlib import Path

import pytest
import torch

from data.latents import pack
from data.manifest import Member, publish
from data.tars import write_tar
from data.workspace import Workspace
from model.tiny import tiny_autoencoder
from model.weights import weights_digest
from training.config import Schedule, TransformerTraining
from training.transformer import also_trained
from training.transformer_steps import Trainer, half_of

CPU = torch.device("cpu")
DEVICES = [
    CPU,
    pytest.param(torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="has no GPU")),
]
BUCKET, GRID, TEXT_DIM = "32x32x16", (4, 4, 4), 8
CONFIG = TransformerTraining(
    schedule=Schedule(num_steps=8, batch_size=4, lr=1e-3, warmup_steps=1, checkpoint_every=4),
    dim=32,
    num_heads=2,
    num_blocks=2,
    compile=False,
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Latents of eight clips, as an autoencoder that is there made them."""
    place = Workspace(tmp_path)
    tiny_autoencoder().save_pretrained(str(place.autoencoder), safe_serialization=True)
    makers = {"autoencoder": weights_digest(place.autoencoder), "text_encoder": "t" * 64}
    place.latents.mkdir()
    draw = torch.Generator().manual_seed(0)
    members: list[Member] = []
    for group, names, shape in (
        ("latent", ("mean", "logvar"), (4, *GRID)),
        ("prompt", ("dense", "short"), (3, TEXT_DIM)),
    ):
        role = "autoencoder" if group == "latent" else "text_encoder"
        packed = [
            (f"clip-{index}.{group}.safetensors",
             pack({name: torch.randn(shape, generator=draw) for name in names}, {role: makers[role]}))
            for index in range(8)
        ]  # fmt: skip
        entries = write_tar(place.latents / f"{group}.tar", packed)
        members += [
            Member(f"clip-{index}", group, f"{group}.tar", entry.offset, entry.size, BUCKET, entry.digest)
            for index, entry in enumerate(entries)
        ]
    facts = {"latent_channels": 4, "max_prompt_tokens": 3, "prompt_dim": TEXT_DIM}
    publish(place.latents, members, parents=makers, facts=facts)
    return place


def _trained(workspace: Workspace, device: torch.device, config: TransformerTraining = CONFIG) -> torch.Tensor:
    """The weights at the end of the schedule, from the newest checkpoint on."""
    trainer = Trainer(config, workspace, device)
    for step in range(trainer.first_step, config.schedule.num_steps):
        figures = trainer.step(step)
        assert all(value.isfinite() for value in figures.values())
        if trainer.is_due(step):
            trainer.save(step)
    return torch.cat([value.flatten().cpu() for value in trainer.network.state_dict().values()])


@pytest.mark.parametrize("device", DEVICES)
def test_a_killed_training_ends_with_the_same_weights(workspace: Workspace, device: torch.device) -> None:
    whole = _trained(workspace, device)
    (workspace.checkpoints("transformer") / "step-000008" / "COMMITTED").unlink()
    assert Trainer(CONFIG, workspace, device).first_step == 4
    # a GPU adds up in no fixed order
    torch.testing.assert_close(_trained(workspace, device), whole, rtol=0, atol=0 if device == CPU else 1e-3)


def test_half_clips_are_trained_on_where_a_recipe_asks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(CONFIG.model_copy(update={"short_fraction": 0.5}), workspace, CPU)
    lengths: list[int] = []
    forward = trainer.model.forward
    monkeypatch.setattr(trainer.model, "forward", lambda x, *rest: (lengths.append(x.shape[2]), forward(x, *rest))[1])
    for step in range(16):
        trainer.step(step)
    assert set(lengths) == {2, 4}


def test_half_of_the_frames_are_neighbours_from_anywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = {(part.start, part.stop) for part in (half_of(4, generator) for _ in range(50))}
    assert seen == {(0, 2), (1, 3), (2, 4)}


def test_an_image_is_not_halved() -> None:
    assert half_of(1, torch.Generator()) == slice(0, 1)


def test_a_pipeline_names_every_size_it_was_trained_on() -> None:
    own, scaled = ["112x112x16"], ["64x64x16"]
    assert also_trained(TransformerTraining(), own, scaled) == []
    assert also_trained(TransformerTraining(scaled_fraction=0.5), own, scaled) == scaled
    assert also_trained(TransformerTraining(short_fraction=0.1), own, scaled) == ["112x112x8"]
    both = TransformerTraining(scaled_fraction=0.5, short_fraction=0.1)
    assert also_trained(both, own, scaled) == ["112x112x8", "64x64x16", "64x64x8"]
