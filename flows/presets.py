"""The recipes that people start from, by name."""

from collections.abc import Callable

from data.config import CaptionConfig, CurateConfig, EncodeConfig, IngestConfig
from data.worlds.config import FilmsConfig
from flows.recipes import Recipe
from model.sampling_options import PolishRound
from training.config import (
    AutoencoderTraining,
    CaptionerTraining,
    EvaluationConfig,
    RegistryConfig,
    Schedule,
    TransformerTraining,
)

EMA_WIDTHS = (0.05, 0.1)
"""Of EDM2's two tracks, from which an average between them can be mixed after training."""

STEADY = (PolishRound(level=0.7, guidance_scale=3.5), PolishRound(level=0.5), PolishRound(level=0.3))
"""Rounds of polish that steady what few steps have drawn (decision 0026)."""


def demo() -> Recipe:
    """The whole line on films of the embedded world, within 15 minutes on two cores."""
    gate = {"colour": 0.8, "size": 0.75, "camera": 0.75, "motion": 0.75, "shape": 0.4}
    encode = EncodeConfig(num_actors=2, num_threads=1)  # decoding runs on one core: two actors keep two busy
    return Recipe(
        name="demo",
        encode=encode,
        transformer=TransformerTraining(prompt_expander="tabletop"),
        evaluation=EvaluationConfig(num_starter_samples=3),
        registry=RegistryConfig(minimum=gate),
    )


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
            schedule=short(20),
            frame_channels=16,
            fine_channels=16,
            coarse_channels=32,
            encoder_blocks=(1, 1, 1),
            decoder_blocks=(1, 1, 1),
        ),
        transformer=TransformerTraining(
            schedule=short(20),
            dim=64,
            num_heads=2,
            num_blocks=2,
            compile=False,
            num_sampling_steps=4,
            ema_widths=EMA_WIDTHS,
            prompt_expander="tabletop",
            recipe="tiny",
        ),
        evaluation=EvaluationConfig(probe=short(20), num_prompts=6, num_samples=3),
    )


def starter() -> Recipe:
    """The best model of the embedded world that two cores train in 150 minutes.

    Twice the demo's resolution, up to three objects in a scene, three times the data. The weights that come with
    Skyloom were trained by it, three times again from there on other films, then on a GPU (model/starter/README.md).
    """
    goals = {"colour": 0.97, "shape": 0.93, "size": 0.90, "motion": 0.93, "camera": 0.90, "count": 0.90, "all": 0.75}
    return Recipe(
        name="starter",
        films=FilmsConfig(num_films=120, max_count=3, scale=1.5),
        curate=CurateConfig(ingest=IngestConfig(buckets=("112x112x16", "160x96x16", "96x160x16"))),
        captioner=CaptionerTraining(
            schedule=Schedule(num_steps=700, batch_size=32, lr=2e-3), side_px=96, minimum={"subject": 0.8}
        ),
        autoencoder=AutoencoderTraining(
            schedule=Schedule(num_steps=7500, batch_size=8, lr=2e-3, checkpoint_every=500),
            crop_px=64,
            max_clips=2400,
            mse_weight=4.0,
            noisy_tail=0.05,
        ),
        encode=EncodeConfig(num_actors=2, num_threads=1, images=True),
        transformer=TransformerTraining(
            schedule=Schedule(num_steps=2900, batch_size=32, lr=1e-3, warmup_steps=100, checkpoint_every=250),
            num_blocks=8,
            max_text_tokens=24,
            ema_decay=0.97,
            ema_widths=EMA_WIDTHS,
            image_fraction=0.15,
            prompt_expander="tabletop",
            num_sampling_steps=8,
            guidance_low=0.2,
            moves_patches=True,
            polish=STEADY,
            recipe="starter",
        ),
        evaluation=EvaluationConfig(
            probe=Schedule(num_steps=900, batch_size=32, lr=1e-3),
            side_px=96,
            num_prompts=256,
            goals=goals,
            coherence_goal=0.97,
        ),
        registry=RegistryConfig(minimum={"colour": 0.9, "size": 0.8, "camera": 0.8, "motion": 0.8, "shape": 0.6}),
    )


def film() -> Recipe:
    """The line on real film at 128 pixels, with a larger autoencoder: `skyloom run --source DIR --preset film`."""
    return Recipe(
        name="film",
        curate=CurateConfig(ingest=IngestConfig(buckets=("128x128x32", "176x96x32", "96x176x32"), fps=12)),
        autoencoder=AutoencoderTraining(
            schedule=Schedule(num_steps=20_000, batch_size=8, lr=1e-3, warmup_steps=200, checkpoint_every=500),
            frame_channels=96,
            fine_channels=128,
            coarse_channels=256,
            encoder_blocks=(1, 2, 3),
            decoder_blocks=(2, 3, 4),
            crop_px=96,
            max_clips=4000,
            noisy_tail=0.1,
        ),
        encode=EncodeConfig(num_actors=2, num_threads=1, images=True),
        transformer=TransformerTraining(
            schedule=Schedule(num_steps=20_000, batch_size=32, lr=1e-3, warmup_steps=200, checkpoint_every=500),
            dim=384,
            num_heads=6,
            num_blocks=10,
            max_text_tokens=64,
            ema_decay=0.999,
            ema_widths=EMA_WIDTHS,
            image_fraction=0.2,
            recipe="film",
        ),
        evaluation=EvaluationConfig(num_prompts=0),
    )


def base() -> Recipe:
    """For a cluster: some 0.5 billion weights on 256-pixel clips, 8 ranks. Planned, not yet trained."""
    return _cluster("base", dim=1280, num_heads=20, num_blocks=24, buckets=("256x256x64", "352x192x64", "192x352x64"))


def large() -> Recipe:
    """For a cluster: some 2.5 billion weights on 480-pixel clips, 8 ranks. Planned, not yet trained."""
    return _cluster("large", dim=2304, num_heads=36, num_blocks=40, buckets=("480x480x96", "640x352x96", "352x640x96"))


def _cluster(name: str, *, dim: int, num_heads: int, num_blocks: int, buckets: tuple[str, ...]) -> Recipe:
    schedule = Schedule(num_steps=200_000, batch_size=256, lr=5e-4, warmup_steps=2000, checkpoint_every=1000)
    recipe = film()
    autoencoder = recipe.autoencoder.model_copy(update={"fine_channels": 192, "coarse_channels": 512, "crop_px": 192})
    transformer = recipe.transformer.model_copy(
        update={
            "schedule": schedule,
            "dim": dim,
            "num_heads": num_heads,
            "num_blocks": num_blocks,
            "num_text_blocks": 2,
            "max_text_tokens": 256,
            "sigma_shift": 3.0,
            "ema_decay": 0.9998,
            "num_workers": 8,
            "cpus_per_worker": 8,
            "recipe": name,
        }
    )
    curate = CurateConfig(ingest=IngestConfig(buckets=buckets, fps=24), num_workers=64)
    return recipe.model_copy(
        update={"name": name, "curate": curate, "autoencoder": autoencoder, "transformer": transformer}
    )


PRESETS: dict[str, Callable[[], Recipe]] = {
    "demo": demo,
    "tiny": tiny,
    "starter": starter,
    "film": film,
    "base": base,
    "large": large,
}
