"""What every film will show, before anything is drawn: pure functions of the settings."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.worlds.camera import FrameSize, scaled
from data.worlds.captions import NUM_DENSE_VARIANTS, NUM_SHORT_VARIANTS, Attributes, deal
from data.worlds.choreography import ShotPlan, plan_shot
from data.worlds.config import FilmsConfig

# Frame times and shot lengths are whole ticks; every rate in use divides the tick rate.
TICKS_PER_S = 48

_FRAMES = (FrameSize(128, 72), FrameSize(96, 96), FrameSize(72, 128))
_RATES = {4: 16, 9: 12, 15: 24}  # of every twenty films; all others run at 8 frames/s
_USUAL_RATE = 8
_SHOT_TICKS = (101, 115)  # 2.1 to 2.4 s, half-open
_VARIABLE_STEPS = (4, 6, 8)  # ticks from frame to frame: 12, 8 and 6 frames/s
_DIM_BACKDROP, _BRIGHT_BACKDROP = (0.48, 0.62), (0.80, 0.97)


@dataclass(frozen=True)
class FilmShot:
    """One shot of a film: its plan, when it starts in the film, its frame times from there, its captions' variants."""

    plan: ShotPlan
    start_tick: int
    ticks: tuple[int, ...]
    num_ticks: int
    short_variant: int
    dense_variant: int

    @property
    def start_s(self) -> float:
        """When it starts in the film."""
        return self.start_tick / TICKS_PER_S

    @property
    def end_s(self) -> float:
        """When it ends in the film: the next shot's start."""
        return (self.start_tick + self.num_ticks) / TICKS_PER_S

    @property
    def times_s(self) -> list[float]:
        """When each of its frames comes on in the film."""
        return [(self.start_tick + tick) / TICKS_PER_S for tick in self.ticks]


@dataclass(frozen=True)
class FilmPlan:
    """One film: `frame` is upright; `fps` is None when the rate varies; `rotation_deg` turns stored pixels upright."""

    name: str
    frame: FrameSize
    fps: int | None
    rotation_deg: int
    is_labelled: bool
    crf: int
    shots: tuple[FilmShot, ...]


def plan_films(config: FilmsConfig) -> list[FilmPlan]:
    """Every film in order. More films under the same seed leave the earlier ones as they are."""
    num_shots = config.num_films * config.shots_per_film
    dealt = deal(num_shots, config.seed, held_out=False, max_count=config.max_count)
    step = config.shots_per_film
    return [_plan_film(config, index, dealt[index * step : (index + 1) * step]) for index in range(config.num_films)]


def _plan_film(config: FilmsConfig, index: int, dealt: Sequence[Attributes]) -> FilmPlan:
    rng = np.random.default_rng([config.seed, index])
    frame = scaled(_FRAMES[index % len(_FRAMES)], config.scale)
    fps = None if config.variable_rate and index == 1 else _RATES.get(index % 20, _USUAL_RATE)
    return FilmPlan(
        name=f"film-{index:03d}",
        frame=frame,
        fps=fps,
        rotation_deg=90 if config.rotated and index == 2 else 0,
        is_labelled=int((index + 1) * config.labelled_fraction) > int(index * config.labelled_fraction),
        crf=config.crf,
        shots=tuple(_shots(_apart(dealt), frame, fps, rng)),
    )


def _apart(dealt: Sequence[Attributes]) -> list[Attributes]:
    """The same shots with neighbours on different floors as far as they go, so that each cut changes the picture."""
    left, ordered = list(dealt), []
    while left:
        counts = Counter(attributes.floor for attributes in left)
        last = ordered[-1].floor if ordered else ""
        floor = max(counts, key=lambda floor: (floor != last, counts[floor]))
        pick = next(index for index, attributes in enumerate(left) if attributes.floor == floor)
        ordered.append(left.pop(pick))
    return ordered


def _shots(
    dealt: Sequence[Attributes], frame: FrameSize, fps: int | None, rng: np.random.Generator
) -> Iterator[FilmShot]:
    start_tick = 0
    for index, attributes in enumerate(dealt):
        ticks, num_ticks = _frame_ticks(fps, rng)
        backdrop = rng.uniform(*(_BRIGHT_BACKDROP if index % 2 else _DIM_BACKDROP))
        plan = plan_shot(attributes, num_ticks / TICKS_PER_S, backdrop, frame, rng)
        short, dense = int(rng.integers(NUM_SHORT_VARIANTS)), int(rng.integers(NUM_DENSE_VARIANTS))
        yield FilmShot(plan, start_tick, ticks, num_ticks, short, dense)
        start_tick += num_ticks


def _frame_ticks(fps: int | None, rng: np.random.Generator) -> tuple[tuple[int, ...], int]:
    """The times of a shot's frames, and the shot's length, which ends with its last frame's time on screen."""
    low, high = _SHOT_TICKS
    if fps is not None:
        step = TICKS_PER_S // fps
        num_frames = int(rng.integers(-(-low // step), (high - 1) // step + 1))
        return tuple(range(0, num_frames * step, step)), num_frames * step
    ticks = [0]
    while ticks[-1] < low:
        ticks.append(ticks[-1] + int(rng.choice(_VARIABLE_STEPS)))
    return tuple(ticks[:-1]), ticks[-1]
