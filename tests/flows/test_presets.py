"""The presets: whole recipes, whose networks have the planned sizes."""

import pytest
import torch

from flows.presets import PRESETS
from flows.recipes import Recipe
from model.shapes import VideoShape
from training.autoencoder import make_autoencoder
from training.transformer_steps import make_transformer


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_recipe_of_its_name_that_survives_json(name: str) -> None:
    recipe = PRESETS[name]()
    assert recipe.name == name
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("name", PRESETS)
def test_every_bucket_is_a_whole_number_of_patches(name: str) -> None:
    recipe = PRESETS[name]()
    for bucket in recipe.curate.ingest.buckets:
        shape = VideoShape.parse(bucket)
        step = 8 * recipe.transformer.patch_size
        assert shape.width % step == shape.height % step == shape.num_frames % 4 == 0


@pytest.mark.parametrize(
    ("name", "autoencoder_millions", "transformer_millions"),
    [("demo", 5, 6), ("starter", 5, 8), ("film", 13, 20), ("base", 48, 510), ("large", 48, 2600)],
)
def test_networks_have_the_planned_sizes(name: str, autoencoder_millions: float, transformer_millions: float) -> None:
    recipe = PRESETS[name]()
    with torch.device("meta"):
        networks = (
            make_autoencoder(recipe.autoencoder),
            make_transformer(recipe.transformer, recipe.autoencoder.latent_channels, 384),
        )
    millions = [sum(p.numel() for p in network.parameters()) / 1e6 for network in networks]
    assert millions == pytest.approx([autoencoder_millions, transformer_millions], rel=0.1)
