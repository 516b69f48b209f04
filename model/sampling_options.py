"""How a task is to be sampled, as users and recipes say it; nothing here needs torch."""

from typing import Literal

from pydantic import Field, model_validator

from model.config import Config

GuidanceKind = Literal["cfg", "zero_star"]
"""Plain classifier-free guidance; CFG-Zero*, against a scaled velocity."""

Solver = Literal["euler", "heun", "multistep"]
"""First order; second order with two evaluations a step; second order that remembers the step before."""


class PolishRound(Config):
    """What was made, noised again up to a level and predicted several times; the mean is kept (model/polish.py)."""

    level: float = Field(gt=0, lt=1)
    num_predictions: int = Field(default=4, ge=1, le=64)
    guidance_scale: float = Field(default=1.0, ge=0, le=50, description="the most that the prompt guides there")


class SamplingOptions(Config):
    """How a task is sampled; what is null is the model's own default."""

    num_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=50)
    guidance: GuidanceKind = "cfg"
    guidance_low: float | None = Field(default=None, ge=0, le=1, description="noise level from which the prompt guides")
    guidance_high: float = Field(default=1.0, ge=0, le=1, description="noise level up to which it does")
    history_scale: float | None = Field(default=None, ge=0, le=20, description="guidance by given frames; 1 is none")
    negative_prompt: str = ""
    solver: Solver = "euler"
    moves_patches: bool | None = Field(default=None, description="whether each step cuts patches elsewhere")
    polish: tuple[PolishRound, ...] | None = Field(default=None, description="rounds after the last step; () is none")

    def or_else(self, usual: "SamplingOptions") -> "SamplingOptions":
        """These options, and what is usual where they name nothing; `usual` may name what is null by default alone."""
        open_ = {name for name in usual.model_fields_set if getattr(self, name) is None}
        return self.model_copy(update={name: getattr(usual, name) for name in open_})

    @model_validator(mode="after")
    def _rests_at_first(self) -> "SamplingOptions":
        is_plain = self.solver == "euler" and not self.guidance_low and self.guidance_high == 1
        if self.guidance == "zero_star" and not is_plain:
            raise ValueError(
                "guidance='zero_star' rests in its first step, which goes with solver='euler' and no interval alone"
            )
        return self


UNSAID = SamplingOptions()
"""The model's own way."""

BESIDE_GIVEN = SamplingOptions(moves_patches=False)
"""Where frames go on from given ones, or window follows window: cut elsewhere, what is made steps away from them."""

PLAIN = SamplingOptions(moves_patches=False, polish=())
"""Where frames are given on both sides or around, or are the first after a cut (decisions 0026 and 0029).

Averaged too, what is made steps away from given frames, and takes on more of the colours before a cut.
"""

CONTINUED_GUIDANCE_SCALE = 1.0
CONTINUED = SamplingOptions(guidance_scale=CONTINUED_GUIDANCE_SCALE, history_scale=1.5, moves_patches=False)
"""Where frames go on from given moving ones (decisions 0017 and 0027).

These show already what the prompt would, and to push each made frame further only moves it off them; led by what is
given, it keeps its pace.
"""
