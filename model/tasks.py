"""What the one model can be asked for. A task is a short conversation with the sampler, in latents.

Each task yields plans (which frames are given, which are to be made, under which text), receives the latents that the
sampler made of each, and yields the frames that are finished: all at once, or piece by piece where windows follow each
other. Nothing here knows how sampling works, and the sampler knows no task.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from model.errors import ConfigError
from model.expander import AsItIs, Expander, read, told
from model.pixels import cells_of
from model.plan import Model, Piece, Plan, Question, Script, TaskRun, Video, whole_plan
from model.rolling import Rolling, rolled
from model.sampling import Start
from model.sampling_options import BESIDE_GIVEN, CONTINUED, PLAIN
from model.seams import Pinned, Seam, begun_where_calmest, met, met_around
from model.shapes import LatentShape, VideoShape
from model.storyboard import Card, Storyboard
from model.task_checks import check_groups, check_length, check_strength
from model.windows import GROUP, Direction, Windows, given_start, tail_of

FLOW_EDIT_STRENGTH, SDEDIT_STRENGTH = 0.8, 0.7
SHORTEST_BLEND = 3  # latent frames: between the two ends, which are kept, there must be one to make


@dataclass(frozen=True)
class Generate:
    """A video from a prompt, of any length."""

    prompt: str
    shape: VideoShape

    def run(self, model: Model) -> TaskRun:
        """One plan, or a storyboard of one card when the video is longer than the window."""
        grid = model.grid(self.shape)
        if grid.num_frames <= model.window:
            yield Piece(model.decode((yield Plan(grid=grid, script=Script.of(self.prompt, grid.num_frames)))))
            return
        card = Card(self.prompt, self.shape.num_frames)
        yield from Storyboard((card,), self.shape.height, self.shape.width).run(model)


@dataclass(frozen=True)
class Image:
    """A still picture, as a video of one frame."""

    prompt: str
    height: int
    width: int

    def run(self, model: Model) -> TaskRun:
        """One latent frame, of which the first picture is kept."""
        num_frames = GROUP if model.has_uniform_groups else 1
        grid = model.grid(VideoShape(num_frames, self.height, self.width))
        latents = yield Plan(grid=grid, script=Script.of(self.prompt, grid.num_frames))
        yield Piece([video[:1] for video in model.decode(latents)])


@dataclass(frozen=True)
class Extend:
    """A video made longer by `num_frames` at its end (`forward`) or before its beginning (`backward`).

    The given frames come back as they were. What the prompt leaves open is as in the video, where the
    expander can read.
    """

    video: Video
    prompt: str
    num_frames: int
    direction: Direction = "forward"
    expander: Expander = field(default_factory=AsItIs)

    def run(self, model: Model) -> TaskRun:
        """One plan per window; each sees half a window of what is there."""
        return self.after(model, self.video) if self.direction == "forward" else self._before(model)

    def after(self, model: Model, shown: Video) -> TaskRun:
        """`shown`, and then what goes on from the video."""
        rolling = yield from self._rolling(model, has_seam=len(shown) > 0)
        num_kept = rolling.num_there * GROUP
        pinned = Pinned({num_kept - 1: self.video[-1]})

        def finished(videos: list[Video]) -> list[Video]:
            first = pinned.num_put
            wanted = slice(max(0, num_kept - first), num_kept + self.num_frames - first)
            new = [video[wanted] for video in pinned.put(videos)]
            return new if first else [np.concatenate([shown, video]) for video in new]

        yield from rolled(model, rolling, finished)

    def _before(self, model: Model) -> TaskRun:
        """What leads to the video, and then the video: whole, for the frames that are made last come first."""
        rolling = yield from self._rolling(model)
        num_kept = rolling.num_there * GROUP
        parts = []
        while not rolling.is_done:
            parts.append((yield from rolling.next_frames()))
        made = model.decode(torch.cat(parts[::-1], dim=2))
        seams = [Seam(self.video[0], video[-num_kept]) for video in made]
        new = [video[:-num_kept][-self.num_frames :] for video in made]
        pairs = zip(new, seams, strict=True)
        yield Piece([np.concatenate([met(video, after=seam), self.video]) for video, seam in pairs])

    def _rolling(self, model: Model, *, has_seam: bool = True) -> Generator[Question, Tensor, Rolling]:
        """The windows; what is there before the first is only there to be seen."""
        check_groups(model)
        check_length("num_frames", self.num_frames)
        history = model.encode([tail_of(self.video, model.window // 2, self.direction)])
        num_frames = history.shape[2] - (-self.num_frames // GROUP)
        windows = Windows(LatentShape(num_frames, *history.shape[3:]), model.window)
        # guided, frames step away from the given ones; but a picture held still says nothing of what is to move
        usual = CONTINUED if has_seam and len(self.video) >= GROUP else BESIDE_GIVEN
        script = Script.of((yield from told(self.expander, self.prompt, history)), num_frames)
        return Rolling(windows, script, history=history, direction=self.direction, usual=usual)


@dataclass(frozen=True)
class Animate:
    """A video that begins with a given picture, uint8 `H W C`."""

    image: np.ndarray
    prompt: str
    num_frames: int
    expander: Expander = field(default_factory=AsItIs)

    def run(self, model: Model) -> TaskRun:
        """An extension of the picture held still; the picture itself is the first frame."""
        check_length("num_frames", self.num_frames, least=2)
        yield from Extend(self.image[None], self.prompt, self.num_frames - 1, expander=self.expander).run(model)


@dataclass(frozen=True)
class Feature:
    """A new video that goes on from a given one without showing it: the same things, in a scene of its own prompt."""

    video: Video
    prompt: str
    num_frames: int
    expander: Expander = field(default_factory=AsItIs)

    def run(self, model: Model) -> TaskRun:
        """An extension that shows only what is new."""
        longer = Extend(self.video, self.prompt, self.num_frames, expander=self.expander)
        yield from longer.after(model, self.video[:0])


@dataclass(frozen=True)
class Loop:
    """A video without beginning or end: its last frame leads into its first, where the ring is at its calmest."""

    prompt: str
    shape: VideoShape

    def run(self, model: Model) -> TaskRun:
        """One plan whose frames are a ring."""
        grid = model.grid(self.shape)
        latents = yield Plan(grid=grid, script=Script.of(self.prompt, grid.num_frames), is_ring=True)
        yield Piece([begun_where_calmest(ring) for ring in model.decode(latents, is_ring=True)])


@dataclass(frozen=True)
class Join:
    """`first`, then a made transition of `num_frames`, then `second`; both come back as they were.

    With the same video twice, and the copy left off, this closes a given video to a loop.
    """

    first: Video
    second: Video
    prompt: str
    num_frames: int

    def run(self, model: Model) -> TaskRun:
        """One plan with both ends given, whatever its length: it is not cut into windows."""
        check_groups(model)
        check_length("num_frames", self.num_frames)
        if self.first.shape[1:] != self.second.shape[1:]:
            raise ConfigError(
                f"videos of {self.first.shape[1:3]} and {self.second.shape[1:3]} (height, width) cannot be joined; "
                "scale one to the size of the other"
            )
        num_made = -(-self.num_frames // GROUP)
        num_given = max(1, (model.window - num_made) // 2)
        before = model.encode([tail_of(self.first, num_given, "forward")])
        after = model.encode([tail_of(self.second, num_given, "backward")])
        end = before.shape[2] + num_made
        given = dict(enumerate(before.split(1, dim=2))) | dict(enumerate(after.split(1, dim=2), start=end))
        start = given_start(range(end + after.shape[2]), given)
        assert start is not None, "both ends are given"
        latents = yield replace(whole_plan(self.prompt, start), usual=PLAIN.or_else(CONTINUED))
        yield Piece([self._joined(video, before.shape[2] * GROUP, end * GROUP) for video in model.decode(latents)])

    def _joined(self, video: Video, begin: int, end: int) -> Video:
        between = met(
            video[begin : begin + self.num_frames],
            before=Seam(self.first[-1], video[begin - 1]),
            after=Seam(self.second[0], video[end]),
        )
        return np.concatenate([self.first, between, self.second])


@dataclass(frozen=True)
class Blend:
    """One video that turns into another, frame by frame: mixed latents, renewed most where the two are mixed most."""

    first: Video
    second: Video
    prompts: tuple[str, str]
    strength: float = 0.7

    def run(self, model: Model) -> TaskRun:
        """One plan: the mix as a start, from which each frame departs by its own strength."""
        check_strength(self.strength)
        first, second = (model.encode([model.padded(video)]) for video in (self.first, self.second))
        if first.shape != second.shape:
            raise ConfigError(
                f"videos of {self.first.shape[:3]} and {self.second.shape[:3]} (frames, height, width) cannot be "
                "blended; cut and scale them to one shape"
            )
        if first.shape[2] < SHORTEST_BLEND:
            raise ConfigError(
                f"videos of {len(self.first)} frames are too short to blend, since both ends are kept; "
                f"give more than {(SHORTEST_BLEND - 1) * GROUP} frames"
            )
        weight = torch.linspace(0, 1, first.shape[2])
        mixed = torch.lerp(first, second, weight[:, None, None])
        start = Start(mixed, self.strength * (torch.pi * weight).sin().clamp_min(0))
        script = Script(self.prompts, tuple(int(share > 0.5) for share in weight))
        latents = yield Plan(grid=LatentShape(*mixed.shape[2:]), script=script, start=start, usual=PLAIN)
        yield Piece([video[: len(self.first)] for video in model.decode(latents)])


@dataclass(frozen=True)
class Edit:
    """A video changed to what a prompt says.

    With a text of what the video shows the change follows the difference of the two texts (FlowEdit) where that one
    describes it; without, the video is noised to `strength` and made again (SDEdit). `strength` is 0.8 or 0.7.
    `expander` puts both prompts into the form that the model knows: what `source_prompt` leaves open, the video says.
    It says all of it where neither `source_prompt` nor `strength` is given, if the expander can read.
    """

    video: Video
    prompt: str
    source_prompt: str | None = None
    strength: float | None = None
    expander: Expander = field(default_factory=AsItIs)

    def run(self, model: Model) -> TaskRun:
        """One plan that starts from the video."""
        if self.strength is not None:
            check_strength(self.strength)
        latents, source = model.encode([model.padded(self.video)]), self.source_prompt
        if source is not None or self.strength is None:
            source = (yield from read(self.expander.reading(source or ""), latents)) or source
        strength = self.strength or (SDEDIT_STRENGTH if source is None else FLOW_EDIT_STRENGTH)
        start = Start(latents, torch.full((latents.shape[2],), strength))
        plan = whole_plan(self.expander(self.prompt, source or ""), start)
        edited = yield replace(plan, source_prompt=source)
        yield Piece([video[: len(self.video)] for video in model.decode(edited)])


@dataclass(frozen=True)
class Inpaint:
    """A region of a video made anew: where `mask`, bool `T H W`, is true. Cells of 8 x 8 pixels and 4 frames count."""

    video: Video
    mask: np.ndarray
    prompt: str
    strength: float = 1.0

    def run(self, model: Model) -> TaskRun:
        """One plan in which all cells without a masked pixel are held."""
        check_strength(self.strength)
        mask = self.mask.astype(bool)  # ~1 would be true
        if mask.shape != self.video.shape[:3]:
            raise ConfigError(f"mask of {mask.shape} does not fit a video of {self.video.shape[:3]}")
        latents = model.encode([model.padded(self.video)])
        is_made = cells_of(model.padded(mask), latents.shape[2:], has_uniform_groups=model.has_uniform_groups)
        start = Start(latents, torch.full((latents.shape[2],), self.strength), is_known=~is_made)
        made = yield replace(whole_plan(self.prompt, start), usual=PLAIN)
        yield Piece([met_around(video[: len(self.video)], self.video, mask) for video in model.decode(made)])
