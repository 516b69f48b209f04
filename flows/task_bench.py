"""The tasks that go on in time, each against its naive baseline, by the starter, on clips that it never saw."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from flows.bench import Measurement
from flows.bench_rows import at_least_share, at_most, half_of
from flows.bench_studio import HUES, Scene, Studio
from flows.starter_run import starter_run
from flows.video_measures import farthest
from model.seams import begun_where_calmest
from model.tasks import Animate, Extend, Generate, Join, Loop
from training.seams import (
    as_ring,
    cross_fade,
    cross_fade_likeness,
    flow_ratio,
    motion_ratio,
    value_ratio,
    velocity_errors,
    velocity_step,
)

NUM_CLIPS = 12
LOOP_LIMIT = 1.2
SEAM_RATIOS = {"value": value_ratio, "motion": motion_ratio, "flow": flow_ratio}


def tasks() -> dict[str, Measurement]:
    """Seams of extensions, loops and joins; what is given stays."""
    studio = Studio(starter_run())
    rows: dict[str, Measurement] = {}
    for measure in (extensions, animations, loops, joins):
        rows |= measure(studio)
    return rows


def extensions(studio: Studio) -> dict[str, Measurement]:
    """The object's velocity across the seam: with half a window of history, and chained from one frame alone.

    It is held against what the world did, and shown beside that: its step across the seam, which real clips have too.
    Over every unseen clip that slides: the medians of twelve change by half with the choice of the twelve.
    """
    errors: dict[str, list[float]] = {name: [] for name in ("forward", "chained", "backward", "chained back")}
    steps: dict[str, list[float]] = {name: [] for name in (*errors, "real")}
    for seed, scene in enumerate(studio.sliding(len(studio.scenes))):
        made = extended(studio, scene, seed)
        for name, video in made.items():
            backward, forward = velocity_errors(video, scene.video, 8, scene.colour, HUES)
            errors[name].append(forward if name in ("forward", "chained") else backward)
        for name, video in (made | {"real": scene.video}).items():
            steps[name].append(velocity_step(video, 8, scene.colour, HUES))
    error, step = ({name: float(np.nanmedian(all_)) for name, all_ in found.items()} for found in (errors, steps))
    rows = {}
    for key, way, naive in (("extend", "forward", "chained"), ("extend backward", "backward", "chained back")):
        peer = f"chaining from the {'last' if way == 'forward' else 'first'} frame"
        clips = f"{len(steps['real'])} clips, seen in {min(int(np.isfinite(errors[name]).sum()) for name in errors)}"
        what = f"an extension {way}, median of {clips} or more"
        rows[key] = half_of(f"error of the object's velocity, against the world's, across the seam of {what}",
                            error[way], error[naive], peer)  # fmt: skip
        rows[f"{key} step"] = half_of(
            f"step in the object's velocity across the seam of {what} (the real clips: {step['real']:.3g})",
            step[way], step[naive], peer,
        ).model_copy(update={"goal": "none", "holds": True})  # fmt: skip
    return rows


def extended(studio: Studio, scene: Scene, seed: int) -> dict[str, np.ndarray]:
    """The halves of a clip, each made longer by eight frames, and both chained."""
    before, after = scene.video[:8], scene.video[8:]
    chained_back = studio.make(Extend(after[:1], scene.prompt, 8, "backward"), seed)
    return {
        "forward": studio.make(Extend(before, scene.prompt, 8), seed),
        "chained": np.concatenate([before[:-1], studio.make(Animate(before[-1], scene.prompt, 9), seed)]),
        "backward": studio.make(Extend(after, scene.prompt, 8, "backward"), seed),
        "chained back": np.concatenate([chained_back, after[1:]]),
    }


def animations(studio: Studio) -> dict[str, Measurement]:
    """A picture that begins a video: it is the first frame to the last bit, and what follows moves as asked."""
    levels: list[int] = []
    levels_plain: list[int] = []
    moves: list[bool] = []
    moves_plain: list[bool] = []
    for seed, scene in enumerate(studio.scenes[:NUM_CLIPS]):
        picture, motion = scene.video[0], scene.attributes["motion"]
        made = studio.make(Animate(picture, scene.prompt, studio.shape.num_frames), seed)
        plain = studio.make(Generate(scene.prompt, studio.shape), seed)
        levels.append(farthest(made[0], picture))
        levels_plain.append(farthest(plain[0], picture))
        moves.append(studio.sees(made, motion=motion))
        moves_plain.append(studio.sees(plain, motion=motion))
    peer = "a plain video of the prompt"
    what = f"farthest pixel of {len(levels)} animations' first frames from their pictures"
    return {
        "animation first frame": at_most(what, max(levels), 0, max(levels_plain), peer, unit="levels"),
        "animation motion": at_least_share(f"animations of {len(moves)} that move as asked", moves, moves_plain, peer),
    }


def loops(studio: Studio) -> dict[str, Measurement]:
    """The step from a loop's last frame to its first over its median step, and the same of a plain video.

    What slides or falls one way cannot come back without a step, whoever draws it; those loops are shown apart.
    """
    can_close = studio.closing(NUM_CLIPS)
    cannot = [scene for scene in studio.scenes if not scene.can_close][:NUM_CLIPS]
    rows = {f"loop {kind}": row for kind, row in loop_rows(studio, can_close, "a loop", "at most 1.2").items()}
    one_way = loop_rows(studio, cannot, "a loop of what moves one way", "none")
    return rows | {f"loop one way {kind}": row for kind, row in one_way.items()}


def loop_rows(studio: Studio, scenes: Sequence[Scene], name: str, goal: str) -> dict[str, Measurement]:
    """The median ratios of the scenes' loops at their seams, beside those of plain videos repeated."""
    # a loop begins where its ring is calmest; the plain video is turned likewise
    made: dict[str, dict[str, list[float]]] = {kind: {"ring": [], "plain": []} for kind in SEAM_RATIOS}
    for seed, scene in enumerate(scenes):
        tasks = {"ring": Loop(scene.prompt, studio.shape), "plain": Generate(scene.prompt, studio.shape)}
        for way, task in tasks.items():
            twice, seam = as_ring(begun_where_calmest(studio.make(task, seed)))
            for kind, ratio in SEAM_RATIOS.items():
                made[kind][way].append(ratio(twice, seam))
    rows = {}
    for kind, ratios in made.items():
        mine, theirs = median(ratios["ring"]), median(ratios["plain"])
        rows[kind] = Measurement(
            what=f"{kind} step between the ends of {name}, begun where it is calmest (the plain one too), over its "
            f"median step, median of {len(scenes)}", unit="",
            ours=round(mine, 3), peer=round(theirs, 3), peer_name="a plain video repeated", goal=goal,
            holds=goal == "none" or mine <= LOOP_LIMIT,
        )  # fmt: skip
    return rows


def joins(studio: Studio) -> dict[str, Measurement]:
    """A made transition between two parts of a clip: both seams, and that its middle is no cross-fade."""
    ours: list[float] = []
    real: list[float] = []
    fades: list[float] = []
    likeness: list[float] = []
    faded: list[float] = []
    for seed, scene in enumerate(studio.sliding(NUM_CLIPS)):
        first, second = scene.video[:4], scene.video[12:]
        made = studio.make(Join(first, second, scene.prompt, 8), seed)
        fade = np.concatenate([first, cross_fade(first, second, 8), second])
        ours += [motion_ratio(made, 4), motion_ratio(made, 12)]
        # over the clip's own median: a fade changes so evenly that its own is next to nothing
        fades += [motion_ratio(fade, seam, like=scene.video) for seam in (4, 12)]
        real += [motion_ratio(scene.video, 4), motion_ratio(scene.video, 12)]
        likeness.append(cross_fade_likeness(made, 4, 12))
        faded.append(cross_fade_likeness(fade, 4, 12))
    what = (
        f"motion step across a join's seams over the median step, median of {len(ours)} "
        f"(the real clips: {median(real):.3g}; the fades' over the median of the real clips)"
    )
    return {
        "join seam": at_most(what, median(ours), 1.2, median(fades), "cross-fade"),
        "join likeness": at_most(
            "share of a join's middle that a cross-fade explains", median(likeness), 0.5, median(faded), "cross-fade"
        ),
    }
