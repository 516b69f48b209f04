"""Every edit through the endpoint, on clips that the served model never saw: what is given stays, seams do not show."""

import io
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from PIL import Image

from data.video import read_frames, write_mp4
from flows.bench import Measurement
from flows.load_bench import running_server
from flows.starter_run import starter_run
from flows.task_bench import HUES, Scene, Studio, other_colour
from training.coherence import colour_mask
from training.seams import centroids, cross_fade, cross_fade_likeness

NUM_CLIPS = 12
EXACT_DB, SEAM_LIMIT, POSITION_PX = 40.0, 1.5, 2.0
FPS = 8.0


class Endpoint:
    """A running server: clips in, clips out, as files."""

    def __init__(self, url: str, folder: Path) -> None:
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._folder = folder

    def make(self, route: str, fields: dict[str, Any], **files: bytes) -> np.ndarray:
        """The frames of the video that a route makes of these fields and files.

        Raises:
            httpx.HTTPStatusError: the request was refused; RuntimeError: the job failed.
        """
        given = {name: (name, content) for name, content in files.items()}
        body: dict[str, Any] = {"data": fields, "files": given} if given else {"json": fields}
        made = self._checked(self._client.post(route, **body))
        while made["status"] not in ("completed", "failed"):
            time.sleep(0.1)
            made = self._checked(self._client.get(f"/videos/{made['id']}"))
        if made["status"] == "failed":
            raise RuntimeError(f"{route} failed: {made['error']}")
        path = self._folder / "got.mp4"
        path.write_bytes(self._client.get(f"/videos/{made['id']}/content").content)
        return read_frames(path)

    def upload(self, frames: np.ndarray) -> tuple[bytes, np.ndarray]:
        """A clip as a file, and the frames that the file holds."""
        path = self._folder / "given.mp4"
        write_mp4(path, frames, FPS)
        return path.read_bytes(), read_frames(path)

    @staticmethod
    def _checked(reply: httpx.Response) -> dict[str, Any]:
        reply.raise_for_status()
        return reply.json()


def edits() -> dict[str, Measurement]:
    """Extension, animation, loop, join, blend and recolouring with the starter on clips that it never saw."""
    place = starter_run()
    studio = Studio(place)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="skyloom-bench-")))
        server = stack.enter_context(running_server(folder / "run", place.pipeline, num_cpus=2.0))
        endpoint = Endpoint(server.base_url, folder)
        rows: dict[str, Measurement] = {}
        for measure in (extension, animation, loops, joins, blends, recolouring):
            rows |= measure(studio, endpoint)
    return rows


def extension(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """8 frames carried on by 8; naively, by animating the last of them."""
    exact: list[float] = []
    seams: list[float] = []
    chained: list[float] = []
    for seed, scene in enumerate(studio.sliding()[:NUM_CLIPS]):
        content, given = endpoint.upload(scene.video[:8])
        fields = {"prompt": scene.prompt, "seconds": "1", "seed": seed}
        made = endpoint.make("/videos/extensions", fields, video=content)
        exact.append(psnr_db(made[:8], given))
        seams.append(step_ratio(made, 8))
        naive = endpoint.make("/videos", fields | {"size": size_of(given)}, input_reference=png_of(given[-1]))
        chained.append(step_ratio(np.concatenate([given[:-1], naive]), 8))
    return {
        "extension given": _exact("the given frames of an extension, after decoding", exact),
        "extension seam": _seam("an extension's seam", seams, chained, "chaining from the last frame"),
    }


def animation(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """A picture that begins a video."""
    exact = []
    for seed, scene in enumerate(studio.scenes[:NUM_CLIPS]):
        picture = scene.video[0]
        fields = {"prompt": scene.prompt, "seconds": "2", "seed": seed, "size": size_of(scene.video)}
        exact.append(psnr_db(endpoint.make("/videos", fields, input_reference=png_of(picture))[0], picture))
    return {"animation": _exact("the first frame of an animation, after decoding", exact)}


def loops(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """Loops of what can close, played three times; naively, a plain video repeated."""
    seams: list[float] = []
    plain: list[float] = []
    outliers = 0
    for seed, scene in enumerate([scene for scene in studio.scenes if scene.can_close][:NUM_CLIPS]):
        fields = {"prompt": scene.prompt, "seconds": "2", "seed": seed, "size": size_of(scene.video)}
        made = endpoint.make("/videos/loops", fields)
        seams.append(step_ratio(np.concatenate([made, made]), len(made)))
        once = endpoint.make("/videos", fields)
        plain.append(step_ratio(np.concatenate([once, once]), len(once)))
        outliers += has_outlier(np.concatenate([made, made, made]))
    return {
        "loop seam": _seam("a loop's seam", seams, plain, "a plain video repeated"),
        "loop outliers": Measurement(
            what=f"loops of {len(seams)} with an outlier among the frames when played three times", ours=outliers,
            unit="", goal="none", holds=not outliers,
        ),
    }  # fmt: skip


def joins(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """A second made between two parts of a clip; naively, a cross-fade."""
    exact: list[float] = []
    seams: list[float] = []
    faded: list[float] = []
    likeness: list[float] = []
    for seed, scene in enumerate(studio.sliding()[:NUM_CLIPS]):
        (first, before), (second, after) = (endpoint.upload(part) for part in (scene.video[:4], scene.video[12:]))
        fields = {"prompt": scene.prompt, "seconds": "1", "seed": seed}
        made = endpoint.make("/videos/joins", fields, video=first, second_video=second)
        exact += [psnr_db(made[:4], before), psnr_db(made[12:], after)]
        seams.append(max(step_ratio(made, 4), step_ratio(made, 12)))
        fade = np.concatenate([before, cross_fade(before, after, 8), after])
        faded.append(max(step_ratio(fade, 4), step_ratio(fade, 12)))
        likeness.append(cross_fade_likeness(made, 4, 12))
    share = median(likeness)
    return {
        "join ends": _exact("both ends of a join, after decoding", exact),
        "join seams": _seam("the worse of a join's seams", seams, faded, "cross-fade"),
        "join likeness": Measurement(
            what="share of a join's middle that a cross-fade explains, median", ours=round(share, 3), unit="",
            goal="at most 0.5", holds=share <= 0.5,
        ),
    }  # fmt: skip


def blends(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """One video that becomes another: how often the second's colour only ever gains on the first's."""
    pairs = [
        (one, other)
        for one, other in zip(studio.scenes, studio.scenes[1:], strict=False)
        if one.attributes["colour"] != other.attributes["colour"]
    ][:NUM_CLIPS]
    steady = 0
    for seed, (one, other) in enumerate(pairs):
        fields = {"prompt": one.prompt, "second_prompt": other.prompt, "seed": seed}
        (first, _), (second, _) = endpoint.upload(one.video), endpoint.upload(other.video)
        made = endpoint.make("/videos/blends", fields, video=first, second_video=second)
        share = colour_share(made, one.attributes["colour"], other.attributes["colour"])
        smooth = np.convolve(share, np.ones(4) / 4, mode="valid")
        steady += bool((np.diff(smooth) > -0.1).all() and share[0] < 0.5 < share[-1])
    return {
        "blend": _share(f"blends of {len(pairs)} that turn one way only", steady / len(pairs)),
    }


def recolouring(studio: Studio, endpoint: Endpoint) -> dict[str, Measurement]:
    """An object's colour changed by prompt, where it is kept; naively, a plain video of the new prompt."""
    seen: list[bool] = []
    moved: list[float] = []
    moved_naively: list[float] = []
    singles = [scene for scene in studio.scenes if scene.attributes.get("count", "one") == "one"][:NUM_CLIPS]
    for seed, scene in enumerate(singles):
        target = other_colour(scene)
        content, given = endpoint.upload(scene.video)
        fields = {"prompt": scene.recoloured(target), "seed": seed}
        made = endpoint.make("/videos/edits", fields | {"source_prompt": scene.prompt}, video=content)
        plain = endpoint.make("/videos", fields | {"seconds": "2", "size": size_of(given)})
        seen.append(studio.probe.read([made])[0]["colour"] == target)
        moved.append(distance_px(scene, given, made, target))
        moved_naively.append(distance_px(scene, given, plain, target))
    mine, theirs = float(np.nanmedian(moved)), float(np.nanmedian(moved_naively))
    return {
        "recolour": _share(f"recoloured objects of {len(seen)} that the probe sees so", float(np.mean(seen))),
        "recolour place": Measurement(
            what="how far the recoloured object lies from where it was, median", ours=round(mine, 2), unit="px",
            peer=round(theirs, 2), peer_name="a plain video of the new prompt", goal=f"at most {POSITION_PX:g} px",
            holds=mine <= POSITION_PX,
        ),
    }  # fmt: skip


def psnr_db(made: np.ndarray, given: np.ndarray) -> float:
    """PSNR of 8-bit pictures."""
    error = np.square(made.astype(np.float64) - given).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def step_ratio(video: np.ndarray, seam: int) -> float:
    """The frame difference at a seam over the median of all others."""
    steps = np.abs(np.diff(video.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
    return float(steps[seam - 1] / max(float(np.median(np.delete(steps, seam - 1))), 1e-6))


def has_outlier(video: np.ndarray) -> bool:
    """Whether one step between frames is far larger than all those of a third of the video: a seam that shows."""
    steps = np.abs(np.diff(video.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
    third = len(video) // 3
    return bool(steps.max() > SEAM_LIMIT * steps[: third - 1].max())


def colour_share(video: np.ndarray, colour: str, target: str) -> np.ndarray:
    """The share of the target colour in what shows either colour, by frame."""
    areas = np.array([[colour_mask(frame, name, HUES).sum() for name in (colour, target)] for frame in video])
    return areas[:, 1] / np.maximum(areas.sum(axis=1), 1)


def distance_px(scene: Scene, given: np.ndarray, made: np.ndarray, target: str) -> float:
    """The median distance over time between the object in the given clip and, in its new colour, in the made one."""
    before, after = centroids(given, scene.attributes["colour"], HUES), centroids(made, target, HUES)
    return float(np.nanmedian(np.linalg.norm(after - before, axis=1)))


def png_of(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    return content.getvalue()


def size_of(video: np.ndarray) -> str:
    """As the wire has it."""
    return f"{video.shape[2]}x{video.shape[1]}"


def _exact(what: str, values: Sequence[float]) -> Measurement:
    return Measurement(
        what=f"PSNR of {what}, the worst of {len(values)}", ours=round(min(values), 2), unit="dB",
        goal=f"at least {EXACT_DB:g} dB", holds=min(values) >= EXACT_DB,
    )  # fmt: skip


def _seam(what: str, ours: Sequence[float], theirs: Sequence[float], peer: str) -> Measurement:
    mine = median(ours)
    return Measurement(
        what=f"frame difference at {what} over the clip's median, median of {len(ours)}", ours=round(mine, 3), unit="x",
        peer=round(median(theirs), 3), peer_name=peer, goal=f"at most {SEAM_LIMIT:g}x", holds=mine <= SEAM_LIMIT,
    )  # fmt: skip


def _share(what: str, ours: float, goal: float = 0.8) -> Measurement:
    return Measurement(
        what=what, ours=round(100 * ours, 1), unit="%", goal=f"at least {100 * goal:.0f} %", holds=ours >= goal
    )
