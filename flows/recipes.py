"""Recipes: the settings of every stage in one value, and the presets that people start from."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from data.atomic import replacing
from data.config import CaptionConfig, CurateConfig, EncodeConfig, ShardConfig
from data.workspace import Workspace
from data.worlds.config import FilmsConfig
from model.config import Config
from model.shapes import Compression
from training.config import (
    AutoencoderTraining,
    CaptionerTraining,
    EvaluationConfig,
    RegistryConfig,
    TransformerTraining,
)

COMPRESSION = Compression()


class ServingOptions(Config):
    """How the champion is served; job table and files lie in the workspace."""

    port: int = Field(
        default=8000, ge=0, le=65535, description="TCP port on loopback; another free one when it is taken"
    )
    num_cpus: float = Field(default=1.0, gt=0, description="CPU cores of the model replica")
    num_gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs that the model replica reserves; the network itself computes on the CPU so far",
    )
    num_model_replicas: int = Field(default=1, ge=1, description="replicas that pull jobs")


class ShowcaseConfig(Config):
    """The videos that the served model is asked for at the end."""

    prompts: tuple[str, ...] = Field(
        default=(), description="what to ask for; unseen prompts of the evaluation when empty"
    )
    sizes: tuple[str, ...] = Field(
        default=(), description="WIDTHxHEIGHT of each; what the model was trained on when empty"
    )
    num_videos: int = Field(default=3, ge=1, le=64, description="how many videos")
    seconds: str = Field(default="2", pattern=r"^[0-9]{1,4}$", description="length of each, whole seconds")


class Recipe(Config):
    """Everything that decides what a run makes. A stage whose settings are null is left out."""

    name: str = Field(
        default="demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run and its folder"
    )
    source: Path | None = Field(default=None, description="folder of videos; without one, films are rendered")
    films: FilmsConfig | None = FilmsConfig()
    curate: CurateConfig = CurateConfig()
    captioner: CaptionerTraining | None = CaptionerTraining()
    caption: CaptionConfig = CaptionConfig()
    shard: ShardConfig = ShardConfig()
    autoencoder: AutoencoderTraining = AutoencoderTraining()
    encode: EncodeConfig = EncodeConfig()
    transformer: TransformerTraining = TransformerTraining()
    evaluation: EvaluationConfig | None = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()
    showcase: ShowcaseConfig | None = ShowcaseConfig()
    serve: ServingOptions = ServingOptions()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        encoded, trained = self.encode.text_encoder, self.transformer.text_encoder
        if encoded != trained:
            raise ValueError(
                f"encode.text_encoder={encoded!r} and transformer.text_encoder={trained!r} must be the same: "
                "the model is asked in the states that it was trained on"
            )
        step = COMPRESSION.height * self.transformer.patch_size
        for shape in self.curate.ingest.shapes:
            if shape.width % step or shape.height % step or shape.num_frames % COMPRESSION.time or 0 in shape:
                raise ValueError(
                    f"bucket {shape.bucket!r} cannot be trained on: width and height must be multiples of {step}, "
                    f"frames of {COMPRESSION.time}, none of them 0"
                )
        return self


def remember(recipe: Recipe, place: Workspace) -> None:
    """Keeps the recipe beside what it makes: for the stage commands, the scheduled runs and the report."""
    with replacing(place.root / "recipe.json") as partial:
        partial.write_text(recipe.model_dump_json(indent=1) + "\n")


def remembered(place: Workspace) -> Recipe | None:
    """The recipe of the last run in this workspace, or None."""
    path = place.root / "recipe.json"
    return Recipe.model_validate_json(path.read_text()) if path.exists() else None
