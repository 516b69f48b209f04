"""What the starter reached: adherence with its bounds, what attributes flatter, and what few sampling steps keep."""

import json
import math
import time
from typing import Any, NamedTuple

from flows.bench import Measurement
from flows.bench_exam import BATCH, Exam, open_exam
from flows.bench_rows import percent
from flows.starter_run import starter_run
from model.sampling_options import SamplingOptions, Solver
from model.shapes import VideoShape

FEW_STEPS, MANY_STEPS, NUM_PROMPTS = 4, 20, 96


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
    rows["one object"] = percent(
        "frames of one object that show one patch of its colour", coherence["generated"], coherence["real"],
        "real clips", f"at least {100 * coherence['goal']:.0f} %", holds=coherence["generated"] >= coherence["goal"],
    )  # fmt: skip
    return rows


def _adherence_row(name: str, score: dict[str, Any], results: dict[str, Any]) -> Measurement:
    low, high = (100 * end for end in score["interval"])
    what = f"probe finds the right {name} in {results['num_prompts']} unseen prompts ({low:.1f} to {high:.1f})"
    goal = f"at least {100 * score['goal']:.0f} %" if score["goal"] else "none"
    row = percent(what, score["generated"], score["ceiling"], "real clips through the autoencoder", goal,
                   holds=score["generated"] >= (score["goal"] or 0))  # fmt: skip
    return row.model_copy(update={"details": {"floor": score["floor"], "real": score["real"]}})


def steps() -> dict[str, Measurement]:
    """All attributes right together, network evaluations and seconds a video, with few and with many sampling steps."""
    exam = open_exam(starter_run(), NUM_PROMPTS)
    shape = VideoShape.parse(exam.pipeline.facts.trained_buckets[0])
    many = timed(exam, shape, plain(MANY_STEPS))
    peer_name = f"{MANY_STEPS} Euler steps, {many.num_evaluations:g} evaluations, {many.seconds:.2f} s a video"
    rows = {}
    for name, options in few_step_options().items():
        few = timed(exam, shape, options)
        what = (
            f"all attributes right, sampled by {name}: {few.num_evaluations:g} network evaluations, "
            f"{few.seconds:.2f} s a video, {len(exam.prompts)} prompts"
        )
        holds = few.share >= 0.95 * many.share
        rows[name] = percent(what, few.share, many.share, peer_name, "at least 95 % of it", holds=holds)
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


def timed(exam: Exam, shape: VideoShape, options: SamplingOptions) -> Timed:
    """The prompts' videos, judged; the network's calls are counted, and shared by the videos of a batch."""
    num_calls = 0

    def count(*_: Any) -> None:
        nonlocal num_calls
        num_calls += 1

    counter = exam.pipeline.transformer.register_forward_pre_hook(count)
    began = time.perf_counter()
    videos = exam.drawn(shape, options)
    seconds = time.perf_counter() - began  # the judge reads each nine times
    counter.remove()
    num = len(exam.prompts)
    return Timed(exam.share_right(videos), num_calls / math.ceil(num / BATCH), seconds / num)
