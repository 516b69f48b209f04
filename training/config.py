"""Settings of everything that trains. No torch here, so that a recipe can be read in a blink."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from model.config import Config, digest_of
from model.noise_patterns import NoisePatterns
from model.sampling_options import PolishRound
from model.weights import absolute_name
from training.ema_profiles import power_function, shares_of


class Schedule(Config):
    """Length and rate of a run: warm-up, flat, then linear to zero over the last part."""

    num_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    warmup_steps: int = Field(default=30, ge=0)
    decay_fraction: float = Field(
        default=0.5, ge=0, le=1, description="Share of the run over which the rate falls to zero"
    )
    checkpoint_every: int = Field(default=100, gt=0)
    seed: int = 0

    def rate(self, step: int) -> float:
        """The factor on `lr` at a step that counts from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        decay_steps = max(1, round(self.decay_fraction * self.num_steps))
        return min(1.0, max(0.0, (self.num_steps - step) / decay_steps))


# model.captioner.STRUCTURE_KEYS, which loads torch
CaptionField = Literal["subject", "action", "camera", "style", "text"]

StartFrom = Annotated[
    str,
    AfterValidator(absolute_name),  # Ray's workers run in a folder of their own
    Field(description="Pipeline folder whose weights training goes on from; `starter`: those that come with Skyloom"),
]


Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    # trainings from before there was such a setting stay valid
    Field(description="Where it trains; auto takes a GPU where there is one", exclude_if=lambda name: name == "auto"),
]


class CaptionerTraining(Config):
    """The captioner that is fitted to the labelled clips."""

    schedule: Schedule = Schedule(num_steps=420, batch_size=32, lr=2e-3)
    muon_lr: float = Field(default=0.02, ge=0, description="Muon's rate on the stem's filters; 0 leaves all to AdamW")
    dim: int = 128
    num_layers: int = 2
    side_px: int = Field(default=64, ge=32, description="Clips are shown as squares of this side, a multiple of 8")
    vocabulary: int = Field(default=2000, description="Largest number of word pieces")
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    minimum: dict[CaptionField, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={},
        description="Field -> least share of held-out clips whose caption says it word for word as the clip's own; a "
        "captioner below it is refused",
    )


class AutoencoderTraining(Config):
    """The autoencoder: shape and losses."""

    schedule: Schedule = Schedule(num_steps=270, batch_size=8, lr=2e-3)
    start_from: StartFrom = ""
    muon_lr: float = Field(default=0.02, ge=0, description="Muon's rate on filters; 0 leaves all to AdamW")
    latent_channels: int = 16
    frame_channels: int = Field(default=64, description="Channels of the layers that see each frame for itself")
    fine_channels: int = Field(default=96, description="Channels at 4 x 4 pixels to a place")
    coarse_channels: int = Field(default=192, description="Channels at 8 x 8 pixels to a place")
    encoder_blocks: tuple[int, int, int] = Field(default=(1, 1, 2), description="Blocks per frame, fine and coarse")
    decoder_blocks: tuple[int, int, int] = Field(default=(1, 2, 3), description="Blocks per frame, fine and coarse")
    num_frames: int = Field(default=8, description="Frames of a training crop, a multiple of 4")
    crop_px: int = Field(default=0, ge=0, description="Side of a training crop, a multiple of 8; 0 takes whole frames")
    max_clips: int = Field(default=800, gt=0, description="Clips that are decoded and held in memory to train on")
    mse_weight: float = 0.5
    difference_weight: float = Field(default=0.5, description="Weight of the L1 error of frame differences")
    kl_weight: float = 1e-4
    roughness_weight: float = Field(default=0, ge=0, description="Weight of 1 - correlation of neighbouring cells")
    scale_weight: float = Field(
        default=0, ge=0, description="Weight of scale equivariance: halved latents, halved video"
    )
    masked_cells: float = Field(default=0, ge=0, lt=1, description="Share of latent cells that the decoder is denied")
    noisy_tail: float = Field(
        default=0, ge=0, le=1, description="Last share of the steps: the decoder alone, on noisy latents"
    )
    max_latent_noise: float = Field(default=0.15, ge=0, description="Most noise there, in deviations of a channel")
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    device: Device = "auto"

    @property
    def trains_encoder(self) -> bool:
        """Whether the latents change at all."""
        return self.noisy_tail < 1

    @model_validator(mode="after")
    def _has_an_encoder(self) -> Self:
        if not self.trains_encoder and not self.start_from:
            raise ValueError(
                "noisy_tail=1 trains the decoder alone, so the encoder must come from somewhere; set start_from"
            )
        return self


class TransformerTraining(Config):
    """The diffusion transformer: shape, objective and run."""

    schedule: Schedule = Schedule(num_steps=780, batch_size=32, lr=1e-3, checkpoint_every=200)
    start_from: StartFrom = ""
    muon_lr: float = 1e-2
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    dim: int = 256
    num_heads: int = 4
    num_blocks: int = 6
    num_text_blocks: int = 1
    patch_size: int = 2
    max_text_tokens: int = 20
    patterns: NoisePatterns = NoisePatterns()
    text_dropout: float = Field(default=0.1, ge=0, lt=1)
    dense_fraction: float = Field(default=0.9, ge=0, le=1, description="Share of samples under their dense caption")
    image_fraction: float = Field(default=0, ge=0, lt=1, description="Share of batches that are images")
    scaled_fraction: float = Field(default=0, ge=0, lt=1, description="Share of batches at the other encoded sizes")
    short_fraction: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="Share of batches that show half of each clip's frames",
        exclude_if=lambda share: not share,  # trainings from before there was such a setting stay valid
    )
    square_crops: bool = Field(
        default=False,
        description="Trains on the middle squares of the latents alone",
        exclude_if=lambda is_on: not is_on,  # trainings from before there was such a setting stay valid
    )
    sigma_shift: float = 1.0
    ema_decay: float = Field(default=0.9, ge=0, lt=1, description="Of the weights' average over steps")
    ema_widths: tuple[float, ...] = Field(
        default=(), description="Relative widths of further averages that are kept, to choose from after training"
    )
    served_width: float = Field(
        default=0, ge=0, description="Width of the average that is served, mixed from those; 0 is that of ema_decay"
    )
    num_workers: int = Field(default=1, ge=1, description="Ray Train ranks")
    cpus_per_worker: int = Field(default=2, ge=1)
    device: Device = "auto"
    compile: bool = True
    num_sampling_steps: int = 20
    guidance_scale: float = 3.5
    guidance_low: float = Field(default=0.0, ge=0, le=1, description="Noise level from which the prompt guides")
    moves_patches: bool = Field(default=False, description="Whether each step of sampling cuts patches elsewhere")
    polish: tuple[PolishRound, ...] = Field(
        default=(), description="How what was sampled is steadied (model/polish.py)"
    )
    text_encoder: str = Field(default="minilm", description="The encoder whose states the latent dataset holds")
    prompt_expander: str = Field(default="", description="Rules that turn short prompts into the captions' form")
    recipe: str = "demo"

    @model_validator(mode="after")
    def _can_be_served(self) -> "TransformerTraining":
        for width in self.ema_widths:
            power_function(width)
        if len(set(self.ema_widths)) < len(self.ema_widths):
            raise ValueError(f"ema_widths={list(self.ema_widths)} names a width twice; name each once")
        if self.served_width:
            shares_of(self.ema_widths, self.served_width)
        return self

    @property
    def training_digest(self) -> str:
        """The digest of what the weights depend on.

        How the model is served, and on how many ranks and cores it is trained, can be changed on the way.
        """
        return digest_of(self.model_dump(mode="json", exclude=_SERVED | _RUN_BY))


_SERVED = {
    "served_width",
    "num_sampling_steps",
    "guidance_scale",
    "guidance_low",
    "moves_patches",
    "polish",
    "prompt_expander",
}
_RUN_BY = {"num_workers", "cpus_per_worker", "compile", "device"}


class EvaluationConfig(Config):
    """The probe network and what it is asked about the generated videos."""

    probe: Schedule = Schedule(num_steps=560, batch_size=32, lr=1e-3)
    side_px: int = Field(default=64, ge=32, description="The probe sees squares of this side, a multiple of 8")
    num_prompts: int = Field(default=64, ge=0)
    seed: int = 1234
    goals: dict[str, float] = Field(
        default={"colour": 0.95, "size": 0.90, "camera": 0.90, "motion": 0.90, "shape": 0.60},
        description="Adherence to reach per attribute, 0 to 1, `all` being all together",
    )
    coherence_goal: float = Field(default=0.75, description="Share of frames in which one object is one patch")
    num_samples: int = Field(default=12, description="Prompts whose videos are kept beside real clips")
    num_starter_samples: int = Field(default=0, ge=0, description="Of these, how many the starter weights draw too")


class RegistryConfig(Config):
    """The registered model and the gate before it is served."""

    name: str = "skyloom"
    minimum: dict[str, float] = Field(
        default={}, description="Gate: least adherence per attribute, 0 to 1; empty lets every model pass"
    )
