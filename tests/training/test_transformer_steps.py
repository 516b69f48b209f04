"""What one rank trains on beside whole clips: halves of them, and how a pipeline says so."""

import torch

from training.config import TransformerTraining
from training.transformer import also_trained
from training.transformer_steps import half_of


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
