"""Two objects alike in all but their colour, one shot each: what shows whether an edit leaves the other one alone.

No film shows such a pair, and its combination of attributes is one that no film shows either.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from data.worlds.camera import FrameSize, scaled
from data.worlds.captions import COLOURS, Attributes, deal
from data.worlds.choreography import plan_shot
from data.worlds.programme import TICKS_PER_S
from data.worlds.tabletop import Tabletop

SQUARE = FrameSize(96, 96)
BACKDROP = 0.8


@dataclass(frozen=True)
class Pair:
    """A rendered shot, uint8 `T H W C`, of a pair whose first member has the colour of `attributes`."""

    video: np.ndarray
    attributes: Attributes
    second_colour: str


def pairs(num: int, seed: int, *, num_frames: int, side_px: int, fps: int) -> Iterator[Pair]:
    """Square clips of pairs under held-out attributes; equal arguments give equal pixels.

    Raises:
        CapacityError: MuJoCo cannot draw without a display on this machine.
    """
    frame = scaled(SQUARE, side_px / SQUARE.width)
    step = TICKS_PER_S // fps
    with Tabletop(frame) as tabletop:
        for index, alone in enumerate(deal(num, seed, held_out=True)):
            attributes = replace(alone, count="two")
            rng = np.random.default_rng([seed, index])
            plan = plan_shot(attributes, num_frames / fps, BACKDROP, frame, rng)
            second = COLOURS[(COLOURS.index(attributes.colour) + 1 + index % (len(COLOURS) - 1)) % len(COLOURS)]
            take = tabletop.shoot(replace(plan, second_colour=second), range(0, num_frames * step, step))
            yield Pair(take.frames, attributes, second)
