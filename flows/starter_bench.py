"""What the starter reached: adherence with its bounds, sizes and lengths it never trained on, few sampling steps."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from data.normalize import nearest_shape
from data.workspace import Workspace
from data.worlds.captions import heldout_prompts
from flows.bench import Measurement
from flows.starter_run import starter_run
from model.pipeline import SkyloomPipeline
from model.pixels import covering, to_frames, to_video
from model.plan import Task
from model.runner import finish
from model.sampling_options import SamplingOptions, Solver
from model.shapes import VideoShape
from model.tasks import Generate, Image
from training.clips import clips_in_order, is_held_out, kept_rows
from training.judge import VALIDATION_FRACTION, Drawn, through_autoencoder, wilson_interval
from training.probe import Attributes, Probe, accuracy
from training.truth import largest_count, truth_of_clips

OTHER_SIZES = (
    "64x64x16", "96x96x16", "128x128x16", "160x160x16", "144x80x16", "80x144x16", "112x112x8", "160x96x32"
)  # fmt: skip
NEW_LENGTHS = ("112x112x1", "112x112x64", "112x112x128")
LOOKS = ("colour", "shape", "size", "floor", "count")
"""What a picture, or the end of a long video, can still show: nothing is asked to move for sixteen seconds."""
NUM_PROMPTS, NUM_LONG_PROMPTS, BATCH = 48, 16, 8
FEW_STEPS, MANY_STEPS = 4, 20
SEED = 4321


class Studio(NamedTuple):
    """The trained starter, its judge, and prompts that it never saw."""

    pipeline: SkyloomPipeline
    probe: Probe
    prompts: list[str]
    asked: list[Attributes]

    def all_right(self, shape: VideoShape, options: SamplingOptions | None = None) -> float:
        """The share of the prompts whose video of this shape the probe finds right in every attribute."""
        return self.share_of(self.drawn(shape, options))

    def drawn(self, shape: VideoShape, options: SamplingOptions | None = None) -> list[np.ndarray]:
        """A video of this shape of each prompt."""
        if self.pipeline.grid(shape).num_frames > self.pipeline.window:
            return [self._made(Generate(prompt, shape), place, options) for place, prompt in enumerate(self.prompts)]
        videos: list[np.ndarray] = []
        for start in range(0, len(self.prompts), BATCH):
            prompts = self.prompts[start : start + BATCH]
            seeds = [SEED + start + place for place in range(len(prompts))]
            videos += finish(self.pipeline.generate(prompts, shape, seeds=seeds, options=options))
        return videos

    def share_of(self, videos: list[np.ndarray]) -> float:
        """The share of the prompts' videos that the probe finds right in every attribute."""
        return self.share_right(Drawn(videos, self.asked))

    def looks_right(self, shape: VideoShape, num_prompts: int) -> float:
        """The share of so many prompts whose video, as a task, the probe finds right in its looks, by its end."""
        step, end = self.pipeline.compression.time, self.pipeline.window * self.pipeline.compression.time
        videos = []
        for place, prompt in enumerate(self.prompts[:num_prompts]):
            task = Generate(prompt, shape) if shape.num_frames >= step else Image(prompt, shape.height, shape.width)
            video = self._made(task, place)
            videos.append(np.repeat(video, step, axis=0) if len(video) < step else video[-end:])
        return self.share_right(Drawn(videos, self.asked[: len(videos)]), LOOKS)

    def _made(self, task: Task, place: int, options: SamplingOptions | None = None) -> np.ndarray:
        return finish(self.pipeline.run(task, seeds=[SEED + place], options=options))[0]

    def share_right(self, drawn: Drawn, names: Sequence[str] | None = None) -> float:
        """The share of videos, made or real, of which the probe reads these attributes, or all, as asked."""
        known = [name for name in self.probe.vocabulary if names is None or name in names]
        wanted = [{name: each[name] for name in known} for each in drawn.asked]
        return accuracy(self.probe.read(drawn.videos), wanted)["all"]


def open_studio(place: Workspace, num_prompts: int = NUM_PROMPTS) -> Studio:
    """The starter of a judged run."""
    truth = truth_of_clips(place, kept_rows(place))
    probe = Probe.load(place.evaluation / "probe.safetensors")
    pairs = heldout_prompts(num_prompts, SEED, largest_count(truth))
    pipeline = SkyloomPipeline.from_pretrained(place.pipeline)
    return Studio(pipeline, probe, [text for text, _ in pairs], [asdict(attributes) for _, attributes in pairs])


def starter() -> dict[str, Measurement]:
    """Adherence and looks as the evaluation found them."""
    place = starter_run()
    results: dict[str, Any] = json.loads((place.evaluation / "results.json").read_text())
    rows = {name: _adherence_row(name, score, results) for name, score in results["adherence"].items()}
    through = f"(real clips through the autoencoder: {results['outline']['ceiling']:.4f})"
    num = results["frechet"].get("num")  # verdicts from before it was noted do not say
    beside = f" of {num} videos to as many real clips" if num else ""
    looks = {
        "outline": f"change of outlines from frame to frame {through}",
        "frechet": f"Frechet distance{beside}; that of other real clips is chance alone, and smaller for more of them",
    }
    for name, what in looks.items():
        score = results[name]
        limit = f"at most {score['limit']:g}x of real clips"
        rows[name] = Measurement(
            what=what, ours=round(score["generated"], 4), unit="", peer=round(score["real"], 4), peer_name="real clips",
            goal=limit, holds=score["generated"] <= score["limit"] * score["real"],
        )  # fmt: skip
    coherence = results["coherence"]
    rows["one object"] = _percent(
        "frames of one object that show one patch of its colour", coherence["generated"], coherence["real"],
        "real clips", f"at least {100 * coherence['goal']:.0f} %", holds=coherence["generated"] >= coherence["goal"],
    )  # fmt: skip
    return rows


def _adherence_row(name: str, score: dict[str, Any], results: dict[str, Any]) -> Measurement:
    low, high = (100 * end for end in score["interval"])
    what = f"probe finds the right {name} in {results['num_prompts']} unseen prompts ({low:.1f} to {high:.1f})"
    goal = f"at least {100 * score['goal']:.0f} %" if score["goal"] else "none"
    row = _percent(what, score["generated"], score["ceiling"], "real clips through the autoencoder", goal,
                   holds=score["generated"] >= (score["goal"] or 0))  # fmt: skip
    return row.model_copy(update={"details": {"floor": score["floor"], "real": score["real"]}})


def sizes() -> dict[str, Measurement]:
    """All attributes right together, at other sizes and lengths, against those of the training clips.

    Most were never trained; those that were, clips scaled or cut to them, are said to be.

    Beside each: what the judge finds in real clips of that size through the autoencoder, which nothing drawn can pass.
    """
    place = starter_run()
    studio = open_studio(place)
    seen = studio.pipeline.facts.also_trained
    unseen = held_out_clips(place)
    trained = float(
        np.mean([studio.all_right(VideoShape.parse(name)) for name in studio.pipeline.facts.trained_buckets])
    )
    rows = {}
    for name in OTHER_SIZES:
        share = studio.all_right(VideoShape.parse(name))
        low, high = (100 * end for end in wilson_interval(share, len(studio.prompts)))
        known = "trained too, on scaled or cut clips" if name in seen else "never trained"
        what = f"all attributes right at {name}, {known}, {len(studio.prompts)} prompts ({low:.0f} to {high:.0f})"
        what += ceiling_words(studio, VideoShape.parse(name), unseen)
        rows[name] = _percent(
            what, share, trained, "trained sizes", "at most 10 points below", holds=share >= trained - 0.1
        )
    return rows | lengths(studio)


def held_out_clips(place: Workspace) -> Drawn:
    """The real clips that the probe was not fitted to."""
    rows = [row for row in kept_rows(place) if is_held_out(row["clip_id"], VALIDATION_FRACTION)]
    truth = truth_of_clips(place, rows)
    known = [row for row in rows if row["clip_id"] in truth]
    return Drawn(clips_in_order(place, known), [truth[row["clip_id"]] for row in known])


def ceiling_words(studio: Studio, shape: VideoShape, unseen: Drawn) -> str:
    """What the probe finds right of real clips of nearest aspect at this shape; nothing where none is as long."""
    shapes = [VideoShape(*clip.shape[:3]) for clip in unseen.videos]
    nearest = nearest_shape(shape.width, shape.height, sorted(set(shapes)))
    places = [place for place, own in enumerate(shapes) if own == nearest]
    if nearest.num_frames < shape.num_frames:
        return ""
    clips = [unseen.videos[place][: shape.num_frames] for place in places]
    real = to_frames(covering(to_video(clips), shape.height, shape.width))
    seen = Drawn(through_autoencoder(studio.pipeline, real), [unseen.asked[place] for place in places])
    return f"; of {len(real)} real clips: {100 * studio.share_right(seen):.0f} %"


def lengths(studio: Studio) -> dict[str, Measurement]:
    """Looks right together in a picture, and at the end of long videos, against a trained length."""
    usual = studio.looks_right(VideoShape.parse("112x112x16"), NUM_LONG_PROMPTS)
    rows = {}
    for name in NEW_LENGTHS:
        share = studio.looks_right(VideoShape.parse(name), NUM_LONG_PROMPTS)
        what = f"colour, shape, size, floor and count right at the end of {name}, {NUM_LONG_PROMPTS} prompts"
        rows[name] = _percent(what, share, usual, "16 frames", "at most 10 points below", holds=share >= usual - 0.1)
    return rows


def steps() -> dict[str, Measurement]:
    """All attributes right together, network evaluations and seconds a video, with few and with many sampling steps."""
    studio = open_studio(starter_run(), num_prompts=96)
    shape = VideoShape.parse(studio.pipeline.facts.trained_buckets[0])
    many = timed(studio, shape, plain(MANY_STEPS))
    peer_name = f"{MANY_STEPS} Euler steps, {many.num_evaluations:g} evaluations, {many.seconds:.2f} s a video"
    rows = {}
    for name, options in few_step_options().items():
        few = timed(studio, shape, options)
        what = (
            f"all attributes right, sampled by {name}: {few.num_evaluations:g} network evaluations, "
            f"{few.seconds:.2f} s a video, {len(studio.prompts)} prompts"
        )
        holds = few.share >= 0.95 * many.share
        rows[name] = _percent(what, few.share, many.share, peer_name, "at least 95 % of it", holds=holds)
    return rows


def plain(num_steps: int, solver: Solver = "euler") -> SamplingOptions:
    """So many steps, guided at every noise level, and nothing after them."""
    return SamplingOptions(num_steps=num_steps, solver=solver, guidance_low=0.0, moves_patches=False, polish=())


def few_step_options() -> dict[str, SamplingOptions]:
    """Ways to sample with few network evaluations, and the starter's own."""
    return {
        "its own way": SamplingOptions(),
        "euler 8": plain(8),
        "euler 4": plain(FEW_STEPS),
        "multistep 4": plain(FEW_STEPS, "multistep"),
        "heun 4": plain(FEW_STEPS, "heun"),
    }


class Timed(NamedTuple):
    """How many prompts came out right, and what a video took."""

    share: float
    num_evaluations: float
    seconds: float


def timed(studio: Studio, shape: VideoShape, options: SamplingOptions) -> Timed:
    """The prompts' videos, judged; the network's calls are counted, and shared by the videos of a batch."""
    num_calls = 0

    def count(*_: Any) -> None:
        nonlocal num_calls
        num_calls += 1

    counter = studio.pipeline.transformer.register_forward_pre_hook(count)
    began = time.perf_counter()
    videos = studio.drawn(shape, options)
    seconds = time.perf_counter() - began  # the judge reads each nine times
    counter.remove()
    num = len(studio.prompts)
    return Timed(studio.share_of(videos), num_calls / math.ceil(num / BATCH), seconds / num)


def _percent(what: str, ours: float, peer: float, peer_name: str, goal: str, *, holds: bool) -> Measurement:
    return Measurement(
        what=what, ours=round(100 * ours, 1), unit="%", peer=round(100 * peer, 1), peer_name=peer_name, goal=goal,
        holds=holds,
    )  # fmt: skip
