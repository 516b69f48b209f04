"""Which patterns of noise levels a training draws. No torch here, so that a recipe can be read in a blink."""

from typing import Self

from pydantic import Field, model_validator

from model.config import Config

PATTERNS = ("prefix", "suffix", "both_ends", "ramp", "independent")


class NoisePatterns(Config):
    """How often each pattern of noise levels is drawn in training; what is left is all frames at one level.

    The patterns are those that the tasks ask for (`model/tasks.py`), so that no task needs weights of its own.
    """

    prefix: float = Field(default=0.1, ge=0, le=1, description="first frames given: animation, extension")
    suffix: float = Field(default=0.05, ge=0, le=1, description="last frames given: extension backward")
    both_ends: float = Field(default=0.05, ge=0, le=1, description="first and last frames given: joins")
    ramp: float = Field(default=0.0, ge=0, le=1, description="levels that rise or fall over time: rolling, blends")
    independent: float = Field(default=0.0, ge=0, le=1, description="a level of its own for each frame")
    noisy_given: float = Field(
        default=0.0, ge=0, le=1, description="share of given frames' samples with some noise on them"
    )
    max_given_sigma: float = Field(default=0.3, ge=0, lt=1, description="most noise on given frames")

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        total = self.prefix + self.suffix + self.both_ends + self.ramp + self.independent
        if total > 1:
            raise ValueError(f"the shares of the noise patterns sum to {total:g}; they must leave 0 or more of 1")
        return self
