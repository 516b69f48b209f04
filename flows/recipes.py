"""Recipes: the settings of every stage in one value, and the presets that people start from."""

import re
from pathlib import Path

from pydantic import Field

from data.atomic import replacing
from data.config import CaptionConfig, CurateConfig, EncodeConfig, ShardConfig, TrainedCaptionerConfig
from data.workspace import Workspace
from data.worlds.config import FilmsConfig
from flows.home import home
from model.config import Config
from model.errors import ConfigError
from training.config import (
    AutoencoderTraining,
    CaptionerTraining,
    EvaluationConfig,
    RegistryConfig,
    Schedule,
    TransformerTraining,
)


class ServingOptions(Config):
    """How the champion is served; job table and files lie in the workspace."""

    port: int = Field(
        default=8000, ge=0, le=65535, description="TCP port on loopback; another free one when it is taken"
    )
    num_cpus: float = Field(default=1.0, gt=0, description="CPU cores of the model replica")
    num_gpus: float = Field(default=0.0, ge=0, description="GPUs of the model replica")
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


def demo() -> Recipe:
    """The whole line on films of the embedded world, within 15 minutes on two cores."""
    gate = {"colour": 0.8, "size": 0.75, "camera": 0.75, "motion": 0.75, "shape": 0.4}
    encode = EncodeConfig(num_actors=2, num_threads=1)  # decoding runs on one core: two actors keep two busy
    transformer = TransformerTraining(prompt_expander="tabletop")
    return Recipe(name="demo", encode=encode, transformer=transformer, registry=RegistryConfig(minimum=gate))


def tiny() -> Recipe:
    """The whole line at a size that proves the wiring and teaches the model nothing: a few minutes."""

    def short(num_steps: int, lr: float = 1e-3) -> Schedule:
        return Schedule(num_steps=num_steps, batch_size=8, lr=lr, warmup_steps=2, checkpoint_every=num_steps // 2)

    return Recipe(
        name="tiny",
        films=FilmsConfig(num_films=4, shots_per_film=9),
        captioner=CaptionerTraining(schedule=short(100, 3e-3), dim=64, num_layers=1, vocabulary=400),
        caption=CaptionConfig(max_failed_share=1.0),  # so short a training cannot promise a word for every clip
        autoencoder=AutoencoderTraining(
            schedule=short(20), fine_channels=16, coarse_channels=32, encoder_blocks=(1, 1), decoder_blocks=(1, 1)
        ),
        transformer=TransformerTraining(
            schedule=short(20),
            dim=64,
            num_heads=2,
            num_blocks=2,
            compile=False,
            num_sampling_steps=4,
            prompt_expander="tabletop",
            recipe="tiny",
        ),
        evaluation=EvaluationConfig(probe=short(20), num_prompts=6, num_samples=3),
    )


def own_videos(source: Path, name: str | None = None, base: Recipe | None = None) -> Recipe:
    """The line on a folder of the user's own videos, otherwise with the settings of `base` (the demo's).

    Captions beside the videos train a captioner for the rest. Without any, the captioner that the demo trained is
    used when there is one; a recipe may name another (`--caption.backend.kind transformers`).
    """
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", source.absolute().name).strip("-._") or "videos"
    base, title = base or demo(), name or folder
    transformer = base.transformer.model_copy(update={"recipe": title, "prompt_expander": ""})
    recipe = base.model_copy(update={"name": title, "source": source, "films": None, "transformer": transformer})
    if _has_captions(source):
        return recipe
    demo_captioner = home() / "demo" / "captioner"
    backend = TrainedCaptionerConfig(folder=demo_captioner) if demo_captioner.exists() else TrainedCaptionerConfig()
    caption = recipe.caption.model_copy(update={"backend": backend})
    return recipe.model_copy(update={"captioner": None, "caption": caption})


def check_captions(recipe: Recipe) -> None:
    """Says before the work begins that nothing in the recipe could caption the clips.

    Raises:
        ConfigError: no captioner is trained, none is named, and no captions lie beside the videos.
    """
    backend = recipe.caption.backend
    if recipe.captioner is None and isinstance(backend, TrainedCaptionerConfig) and backend.folder is None:
        raise ConfigError(
            f"no video in {recipe.source} has captions beside it and no captioner is there; run `skyloom demo` first, "
            "name one with --caption.backend.kind (captioner, transformers, endpoint), or add NAME.txt files"
        )


def _has_captions(source: Path) -> bool:
    return source.is_dir() and any(any(source.rglob(pattern)) for pattern in ("*.captions.json", "*.txt"))


def remember(recipe: Recipe, place: Workspace) -> None:
    """Keeps the recipe beside what it makes: for the stage commands, the scheduled runs and the report."""
    with replacing(place.root / "recipe.json") as partial:
        partial.write_text(recipe.model_dump_json(indent=1) + "\n")


def remembered(place: Workspace) -> Recipe | None:
    """The recipe of the last run in this workspace, or None."""
    path = place.root / "recipe.json"
    return Recipe.model_validate_json(path.read_text()) if path.exists() else None
