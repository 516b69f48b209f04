"""Sizes that the starter never trained on, or seldom, against those of its training clips."""

from collections.abc import Sequence

import numpy as np

from data.normalize import nearest_shape
from data.workspace import Workspace
from flows.bench import Measurement
from flows.bench_exam import Exam, open_exam
from flows.bench_rows import percent
from flows.starter_run import starter_run
from model.pixels import covering, to_frames, to_video
from model.shapes import VideoShape
from model.tasks import Image
from training.clips import clips_in_order, is_held_out, kept_rows
from training.judge import VALIDATION_FRACTION, Drawn, through_autoencoder, wilson_interval
from training.truth import truth_of_clips

SIZES = ("64x64x16", "96x96x16", "128x128x16", "160x160x16", "144x80x16", "80x144x16")
LOOKS = ("colour", "shape", "size", "floor", "count")
"""What a picture can show, or a second."""
SECOND = "112x112x8"
NUM_PROMPTS = 48
NEAR = 0.1
GOAL = "at most 10 points below"


def sizes() -> dict[str, Measurement]:
    """All attributes right together, at other sizes, against those of the training clips; what a second shows."""
    place = starter_run()
    exam = open_exam(place, NUM_PROMPTS)
    unseen = held_out_clips(place)
    return frame_sizes(exam, unseen) | short(exam, unseen)


def frame_sizes(exam: Exam, unseen: Drawn) -> dict[str, Measurement]:
    """Videos of other sizes.

    Most were never trained; those that were, on clips scaled or cut to them, are said to be. Beside each: what the
    judge finds in real clips of that size through the autoencoder, which nothing drawn can pass.
    """
    buckets = [VideoShape.parse(name) for name in exam.pipeline.facts.trained_buckets]
    trained = float(np.mean([exam.share_right(exam.drawn(shape)) for shape in buckets]))
    rows = {}
    for name in SIZES:
        share = exam.share_right(exam.drawn(VideoShape.parse(name)))
        low, high = (100 * end for end in wilson_interval(share, len(exam.prompts)))
        seen = name in exam.pipeline.facts.also_trained
        known = "trained too, on scaled or cut clips" if seen else "never trained"
        what = f"all attributes right at {name}, {known}, {len(exam.prompts)} prompts ({low:.0f} to {high:.0f})"
        real = share_of_real(exam, VideoShape.parse(name), unseen)
        what += "" if real is None else f"; of real clips: {100 * real:.0f} %"
        rows[name] = percent(what, share, trained, "trained sizes", GOAL, holds=share >= trained - NEAR)
    return rows


def held_out_clips(place: Workspace) -> Drawn:
    """The real clips that the probe was not fitted to."""
    rows = [row for row in kept_rows(place) if is_held_out(row["clip_id"], VALIDATION_FRACTION)]
    truth = truth_of_clips(place, rows)
    known = [row for row in rows if row["clip_id"] in truth]
    return Drawn(clips_in_order(place, known), [truth[row["clip_id"]] for row in known])


def share_of_real(exam: Exam, shape: VideoShape, unseen: Drawn, names: Sequence[str] | None = None) -> float | None:
    """What the probe finds right of real clips of nearest aspect at this shape; None where none is as long."""
    shapes = [VideoShape(*clip.shape[:3]) for clip in unseen.videos]
    nearest = nearest_shape(shape.width, shape.height, sorted(set(shapes)))
    if nearest.num_frames < shape.num_frames:
        return None
    places = [place for place, own in enumerate(shapes) if own == nearest]
    clips = [unseen.videos[place][: shape.num_frames] for place in places]
    real = to_frames(covering(to_video(clips), shape.height, shape.width))
    decoded = through_autoencoder(exam.pipeline, real)
    return exam.share_of(Drawn(decoded, [unseen.asked[place] for place in places]), names)


def short(exam: Exam, unseen: Drawn) -> dict[str, Measurement]:
    """What a picture and a second show; motion and camera take longer to tell.

    A picture is held against two seconds. A second is held against real ones: the judge learned from two seconds and
    misreads even those, so that no second could come near what two seconds have; that is said beside it.
    """
    second, usual = VideoShape.parse(SECOND), VideoShape.parse(SECOND)._replace(num_frames=16)
    still = [
        np.repeat(exam.made(Image(prompt, usual.height, usual.width), place), usual.num_frames, axis=0)
        for place, prompt in enumerate(exam.prompts)
    ]
    longer, picture = exam.share_right(exam.drawn(usual), LOOKS), exam.share_right(still, LOOKS)
    what = f"{', '.join(LOOKS)} right at 112x112x1, {len(still)} prompts"
    rows = {"112x112x1": percent(what, picture, longer, "16 frames", GOAL, holds=picture >= longer - NEAR)}
    seconds = exam.drawn(second)
    for suffix, names, goal in (("", LOOKS, GOAL), ("-all", None, "none")):
        share, real = exam.share_right(seconds, names), share_of_real(exam, second, unseen, names)
        assert real is not None, "clips of two seconds are long enough"
        what = f"{'all attributes' if names is None else ', '.join(names)} right at {SECOND}, {len(seconds)} prompts"
        what += ", by a judge that learned from 16 frames" + (f" (of 16 frames: {100 * longer:.1f} %)" if names else "")
        holds = goal == "none" or share >= real - NEAR
        rows[f"{SECOND}{suffix}"] = percent(what, share, real, "real clips", goal, holds=holds)
    return rows
