"""A whole model of some kilobytes with random weights, for tests of loading, serving and saving."""

from pathlib import Path

import torch

from model.autoencoder import VideoAutoencoder
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.transformer import SpacetimeTransformer


def tiny_autoencoder(seed: int = 0) -> VideoAutoencoder:
    """An autoencoder with 4 latent channels and a few thousand weights."""
    torch.manual_seed(seed)
    return VideoAutoencoder(
        latent_channels=4,
        frame_channels=8,
        fine_channels=8,
        coarse_channels=16,
        encoder_blocks=(1, 1, 1),
        decoder_blocks=(1, 1, 1),
    ).eval()


def tiny_transformer(seed: int = 0) -> SpacetimeTransformer:
    """A transformer for the latents of `tiny_autoencoder`; its output layer is random: text changes the video."""
    torch.manual_seed(seed)
    network = SpacetimeTransformer(latent_channels=4, dim=32, num_heads=2, num_blocks=2, mlp_ratio=2)
    for layer in (network.modulation, network.out_modulation, network.patch_out):
        torch.nn.init.normal_(layer.weight, std=0.2)
    return network.eval()


def save_tiny_pipeline(folder: Path, seed: int = 0) -> str:
    """Write a tiny random model to `folder`; returns its weights digest."""
    pipeline = SkyloomPipeline(tiny_autoencoder(seed), tiny_transformer(seed))
    pipeline.facts = PipelineFacts(
        fps=8, trained_buckets=["64x64x16", "80x48x16", "48x80x16"], default_num_steps=4, recipe="tiny"
    )
    return pipeline.save(Path(folder))
