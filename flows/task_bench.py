"""Every task of the model against its naive baseline, by the starter, on clips that it never saw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from data.workspace import Workspace
from data.worlds.captions import Attributes, dense_caption
from data.worlds.palette import COLOURS_RGB
from flows.bench import Measurement
from flows.starter_run import starter_run
from model.pipeline import SkyloomPipeline
from model.plan import Task
from model.runner import finish
from model.sampling import SamplingOptions
from model.shapes import VideoShape
from model.tasks import Animate, Blend, Card, Edit, Extend, Generate, Join, Loop, Storyboard
from training.clips import is_held_out, kept_rows, load_clips
from training.coherence import colour_mask, palette_hues
from training.judge import VALIDATION_FRACTION
from training.probe import Probe
from training.seams import (
    as_ring,
    cross_fade,
    cross_fade_likeness,
    flow_ratio,
    motion_ratio,
    value_ratio,
    velocity_error,
)
from training.truth import truth_of_clips

NUM_CLIPS, NUM_EDITS = 24, 24
HUES = palette_hues(COLOURS_RGB)
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9)
LOOP_LIMIT = 1.2
SEAM_RATIOS = {"value": value_ratio, "motion": motion_ratio, "flow": flow_ratio}


@dataclass(frozen=True)
class Scene:
    """A real clip and what it shows."""

    video: np.ndarray
    attributes: dict[str, str]

    @property
    def prompt(self) -> str:
        """The dense caption of its truth."""
        return dense_caption(Attributes(**self.attributes))

    @property
    def can_close(self) -> bool:
        """Whether what moves comes back by itself: a jump before a still camera."""
        return self.attributes["motion"] == "jumps" and self.attributes["camera"] == "stays still"

    def recoloured(self, colour: str) -> str:
        """The same caption with another colour."""
        return dense_caption(Attributes(**self.attributes | {"colour": colour}))


class Studio:
    """A run's model, its held-out clips in the square bucket, and its judge."""

    def __init__(self, place: Workspace) -> None:
        self.pipeline = SkyloomPipeline.from_pretrained(place.pipeline)
        known = kept_rows(place)
        truth = truth_of_clips(place, known)
        self.probe = Probe.load(place.evaluation / "probe.safetensors")
        shapes = [VideoShape.parse(bucket) for bucket in self.pipeline.facts.trained_buckets]
        self.shape = min(shapes, key=lambda shape: abs(shape.width - shape.height))
        rows = [row for row in known if row["bucket"] == self.shape.bucket]
        unseen = [row for row in rows if row["clip_id"] in truth and is_held_out(row["clip_id"], VALIDATION_FRACTION)]
        chosen = load_clips(place.root, unseen)[self.shape.bucket]
        pairs = zip(chosen.rows, chosen.frames, strict=True)
        self.scenes = [Scene(video, truth[row["clip_id"]]) for row, video in pairs]

    def make(self, task: Task, seed: int, options: SamplingOptions | None = None) -> np.ndarray:
        """One video."""
        return finish(self.pipeline.run(task, seeds=[seed], options=options))[0]

    def agree(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Whether the judge finds the same in both videos, colour left out."""
        seen = self.probe.read([one, other])
        return all(seen[0][name] == seen[1][name] for name in seen[0] if name != "colour")

    def sliding(self) -> list[Scene]:
        """Scenes whose object moves steadily."""
        return [scene for scene in self.scenes if scene.attributes["motion"].startswith("slides")][:NUM_CLIPS]


def tasks() -> dict[str, Measurement]:
    """Seams of extensions, loops and joins; edits and cards that leave the rest alone; blends that turn one way."""
    studio = Studio(starter_run())
    return extensions(studio) | loops(studio) | joins(studio) | blends(studio) | edits(studio) | storyboards(studio)


def extensions(studio: Studio) -> dict[str, Measurement]:
    """The object's velocity across the seam: with half a window of history, and chained from the last frame alone."""
    errors: dict[str, list[float]] = {"ours": [], "chained": [], "real": []}
    for seed, scene in enumerate(studio.sliding()):
        given = scene.video[:8]
        chained = np.concatenate([given[:-1], studio.make(Animate(given[-1], scene.prompt, 9), seed)])
        made = {"ours": studio.make(Extend(given, scene.prompt, 8), seed), "chained": chained, "real": scene.video}
        for name, video in made.items():
            errors[name].append(velocity_error(video, 8, scene.attributes["colour"], HUES))
    mine, theirs, real = (float(np.nanmedian(errors[name])) for name in ("ours", "chained", "real"))
    what = (
        f"velocity error of the object across the seam of an extension, median of {len(errors['ours'])} clips "
        f"(the real clips: {real:.3g})"
    )
    return {"extend": _lower(what, mine, "px/frame", theirs, "chaining from the last frame", factor=2)}


def loops(studio: Studio) -> dict[str, Measurement]:
    """The step from a loop's last frame to its first over its median step, and the same of a plain video.

    What slides or falls one way cannot come back without a step, whoever draws it; those loops are shown apart.
    """
    can_close = [scene for scene in studio.scenes if scene.can_close][:NUM_CLIPS]
    cannot = [scene for scene in studio.scenes if not scene.can_close][:NUM_CLIPS]
    rows = {f"loop {kind}": row for kind, row in loop_rows(studio, can_close, "a loop", "at most 1.2").items()}
    one_way = loop_rows(studio, cannot, "a loop of what moves one way", "none")
    return rows | {f"loop one way {kind}": row for kind, row in one_way.items()}


def loop_rows(studio: Studio, scenes: Sequence[Scene], name: str, goal: str) -> dict[str, Measurement]:
    """The median ratios of the scenes' loops at their seams, beside those of plain videos repeated."""
    made: dict[str, dict[str, list[float]]] = {kind: {"ring": [], "plain": []} for kind in SEAM_RATIOS}
    for seed, scene in enumerate(scenes):
        tasks = {"ring": Loop(scene.prompt, studio.shape), "plain": Generate(scene.prompt, studio.shape)}
        for way, task in tasks.items():
            twice, seam = as_ring(studio.make(task, seed))
            for kind, ratio in SEAM_RATIOS.items():
                made[kind][way].append(ratio(twice, seam))
    rows = {}
    for kind, ratios in made.items():
        mine, theirs = median(ratios["ring"]), median(ratios["plain"])
        rows[kind] = Measurement(
            what=f"{kind} step across the seam of {name} over its median step, median of {len(scenes)}", unit="",
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
    for seed, scene in enumerate(studio.sliding()):
        first, second = scene.video[:4], scene.video[12:]
        made = studio.make(Join(first, second, scene.prompt, 8), seed)
        fade = np.concatenate([first, cross_fade(first, second, 8), second])
        ours += [motion_ratio(made, 4), motion_ratio(made, 12)]
        fades += [motion_ratio(fade, 4), motion_ratio(fade, 12)]
        real += [motion_ratio(scene.video, 4), motion_ratio(scene.video, 12)]
        likeness.append(cross_fade_likeness(made, 4, 12))
        faded.append(cross_fade_likeness(fade, 4, 12))
    what = (
        f"motion step across a join's seams over the median step, median of {len(ours)} "
        f"(the real clips: {median(real):.3g})"
    )
    return {
        "join seam": _at_most(what, median(ours), 1.2, median(fades), "cross-fade"),
        "join likeness": _at_most(
            "share of a join's middle that a cross-fade explains", median(likeness), 0.5, median(faded), "cross-fade"
        ),
    }


def blends(studio: Studio) -> dict[str, Measurement]:
    """How often the colour that is seen changes just once, from the first video's to the second's."""
    once = 0
    pairs = [
        (one, other)
        for one, other in zip(studio.scenes, studio.scenes[1:], strict=False)
        if one.attributes["colour"] != other.attributes["colour"]
    ][:NUM_CLIPS]
    for seed, (one, other) in enumerate(pairs):
        video = studio.make(Blend(one.video, other.video, (one.prompt, other.prompt)), seed)
        colours = (one.attributes["colour"], other.attributes["colour"])
        areas = np.array([[colour_mask(frame, colour, HUES).sum() for colour in colours] for frame in video])
        share = areas[:, 1] / np.maximum(areas.sum(axis=1), 1)
        smooth = np.convolve(share, np.ones(4) / 4, mode="valid")
        once += bool((np.diff(smooth) > -0.1).all() and share[0] < 0.5 < share[-1])
    what = f"blends of {len(pairs)} whose second colour only ever grows"
    return {
        "blend": Measurement(
            what=what,
            ours=round(100 * once / len(pairs), 1),
            unit="%",
            goal="at least 80 %",
            holds=once >= 0.8 * len(pairs),
        )
    }


def edits(studio: Studio) -> dict[str, Measurement]:
    """Recolouring: the share that the probe sees in the new colour, and what the untouched part keeps (PSNR)."""
    flow = edit_curve(studio, lambda scene, colour, strength: Edit(
        scene.video, scene.recoloured(colour), scene.prompt, strength))  # fmt: skip
    noised = edit_curve(studio, lambda scene, colour, strength: Edit(
        scene.video, scene.recoloured(colour), None, strength))  # fmt: skip
    best_flow = max((point for point in flow if point[0] >= 0.8), key=lambda point: point[1], default=max(flow))
    best_noised = max((point for point in noised if point[0] >= best_flow[0]), key=lambda p: p[1], default=max(noised))
    return {
        "edit accuracy": Measurement(
            what=f"recolouring seen by the probe, {NUM_EDITS} edits", ours=round(100 * best_flow[0], 1), unit="%",
            peer=round(100 * best_noised[0], 1), peer_name="SDEdit", goal="at least 80 %", holds=best_flow[0] >= 0.8,
        ),
        "edit untouched": Measurement(
            what="PSNR outside the object at no less accuracy", ours=round(best_flow[1], 2), unit="dB",
            peer=round(best_noised[1], 2), peer_name="SDEdit", goal="more than SDEdit",
            holds=best_flow[1] > best_noised[1],
        ),
    }  # fmt: skip


def storyboards(studio: Studio) -> dict[str, Measurement]:
    """Two cards that differ in colour: how far the change lies from the cut, and whether all else stays itself."""
    errors: list[int] = []
    same: dict[str, list[bool]] = {"ours": [], "apart": []}
    for seed, scene in enumerate(studio.scenes[:NUM_CLIPS]):
        target = other_colour(scene)
        prompts = (scene.prompt, scene.recoloured(target))
        length, height, width = studio.shape
        video = studio.make(Storyboard(tuple(Card(prompt, length) for prompt in prompts), height, width), seed)
        apart = [studio.make(Generate(prompt, studio.shape), 2 * seed + half) for half, prompt in enumerate(prompts)]
        errors.append(abs(first_frame_of(video, scene.attributes["colour"], target) - length))
        same["ours"].append(studio.agree(video[:length], video[length:]))
        same["apart"].append(studio.agree(*apart))
    mine, theirs = (float(np.mean(same[name])) for name in ("ours", "apart"))
    return {
        "storyboard cut": Measurement(
            what=f"frames between a storyboard's cut and the change it asks for, median of {len(errors)}",
            ours=median(errors), unit="frames", goal="at most 2", holds=median(errors) <= 2,
        ),
        "storyboard identity": Measurement(
            what="storyboards of which the probe finds all but the colour equal in both scenes",
            ours=round(100 * mine, 1), unit="%", peer=round(100 * theirs, 1), peer_name="scenes made apart",
            goal="at least 90 %", holds=mine >= 0.9,
        ),
    }  # fmt: skip


def first_frame_of(video: np.ndarray, colour: str, target: str) -> int:
    """The first frame that shows more of the target colour than of the other; the length when none does."""
    wins = [colour_mask(frame, target, HUES).sum() > colour_mask(frame, colour, HUES).sum() for frame in video]
    return wins.index(True) if True in wins else len(video)


def other_colour(scene: Scene) -> str:
    """A colour of the palette that the scene does not show, three places on."""
    colours = list(HUES)
    return colours[(colours.index(scene.attributes["colour"]) + 3) % len(colours)]


def edit_curve(studio: Studio, order: Callable[[Scene, str, float], Task]) -> list[tuple[float, float]]:
    """(share in the new colour, PSNR outside the object) at each strength."""
    curve = []
    for strength in STRENGTHS:
        seen: list[bool] = []
        kept: list[float] = []
        for seed, scene in enumerate(studio.scenes[:NUM_EDITS]):
            target = other_colour(scene)
            edited = studio.make(order(scene, target, strength), seed)
            seen.append(studio.probe.read([edited])[0]["colour"] == target)
            kept.append(outside_psnr(scene, edited, target))
        curve.append((float(np.mean(seen)), float(np.mean(kept))))
    return curve


def outside_psnr(scene: Scene, edited: np.ndarray, target: str) -> float:
    """PSNR in dB over the pixels that show neither the old object nor the new one."""
    untouched = np.stack([
        ~(colour_mask(old, scene.attributes["colour"], HUES) | colour_mask(new, target, HUES))
        for old, new in zip(scene.video, edited, strict=True)
    ])  # fmt: skip
    error = np.square(scene.video[untouched].astype(np.float64) - edited[untouched]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _lower(what: str, ours: float, unit: str, theirs: float, peer: str, *, factor: float) -> Measurement:
    return Measurement(
        what=what, ours=round(ours, 3), unit=unit, peer=round(theirs, 3), peer_name=peer,
        goal=f"at most 1/{factor:g} of it", holds=ours * factor <= theirs,
    )  # fmt: skip


def _at_most(what: str, ours: float, limit: float, theirs: float, peer: str) -> Measurement:
    return Measurement(
        what=what, ours=round(ours, 3), unit="", peer=round(theirs, 3), peer_name=peer,
        goal=f"at most {limit:g}", holds=ours <= limit,
    )  # fmt: skip
