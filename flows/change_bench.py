"""The tasks that change a video, turn one into another or make a picture, each against its naive baseline."""

from collections.abc import Callable
from statistics import median

import numpy as np

from flows.bench import Measurement
from flows.bench_rows import at_least_share, at_most
from flows.bench_studio import HUES, Scene, Studio
from flows.starter_run import starter_run
from flows.video_measures import border_step, farthest, first_frame_of, outside_psnr_db, turns_once
from model.plan import Task
from model.storyboard import Card, Storyboard
from model.tasks import Blend, Edit, Generate, Image, Inpaint
from training.coherence import colour_mask
from training.seams import dissolve

NUM_CLIPS, NUM_READ = 12, 48
"""The second is for pictures and storyboards, of which the judge reads all: of twelve, one more is eight points."""
MARGIN_PX, BORDER_LIMIT = 8, 1.5
STRENGTHS = (0.6, 0.7, 0.8, 0.9)
LOOKS = ("colour", "shape", "size", "floor", "count")
"""What a picture can show of a scene."""
IDENTITY = ("shape", "size", "floor", "count")
"""What stays when a scene goes on in another colour: nothing falls twice, and a camera zooms in once."""


def changes() -> dict[str, Measurement]:
    """Blends, edits and inpainting that leave the rest alone; pictures; storyboards that cut where they should."""
    studio = Studio(starter_run())
    rows: dict[str, Measurement] = {}
    for measure in (blends, edits, inpainting, images, storyboards):
        rows |= measure(studio)
    return rows


def blends(studio: Studio) -> dict[str, Measurement]:
    """How often the colour that is seen changes just once, from the first video's to the second's."""
    steady: list[bool] = []
    faded: list[bool] = []
    for seed, (one, other) in enumerate(studio.couples(NUM_CLIPS)):
        video = studio.make(Blend(one.video, other.video, (one.prompt, other.prompt)), seed)
        steady.append(turns_once(video, one.colour, other.colour))
        faded.append(turns_once(dissolve(one.video, other.video), one.colour, other.colour))
    return {"blend": at_least_share(f"blends of {len(steady)} that turn one way only", steady, faded, "cross-fade")}


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
            what=f"recolouring seen by the probe, {NUM_CLIPS} edits", ours=round(100 * best_flow[0], 1), unit="%",
            peer=round(100 * best_noised[0], 1), peer_name="SDEdit", goal="at least 80 %", holds=best_flow[0] >= 0.8,
        ),
        "edit untouched": Measurement(
            what="PSNR outside the object at no less accuracy", ours=round(best_flow[1], 2), unit="dB",
            peer=round(best_noised[1], 2), peer_name="SDEdit", goal="more than SDEdit",
            holds=best_flow[1] > best_noised[1],
        ),
    }  # fmt: skip


def edit_curve(studio: Studio, order: Callable[[Scene, str, float], Task]) -> list[tuple[float, float]]:
    """(share in the new colour, PSNR outside the object) at each strength."""
    curve = []
    for strength in STRENGTHS:
        seen: list[bool] = []
        kept: list[float] = []
        for seed, scene in enumerate(studio.scenes[:NUM_CLIPS]):
            target = scene.other_colour
            edited = studio.make(order(scene, target, strength), seed)
            seen.append(studio.sees(edited, colour=target))
            kept.append(outside_psnr_db(scene.video, edited, scene.colour, target))
        curve.append((float(np.mean(seen)), float(np.mean(kept))))
    return curve


def inpainting(studio: Studio) -> dict[str, Measurement]:
    """The box around an object made anew in another colour; naively, that box cut out of a plain video."""
    levels: list[int] = []
    seen: dict[str, list[bool]] = {"ours": [], "pasted": []}
    borders: dict[str, list[float]] = {"ours": [], "pasted": []}
    for seed, scene in enumerate(studio.scenes[:NUM_CLIPS]):
        target, mask = scene.other_colour, box_around(scene)
        prompt = scene.recoloured(target)
        made = studio.make(Inpaint(scene.video, mask, prompt), seed)
        plain = studio.make(Generate(prompt, studio.shape), seed)
        levels.append(farthest(made[~mask], scene.video[~mask]))
        for name, video in (("ours", made), ("pasted", np.where(mask[..., None], plain, scene.video))):
            seen[name].append(studio.sees(video, colour=target))
            borders[name].append(border_step(video, mask) / border_step(scene.video, mask))
    peer, num = "a plain video pasted in", len(levels)
    what = f"inpainted objects of {num} that the probe sees in the new colour"
    border = f"step across the border of an inpainted region over the given video's, median of {num}"
    return {
        "inpaint outside": Measurement(
            what=f"farthest pixel outside the region of {num} inpaintings from the given video",
            ours=max(levels), unit="levels", goal="0", holds=not max(levels),
        ),
        "inpaint inside": at_least_share(what, seen["ours"], seen["pasted"], peer),
        "inpaint border": at_most(border, median(borders["ours"]), BORDER_LIMIT, median(borders["pasted"]), peer, "x"),
    }  # fmt: skip


def box_around(scene: Scene) -> np.ndarray:
    """The box that holds the scene's colour in any of its frames, a cell wider: bool `T H W`, in every frame alike."""
    shown = np.any([colour_mask(frame, scene.colour, HUES) for frame in scene.video], axis=0)
    rows, columns = np.nonzero(shown)
    mask = np.zeros(scene.video.shape[:3], dtype=bool)
    top, left = max(rows.min() - MARGIN_PX, 0), max(columns.min() - MARGIN_PX, 0)
    mask[:, top : rows.max() + MARGIN_PX + 1, left : columns.max() + MARGIN_PX + 1] = True
    return mask


def images(studio: Studio) -> dict[str, Measurement]:
    """A picture of a prompt; naively, the first frame of a video of it."""
    right: list[bool] = []
    right_naively: list[bool] = []
    num_frames, height, width = studio.shape
    for seed, scene in enumerate(studio.scenes[:NUM_READ]):
        looks = {name: scene.attributes[name] for name in LOOKS}
        made = studio.make(Image(scene.prompt, height, width), seed)
        plain = studio.make(Generate(scene.prompt, studio.shape), seed)
        right.append(studio.sees(np.repeat(made, num_frames, axis=0), **looks))
        right_naively.append(studio.sees(np.repeat(plain[:1], num_frames, axis=0), **looks))
    what = f"pictures of {len(right)} of which the probe finds {', '.join(LOOKS)} as asked"
    return {"image": at_least_share(what, right, right_naively, "the first frame of a video")}


def storyboards(studio: Studio) -> dict[str, Measurement]:
    """Two cards that differ in colour: how far the change lies from the cut, and whether all else stays itself."""
    errors: list[int] = []
    same: dict[str, list[bool]] = {"ours": [], "apart": []}
    for seed, scene in enumerate(studio.scenes[:NUM_READ]):
        target = scene.other_colour
        prompts = (scene.prompt, scene.recoloured(target))
        length, height, width = studio.shape
        video = studio.make(Storyboard(tuple(Card(prompt, length) for prompt in prompts), height, width), seed)
        apart = [studio.make(Generate(prompt, studio.shape), 2 * seed + half) for half, prompt in enumerate(prompts)]
        errors.append(abs(first_frame_of(video, scene.colour, target) - length))
        same["ours"].append(studio.agree(video[:length], video[length:], IDENTITY))
        same["apart"].append(studio.agree(apart[0], apart[1], IDENTITY))
    mine, theirs = (float(np.mean(same[name])) for name in ("ours", "apart"))
    return {
        "storyboard cut": Measurement(
            what=f"frames between a storyboard's cut and the change it asks for, median of {len(errors)} "
            f"({sum(error <= 2 for error in errors)} within 2)",
            ours=median(errors), unit="frames", goal="at most 2", holds=median(errors) <= 2,
        ),
        "storyboard identity": Measurement(
            what=f"storyboards of {len(errors)} of which the probe finds {', '.join(IDENTITY)} equal in both scenes",
            ours=round(100 * mine, 1), unit="%", peer=round(100 * theirs, 1), peer_name="scenes made apart",
            goal="at least 90 %", holds=mine >= 0.9,
        ),
    }  # fmt: skip
