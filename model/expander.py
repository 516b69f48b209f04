"""How prompts are put into the form that a model was trained on; what that form is, `data/` knows."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TypeAlias

from torch import Tensor

from model.plan import Question

Reading: TypeAlias = Generator[Sequence[str], Sequence[float], str]
"""Yields texts, receives how badly each explains a video (the lower, the better), and returns the one to work with."""


class Expander(ABC):
    """A prompt to the prompt that the model is given."""

    @abstractmethod
    def __call__(self, prompt: str, like: str = "") -> str:
        """What `prompt` leaves open is as in `like`, a prompt of the same scene."""

    def is_open(self, prompt: str) -> bool:
        """Whether the prompt leaves open what a video could say."""
        del prompt
        return False

    def reading(self, prompt: str) -> Reading:
        """What `prompt` leaves open, all of it perhaps, is as in a video; unless a subclass asks, nobody looks at that.

        Returns an empty text where nothing can be said.
        """
        yield from ()
        return self(prompt) if prompt else ""


class AsItIs(Expander):
    """Leaves a prompt as it is."""

    def __call__(self, prompt: str, like: str = "") -> str:
        """The prompt."""
        del like
        return prompt


def read(reading: Reading, latents: Tensor) -> Generator[Question, Tensor, str]:
    """Puts what a reading asks to the model; returns the text that it settles on."""
    try:
        texts = next(reading)
        while True:
            misfits = yield Question(latents, texts)
            texts = reading.send(misfits.tolist())
    except StopIteration as done:
        return done.value


def told(expander: Expander, prompt: str, latents: Tensor) -> Generator[Question, Tensor, str]:
    """A prompt in the form that the model knows; what it leaves open is as in a video."""
    like = (yield from read(expander.reading(""), latents)) if expander.is_open(prompt) else ""
    return expander(prompt, like)
