"""Videos of any length in constant memory: made a window at a time, each one seeing the end of the one before."""

from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor

from model.memory import SceneMemory, stands_still
from model.plan import Chosen, Model, Piece, Plan, Script, TaskRun, Video
from model.sampling import Start
from model.sampling_options import BESIDE_GIVEN, PLAIN, SamplingOptions
from model.windows import Direction, Windows, given_start

RENEWAL = 0.7
"""The noise level from which the first frames after a cut are made anew, with nothing of the scene before in sight."""


class Rolling:
    """Latents made window by window; of what is there, only what the next window sees is kept.

    They go on from `history` `1 C T H W` (or nothing), at its end or before its beginning; `known` holds latents
    `1 C 1 H W` that are given, by frame. What is made backward is one scene.
    """

    def __init__(
        self,
        windows: Windows,
        script: Script,
        *,
        history: Tensor | None = None,
        direction: Direction = "forward",
        known: Mapping[int, Tensor] | None = None,
        usual: SamplingOptions = BESIDE_GIVEN,
    ) -> None:
        self._windows, self._script, self._direction = windows, script, direction
        self._seen, self._known, self._usual = history, known or {}, usual
        self.num_there = 0 if history is None else history.shape[2]
        self._memory = SceneMemory(windows.size)
        self._index, self._num_plans = 0, windows.num_plans(self.num_there)

    @property
    def is_done(self) -> bool:
        """Whether all latents are made."""
        return self.num_there == self._windows.total.num_frames

    def next_frames(self) -> Generator[Plan, Tensor, Tensor]:
        """The plans of the frames that are finished next, which it returns; the first ones bring the history along."""
        parts, is_first = self._windows.parts(self.num_there), self._index == 0
        span = self._span(self.num_there, sum(parts))
        if self.num_there in self._windows.cuts:
            new = yield from self._begun_scene(span, parts)
        else:
            new = yield from self._window(self._seen, span, self._usual, self._polishes(span))
        new = self._recalled(span, new)
        there = self._joined(self._seen, new)
        self._seen, self.num_there = self._last_of(there), self.num_there + len(span)
        return there if is_first else new

    def _begun_scene(self, whole: range, parts: Sequence[int]) -> Generator[Plan, Tensor, Tensor]:
        """The first frames after a cut: they go on from the scene before, and are then made anew for themselves.

        What is made with two scenes in sight takes on something of the colours and shapes of the one before.
        """
        begin, seen, made = whole.start, self._seen, []
        for length in parts:
            made.append((yield from self._window(seen, range(begin, begin + length), PLAIN)))
            seen, begin = self._last_of(self._joined(seen, made[-1])), begin + length
        strength = torch.tensor([0.0 if place in self._known else RENEWAL for place in whole])
        start = Start(torch.cat(made, dim=2), strength)
        return (yield self._plan(whole, start, self._usual, self._polishes(whole)))

    def _window(
        self, seen: Tensor | None, span: range, usual: SamplingOptions, polishes: Chosen | None = None
    ) -> Generator[Plan, Tensor, Tensor]:
        """The frames of a span, made with what is there next to them in sight."""
        num_seen = 0 if seen is None else seen.shape[2]
        is_forward, given = self._direction == "forward", dict(self._known)
        if seen is not None:
            first = span.start - num_seen if is_forward else span.stop
            given |= dict(enumerate(seen.split(1, dim=2), start=first))
        shown = range(span.start - num_seen, span.stop) if is_forward else range(span.start, span.stop + num_seen)
        made = yield self._plan(shown, given_start(shown, given), usual, polishes)
        return made[:, :, num_seen:] if is_forward else made[:, :, : len(span)]

    def _plan(self, shown: range, start: Start | None, usual: SamplingOptions, polishes: Chosen | None) -> Plan:
        """The next plan, of these frames."""
        plan = Plan(
            grid=self._windows.total._replace(num_frames=len(shown)),
            script=self._script.part(shown.start, shown.stop),
            start=start,
            usual=usual,
            polishes=polishes,
            index=self._index,
            num_plans=self._num_plans,
        )
        self._index += 1
        return plan

    def _polishes(self, span: range) -> Chosen | None:
        """Which samples to polish in the window that makes these frames.

        Where the camera moves, the memory holds nothing: averaged at every window, the scene would fade. So its first
        window is polished only where no other follows.
        """
        scene = self._script.prompt_of_frame[span.start]
        is_still = self._memory.is_still(scene)
        if is_still is not None:
            return lambda _: is_still
        # the first window beside given frames is better polished, however the camera moves (decision 0027)
        is_beside_given = self._index == 0 and self._seen is not None
        is_whole = len(span) == self._script.prompt_of_frame.count(scene)
        return None if is_beside_given or is_whole else stands_still

    def _recalled(self, span: range, new: Tensor) -> Tensor:
        """The latents that were made, as their scenes showed at first what they show again."""
        frames = list(zip(span, new.split(1, dim=2), strict=True))
        recalled = {
            place: self._memory.recall(frame, self._script.prompt_of_frame[place], is_given=place in self._known)
            for place, frame in (frames if self._direction == "forward" else reversed(frames))
        }
        return torch.cat([recalled[place] for place in span], dim=2)

    def _span(self, num_there: int, num_new: int) -> range:
        """The frames that so many new ones are, when so many are there."""
        if self._direction == "forward":
            return range(num_there, num_there + num_new)
        end = self._windows.total.num_frames - num_there
        return range(end - num_new, end)

    def _joined(self, seen: Tensor | None, new: Tensor) -> Tensor:
        """New frames and what was seen, in their order."""
        if seen is None:
            return new
        parts = [seen.expand(len(new), -1, -1, -1, -1), new]
        return torch.cat(parts if self._direction == "forward" else parts[::-1], dim=2)

    def _last_of(self, there: Tensor) -> Tensor:
        """Of what is there, what the next window sees: the end, or the beginning when it goes backward."""
        overlap = self._windows.overlap
        return there[:, :, -overlap:] if self._direction == "forward" else there[:, :, :overlap]


def rolled(model: Model, rolling: Rolling, finished: Callable[[list[Video]], list[Video]]) -> TaskRun:
    """A video of any length in constant memory: frames go through `finished` and out as soon as they are made."""
    decode = model.decoder()
    while not rolling.is_done:
        new = yield from rolling.next_frames()
        for videos in decode(new, is_last=rolling.is_done):
            piece = Piece(finished(videos))
            if len(piece.videos[0]):  # none when all of it was history
                yield piece
