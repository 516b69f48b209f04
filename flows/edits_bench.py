"""Every edit through the endpoint, on clips that the served model never saw: what is given stays, seams do not show."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from flows.bench import Measurement
from flows.bench_endpoint import Endpoint, png_of, size_of
from flows.bench_rows import at_least_share, at_most
from flows.bench_server import running_server
from flows.bench_studio import Studio
from flows.starter_run import starter_run
from flows.video_measures import (
    OUTLIER,
    distance_px,
    has_outlier,
    is_recoloured,
    largest_step_ratio,
    psnr_db,
    step_ratio,
    turns_once,
)
from model.seams import begun_where_calmest
from model.tasks import SDEDIT_STRENGTH
from training.seams import cross_fade, cross_fade_likeness, dissolve, mix_likeness

NUM_CLIPS = 12
PLAIN = "a plain video of the prompt"
OTHERWISE = {
    "slides left": "it jumps",
    "slides right": "it falls",
    "falls": "it slides to the left",
    "jumps": "it slides to the right",
}
"""A motion for each that is another."""
EXACT_DB, SEAM_LIMIT, POSITION_PX, LIKENESS_LIMIT = 40.0, 1.5, 2.0, 0.5


def edits() -> dict[str, Measurement]:
    """Extension, animation, loop, join, blend and recolouring with the starter on clips that it never saw."""
    place = starter_run()
    studio = Studio(place)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="skyloom-bench-")))
        server = stack.enter_context(running_server(folder / "run", place.pipeline, num_cpus=2.0))
        endpoint = Endpoint(server.base_url, folder)
        rows: dict[str, Measurement] = {}
        for measure in (extension, animation, characters, loops, joins, blends, recolouring, one_of_two):
            rows |= measure(studio, endpoint)
    return rows


def extension(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """8 frames carried on by 8; naively, by animating the last of them."""
    exact: list[float] = []
    plain: list[float] = []
    seams: list[float] = []
    chained: list[float] = []
    for seed, scene in enumerate(studio.sliding(NUM_CLIPS)):
        content, given = endpoint.upload(scene.video[:8])
        fields = {"prompt": scene.prompt, "seconds": "1", "seed": seed}
        made = endpoint.make("/videos/extensions", fields, video=content)
        exact.append(psnr_db(made[:8], given))
        plain.append(psnr_db(endpoint.make("/videos", fields | {"size": size_of(given)}), given))
        seams.append(step_ratio(made, 8))
        naive = endpoint.make("/videos", fields | {"size": size_of(given)}, input_reference=png_of(given[-1]))
        chained.append(step_ratio(np.concatenate([given[:-1], naive]), 8))
    return {
        "extension given": _exact("the given frames of an extension, after decoding", exact, plain, PLAIN),
        "extension seam": _seam("an extension's seam", seams, chained, "chaining from the last frame"),
    }


def animation(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """A picture that begins a video; naively, a plain video of the prompt."""
    exact: list[float] = []
    plain: list[float] = []
    for seed, scene in enumerate(studio.scenes[:NUM_CLIPS]):
        picture = scene.video[0]
        fields = {"prompt": scene.prompt, "seconds": "2", "seed": seed, "size": size_of(scene.video)}
        exact.append(psnr_db(endpoint.make("/videos", fields, input_reference=png_of(picture))[0], picture))
        plain.append(psnr_db(endpoint.make("/videos", fields)[0], picture))
    return {"animation": _exact("the first frame of an animation, after decoding", exact, plain, PLAIN)}


def characters(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """A clip kept as a character, then a new video of it doing something else; naively, the same words without it.

    The words name the new motion alone, so that the character is all that tells what is to be seen.
    """
    shown: list[bool] = []
    plain: list[bool] = []
    singles = studio.singles(NUM_CLIPS)
    for seed, scene in enumerate(singles):
        content, given = endpoint.upload(scene.video)
        character = endpoint.keep_character("it", content)
        fields = {"prompt": OTHERWISE[scene.attributes["motion"]], "seconds": "2", "seed": seed, "size": size_of(given)}
        wanted = {"colour": scene.colour, "shape": scene.attributes["shape"]}
        shown.append(studio.sees(endpoint.make("/videos", fields | {"characters": [character]}), **wanted))
        plain.append(studio.sees(endpoint.make("/videos", fields), **wanted))
    what = f"videos of {len(singles)} with a character and a new motion in which the probe sees its colour and shape"
    return {"character": at_least_share(what, shown, plain, "without the character")}


def loops(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """Loops of what can close; naively, a plain video repeated.

    A loop's file begins where its ring is calmest, so the step between its ends says little by itself: the plain video
    is turned likewise, and the largest step and the outliers are looked for all around the ring.
    """
    seams: dict[str, list[float]] = {"loop": [], "plain": []}
    largest: dict[str, list[float]] = {"loop": [], "plain": []}
    outliers = {"loop": 0, "plain": 0}
    for seed, scene in enumerate(studio.closing(NUM_CLIPS)):
        fields = {"prompt": scene.prompt, "seconds": "2", "seed": seed, "size": size_of(scene.video)}
        once = begun_where_calmest(endpoint.make("/videos", fields))
        for name, ring in (("loop", endpoint.make("/videos/loops", fields)), ("plain", once)):
            seams[name].append(step_ratio(np.concatenate([ring, ring]), len(ring)))
            largest[name].append(largest_step_ratio(np.concatenate([ring, ring[:1]])))
            outliers[name] += has_outlier(ring)
    num, peer = len(seams["loop"]), "a plain video repeated"
    what = "the ends of a loop's file, which begins where the ring is calmest (the plain one too),"
    ours, theirs = (median(ratios) for ratios in largest.values())
    return {
        "loop seam": _seam(what, seams["loop"], seams["plain"], peer),
        "loop largest": Measurement(
            what=f"the largest frame difference anywhere in the ring over its median, median of {num}",
            ours=round(ours, 3), unit="x", peer=round(theirs, 3), peer_name=peer, goal="none", holds=True,
        ),
        "loop outliers": Measurement(
            what=f"rings of {num} in which one step is more than {OUTLIER:g} times every other", ours=outliers["loop"],
            unit="", peer=outliers["plain"], peer_name=peer, goal="0", holds=not outliers["loop"],
        ),
    }  # fmt: skip


def joins(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """A second made between two parts of a clip; naively, a cross-fade."""
    exact: list[float] = []
    written: list[float] = []
    seams: list[float] = []
    faded: list[float] = []
    likeness: list[float] = []
    for seed, scene in enumerate(studio.sliding(NUM_CLIPS)):
        (first, before), (second, after) = (endpoint.upload(part) for part in (scene.video[:4], scene.video[12:]))
        fields = {"prompt": scene.prompt, "seconds": "1", "seed": seed}
        made = endpoint.make("/videos/joins", fields, video=first, second_video=second)
        exact += _ends_db(made, before, after)
        seams.append(max(step_ratio(made, 4), step_ratio(made, 12)))
        fade = np.concatenate([before, cross_fade(before, after, 8), after])
        faded.append(max(step_ratio(fade, 4), step_ratio(fade, 12)))
        written += _ends_db(endpoint.upload(fade)[1], before, after)
        likeness.append(cross_fade_likeness(made, 4, 12))
    what = "share of a join's middle that a cross-fade explains, median"
    return {
        "join ends": _exact("both ends of a join, after decoding", exact, written, "cross-fade"),
        "join seams": _seam("the worse of a join's seams", seams, faded, "cross-fade"),
        "join likeness": at_most(what, median(likeness), LIKENESS_LIMIT, 1.0, "cross-fade"),
    }


def blends(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """One video that becomes another, in one object that turns; naively, a cross-fade, which shows both at once."""
    steady: list[bool] = []
    faded: list[bool] = []
    likeness: list[float] = []
    couples = studio.couples(NUM_CLIPS)
    for seed, (one, other) in enumerate(couples):
        fields = {"prompt": one.prompt, "second_prompt": other.prompt, "seed": seed}
        (first, before), (second, after) = endpoint.upload(one.video), endpoint.upload(other.video)
        made = endpoint.make("/videos/blends", fields, video=first, second_video=second)
        steady.append(turns_once(made, one.colour, other.colour))
        faded.append(turns_once(dissolve(before, after), one.colour, other.colour))
        middle = slice(len(made) // 4, -(len(made) // 4))
        likeness.append(mix_likeness(made[middle], before[middle], after[middle]))
    what = "share of a blend's middle that a cross-fade explains, median"
    return {
        "blend": at_least_share(f"blends of {len(couples)} that turn one way only", steady, faded, "cross-fade"),
        "blend likeness": at_most(what, median(likeness), LIKENESS_LIMIT, 1.0, "cross-fade"),
    }


def recolouring(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """An object's colour changed by prompt, where it is kept; naively, a plain video of the new prompt.

    Under whole captions, and under a few words that leave motion, size, floor and camera for the video to say.
    """
    seen: dict[str, list[bool]] = {"whole": [], "few": [], "plain": []}
    moved: dict[str, list[float]] = {"whole": [], "few": [], "plain": []}
    singles = studio.singles(NUM_CLIPS)
    for seed, scene in enumerate(singles):
        target, shape = scene.other_colour, scene.attributes["shape"]
        content, given = endpoint.upload(scene.video)
        whole = {"prompt": scene.recoloured(target), "seed": seed}
        few = {"prompt": f"a {target} {shape}", "source_prompt": f"a {scene.colour} {shape}", "seed": seed}
        made = {
            "whole": endpoint.make("/videos/edits", whole | {"source_prompt": scene.prompt}, video=content),
            "few": endpoint.make("/videos/edits", few, video=content),
            "plain": endpoint.make("/videos", whole | {"seconds": "2", "size": size_of(given)}),
        }
        for name, video in made.items():
            seen[name].append(studio.sees(video, colour=target))
            moved[name].append(distance_px(given, video, scene.colour, target))
    peer, rows = "a plain video of the new prompt", dict[str, Measurement]()
    for name, row, how in (("whole", "recolour", ""), ("few", "recolour few words", ", asked in three words")):
        what = f"recoloured objects of {len(singles)} that the probe sees so{how}"
        where = f"how far the recoloured object lies from where it was, median{how}"
        rows[row] = at_least_share(what, seen[name], seen["plain"], peer)
        rows[f"{row} place"] = at_most(where, median(moved[name]), POSITION_PX, median(moved["plain"]), peer, unit="px")
    return rows


def one_of_two(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """One of two objects recoloured, the other left alone; naively, SDEdit: the video noised and made again."""
    changed: dict[str, list[bool]] = {"ours": [], "SDEdit": []}
    other: dict[str, list[float]] = {"ours": [], "SDEdit": []}
    own: dict[str, list[float]] = {"ours": [], "SDEdit": []}
    for seed, scene in enumerate(studio.pairs(NUM_CLIPS)):
        target = scene.other_colour
        content, given = endpoint.upload(scene.video)
        fields = {"prompt": scene.recoloured(target), "seed": seed}
        for name, source in (("ours", {"source_prompt": scene.prompt}), ("SDEdit", {"strength": SDEDIT_STRENGTH})):
            made = endpoint.make("/videos/edits", fields | source, video=content)
            changed[name].append(is_recoloured(given, made, scene.colour, target))
            other[name].append(distance_px(given, made, scene.second_colour, scene.second_colour))
            own[name].append(distance_px(given, made, scene.colour, target))
    kept = {name: [distance <= POSITION_PX for distance in distances] for name, distances in other.items()}
    num, where = len(changed["ours"]), "lies from where it was, median"
    rows = {}
    for row, what, shares in (
        ("recolour", f"pairs of {num} whose one object takes the new colour", changed),
        ("kept", f"pairs of {num} whose other object stays within 2 px", kept),
    ):
        rows[row] = at_least_share(what, shares["ours"], shares["SDEdit"], "SDEdit")
    for row, what, found in (("untouched", "other", other), ("place", "recoloured", own)):
        mine, naive = median(found["ours"]), median(found["SDEdit"])
        rows[row] = at_most(f"how far a pair's {what} object {where}", mine, POSITION_PX, naive, "SDEdit", unit="px")
    return {f"pair {name}": row for name, row in rows.items()}


def _ends_db(made: np.ndarray, before: np.ndarray, after: np.ndarray) -> list[float]:
    return [psnr_db(made[: len(before)], before), psnr_db(made[-len(after) :], after)]


def _exact(what: str, ours: Sequence[float], theirs: Sequence[float], peer: str) -> Measurement:
    return Measurement(
        what=f"PSNR of {what}, the worst of {len(ours)}", ours=round(min(ours), 2), unit="dB",
        peer=round(min(theirs), 2), peer_name=peer, goal=f"at least {EXACT_DB:g} dB", holds=min(ours) >= EXACT_DB,
    )  # fmt: skip


def _seam(what: str, ours: Sequence[float], theirs: Sequence[float], peer: str) -> Measurement:
    mine, within = median(ours), sum(ratio <= SEAM_LIMIT for ratio in ours)
    return Measurement(
        what=f"frame difference at {what} over the clip's median, median of {len(ours)} ({within} within the goal)",
        ours=round(mine, 3), unit="x", peer=round(median(theirs), 3), peer_name=peer,
        goal=f"at most {SEAM_LIMIT:g}x", holds=mine <= SEAM_LIMIT,
    )  # fmt: skip
