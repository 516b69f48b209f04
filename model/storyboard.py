"""Scenes one after the other in one video, each under its own text and perhaps begun by a given clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import ConfigError
from model.plan import Model, Script, TaskRun, Video
from model.rolling import Rolling, rolled
from model.seams import Pinned
from model.shapes import VideoShape
from model.task_checks import check_clip, check_groups
from model.windows import GROUP, Windows, grouped


@dataclass(frozen=True)
class Card:
    """A scene of a storyboard: what it shows, for how many frames, and the clip (or single picture) it begins with."""

    prompt: str
    num_frames: int
    clip: Video | None = None


@dataclass(frozen=True)
class Storyboard:
    """Scenes one after the other in one video: each begins with the end of the one before in sight, so things stay.

    What a scene shows first is then made anew for itself (`model/rolling.py`).
    """

    cards: tuple[Card, ...]
    height: int
    width: int

    def run(self, model: Model) -> TaskRun:
        """One plan per window and one more per cut; a frame looks at the text of its own scene alone."""
        check_groups(model)
        if not self.cards:
            raise ConfigError("a storyboard without cards is no video; give one card or more")
        for card in self.cards:
            check_clip(card.clip, VideoShape(card.num_frames, self.height, self.width))
        lengths = [model.grid(VideoShape(card.num_frames, self.height, self.width)).num_frames for card in self.cards]
        frames = tuple(place for place, length in enumerate(lengths) for _ in range(length))
        script = Script(tuple(card.prompt for card in self.cards), frames)
        begins = [sum(lengths[:place]) for place in range(len(lengths))]
        known = {
            begin + place: latent
            for begin, card in zip(begins, self.cards, strict=True)
            if card.clip is not None
            for place, latent in enumerate(model.encode([grouped(card.clip)]).split(1, dim=2))
        }
        grid = model.grid(VideoShape(len(frames) * GROUP, self.height, self.width))
        pinned = Pinned(self._pictures([GROUP * begin for begin in begins]))
        rolling = Rolling(Windows(grid, model.window, tuple(begins[1:])), script, known=known)
        yield from rolled(model, rolling, pinned.put)

    def _pictures(self, begins: Sequence[int]) -> dict[int, np.ndarray | None]:
        """The frames that clips give, by frame; None where a scene begins without one."""
        pictures: dict[int, np.ndarray | None] = dict.fromkeys(begins)
        for card, begin in zip(self.cards, begins, strict=True):
            pictures |= {} if card.clip is None else dict(enumerate(card.clip, start=begin))
        return pictures
