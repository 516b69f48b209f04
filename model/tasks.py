"""What the one model can be asked for. A task is a short conversation with the sampler, in latents.

Each task yields plans (which frames are given, which are to be made, under which text), receives the latents that the
sampler made of each, and returns finished videos. Nothing here knows how sampling works, and the sampler knows no task.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from model.errors import ConfigError
from model.pixels import cells_of
from model.plan import CONTINUED_GUIDANCE_SCALE, Model, Plan, Script, TaskRun, Video
from model.sampling import Start
from model.seams import Seam, met
from model.shapes import LatentShape, VideoShape
from model.task_checks import check_clip, check_groups, check_length, check_strength
from model.windows import GROUP, Direction, Windows, continued, given_start, grouped, tail_of

FLOW_EDIT_STRENGTH, SDEDIT_STRENGTH = 0.8, 0.7


@dataclass(frozen=True)
class Card:
    """A scene of a storyboard: what it shows, for how many frames, and the clip (or single picture) it begins with."""

    prompt: str
    num_frames: int
    clip: Video | None = None


@dataclass(frozen=True)
class Storyboard:
    """Scenes one after the other in one video; each window sees the end of what is there, so things stay themselves."""

    cards: tuple[Card, ...]
    height: int
    width: int

    def run(self, model: Model) -> TaskRun:
        """One plan per window; a frame looks at the text of its own scene alone."""
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
        made = model.decode((yield from continued(None, Windows(grid, model.window), script, known=known)))
        return [self._begun(video, [GROUP * begin for begin in begins]) for video in made]

    def _begun(self, video: Video, begins: Sequence[int]) -> Video:
        """The video in which each scene begins with its clip, to the last bit."""
        scenes = []
        for card, scene in zip(self.cards, np.split(video, begins[1:]), strict=True):
            given = scene[:0] if card.clip is None else card.clip
            seam = Seam(given[-1], scene[len(given) - 1]) if len(given) else None
            scenes += [given, met(scene[len(given) :], before=seam)]
        return np.concatenate(scenes)


@dataclass(frozen=True)
class Generate:
    """A video from a prompt, of any length."""

    prompt: str
    shape: VideoShape

    def run(self, model: Model) -> TaskRun:
        """One plan, or a storyboard of one card when the video is longer than the window."""
        grid = model.grid(self.shape)
        if grid.num_frames <= model.window:
            return model.decode((yield Plan(grid=grid, script=Script.of(self.prompt, grid.num_frames))))
        card = Card(self.prompt, self.shape.num_frames)
        return (yield from Storyboard((card,), self.shape.height, self.shape.width).run(model))


@dataclass(frozen=True)
class Image:
    """A still picture, as a video of one frame."""

    prompt: str
    height: int
    width: int

    def run(self, model: Model) -> TaskRun:
        """One latent frame, of which the first picture is kept."""
        num_frames = GROUP if model.has_uniform_groups else 1
        videos = yield from Generate(self.prompt, VideoShape(num_frames, self.height, self.width)).run(model)
        return [video[:1] for video in videos]


@dataclass(frozen=True)
class Extend:
    """A video made longer by `num_frames` at its end (`forward`) or before its beginning (`backward`).

    The given frames come back as they were.
    """

    video: Video
    prompt: str
    num_frames: int
    direction: Direction = "forward"

    def run(self, model: Model) -> TaskRun:
        """One plan per window; each sees half a window of what is there."""
        check_groups(model)
        check_length("num_frames", self.num_frames)
        history = model.encode([tail_of(self.video, model.window // 2, self.direction)])
        num_frames = history.shape[2] - (-self.num_frames // GROUP)
        windows = Windows(LatentShape(num_frames, *history.shape[3:]), model.window)
        script = Script.of(self.prompt, num_frames)
        # a picture held still says nothing of what is to move: there the prompt must
        scale = CONTINUED_GUIDANCE_SCALE if len(self.video) >= GROUP else None
        latents = yield from continued(history, windows, script, direction=self.direction, guidance_scale=scale)
        made = model.decode(latents)
        num_kept = history.shape[2] * GROUP
        if self.direction == "forward":
            return [np.concatenate([self.video, self._after(video, num_kept)]) for video in made]
        return [np.concatenate([self._before(video, num_kept), self.video]) for video in made]

    def _after(self, video: Video, num_kept: int) -> Video:
        seam = Seam(self.video[-1], video[num_kept - 1])
        return met(video[num_kept:][: self.num_frames], before=seam)

    def _before(self, video: Video, num_kept: int) -> Video:
        seam = Seam(self.video[0], video[-num_kept])
        return met(video[:-num_kept][-self.num_frames :], after=seam)


@dataclass(frozen=True)
class Animate:
    """A video that begins with a given picture, uint8 `H W C`."""

    image: np.ndarray
    prompt: str
    num_frames: int

    def run(self, model: Model) -> TaskRun:
        """An extension of the picture held still; the picture itself is the first frame."""
        check_length("num_frames", self.num_frames, least=2)
        return (yield from Extend(self.image[None], self.prompt, self.num_frames - 1).run(model))


@dataclass(frozen=True)
class Feature:
    """A new video that goes on from a given one without showing it: the same things, in a scene of its own prompt."""

    video: Video
    prompt: str
    num_frames: int

    def run(self, model: Model) -> TaskRun:
        """An extension of which only what is new is kept."""
        made = yield from Extend(self.video, self.prompt, self.num_frames).run(model)
        return [video[len(self.video) :] for video in made]


@dataclass(frozen=True)
class Loop:
    """A video without beginning or end: its last frame leads into its first."""

    prompt: str
    shape: VideoShape

    def run(self, model: Model) -> TaskRun:
        """One plan whose frames are a ring."""
        grid = model.grid(self.shape)
        latents = yield Plan(grid=grid, script=Script.of(self.prompt, grid.num_frames), is_ring=True)
        return model.decode(latents, is_ring=True)


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
        latents = yield replace(whole_plan(self.prompt, start), guidance_scale=CONTINUED_GUIDANCE_SCALE)
        return [self._joined(video, before.shape[2] * GROUP, end * GROUP) for video in model.decode(latents)]

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
        weight = torch.linspace(0, 1, first.shape[2])
        mixed = torch.lerp(first, second, weight[:, None, None])
        start = Start(mixed, self.strength * (torch.pi * weight).sin().clamp_min(0))
        script = Script(self.prompts, tuple(int(share > 0.5) for share in weight))
        latents = yield Plan(grid=LatentShape(*mixed.shape[2:]), script=script, start=start)
        return [video[: len(self.first)] for video in model.decode(latents)]


@dataclass(frozen=True)
class Edit:
    """A video changed to what a prompt says.

    With `source_prompt`, what the video shows, the change follows the difference of the two texts (FlowEdit) where this
    one describes it; without, the video is noised to `strength` and made again (SDEdit). `strength` is 0.8 or 0.7.
    """

    video: Video
    prompt: str
    source_prompt: str | None = None
    strength: float | None = None

    def run(self, model: Model) -> TaskRun:
        """One plan that starts from the video."""
        usual = SDEDIT_STRENGTH if self.source_prompt is None else FLOW_EDIT_STRENGTH
        strength = usual if self.strength is None else self.strength
        check_strength(strength)
        latents = model.encode([model.padded(self.video)])
        start = Start(latents, torch.full((latents.shape[2],), strength))
        edited = yield replace(whole_plan(self.prompt, start), source_prompt=self.source_prompt)
        return [video[: len(self.video)] for video in model.decode(edited)]


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
        if self.mask.shape != self.video.shape[:3]:
            raise ConfigError(f"mask of {self.mask.shape} does not fit a video of {self.video.shape[:3]}")
        latents = model.encode([model.padded(self.video)])
        is_made = cells_of(model.padded(self.mask), latents.shape[2:], has_uniform_groups=model.has_uniform_groups)
        start = Start(latents, torch.full((latents.shape[2],), self.strength), is_known=~is_made)
        made = yield whole_plan(self.prompt, start)
        keep = ~self.mask[..., None]
        return [np.where(keep, self.video, video[: len(self.video)]) for video in model.decode(made)]


def whole_plan(prompt: str, start: Start) -> Plan:
    """One plan over all frames of a start."""
    grid = LatentShape(*start.latents.shape[2:])
    return Plan(grid=grid, script=Script.of(prompt, grid.num_frames), start=start)
