"""Who judges the starter in the benches of adherence: prompts that it never saw, and a probe that reads its videos."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from data.workspace import Workspace
from data.worlds.captions import Attributes as Shown
from data.worlds.captions import heldout_prompts, num_held_out
from model.pipeline import SkyloomPipeline
from model.plan import Task
from model.runner import finish
from model.sampling_options import SamplingOptions
from model.shapes import VideoShape
from model.tasks import Generate
from training.clips import kept_rows
from training.judge import Drawn
from training.probe import Attributes, Probe, accuracy
from training.truth import largest_count, truth_of_clips

SEED, BATCH = 4321, 8


class Exam(NamedTuple):
    """The trained starter, its judge, and prompts that it never saw."""

    pipeline: SkyloomPipeline
    probe: Probe
    prompts: list[str]
    asked: list[Attributes]

    def drawn(self, shape: VideoShape, options: SamplingOptions | None = None) -> list[np.ndarray]:
        """A video of this shape of each prompt."""
        if self.pipeline.grid(shape).num_frames > self.pipeline.window:
            return [self.made(Generate(prompt, shape), place, options) for place, prompt in enumerate(self.prompts)]
        videos: list[np.ndarray] = []
        for start in range(0, len(self.prompts), BATCH):
            prompts = self.prompts[start : start + BATCH]
            seeds = [SEED + start + place for place in range(len(prompts))]
            videos += finish(self.pipeline.generate(prompts, shape, seeds=seeds, options=options))
        return videos

    def made(self, task: Task, place: int, options: SamplingOptions | None = None) -> np.ndarray:
        """The video of a task for the prompt at this place."""
        return finish(self.pipeline.run(task, seeds=[SEED + place], options=options))[0]

    def share_right(self, videos: Sequence[np.ndarray], names: Sequence[str] | None = None) -> float:
        """The share of the prompts' videos of which the probe reads these attributes, or all, as asked."""
        return self.share_of(Drawn(videos, self.asked), names)

    def share_of(self, drawn: Drawn, names: Sequence[str] | None = None) -> float:
        """The share of videos, made or real, of which the probe reads these attributes, or all, as asked."""
        known = [name for name in self.probe.vocabulary if names is None or name in names]
        wanted = [{name: each[name] for name in known} for each in drawn.asked]
        return accuracy(self.probe.read(drawn.videos), wanted)["all"]


def open_exam(place: Workspace, num_prompts: int, is_wanted: Callable[[Shown], bool] = lambda _: True) -> Exam:
    """The starter of a judged run, asked for wanted combinations of attributes that no film shows."""
    known = truth_of_clips(place, kept_rows(place))
    probe = Probe.load(place.evaluation / "probe.safetensors")
    every = heldout_prompts(num_held_out(largest_count(known)), SEED, largest_count(known))
    asked = [(text, shown) for text, shown in every if is_wanted(shown)][:num_prompts]
    pipeline = SkyloomPipeline.from_pretrained(place.pipeline)
    return Exam(pipeline, probe, [text for text, _ in asked], [asdict(shown) for _, shown in asked])
