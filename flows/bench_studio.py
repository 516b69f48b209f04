"""What the benches of tasks and edits film: the starter's held-out clips, pairs of objects, and who judges them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from data.workspace import Workspace
from data.worlds.captions import Attributes, dense_caption
from data.worlds.pairs import pairs
from data.worlds.palette import COLOURS_RGB
from flows.starter_run import FILMS_SEED
from model.pipeline import SkyloomPipeline
from model.plan import Task
from model.runner import finish
from model.sampling_options import SamplingOptions
from model.shapes import VideoShape
from training.clips import is_held_out, kept_rows, load_clips
from training.coherence import palette_hues
from training.judge import VALIDATION_FRACTION
from training.probe import Probe
from training.truth import truth_of_clips

HUES = palette_hues(COLOURS_RGB)


@dataclass(frozen=True)
class Scene:
    """A real clip and what it shows; `second_colour` is that of an object beside the one that the caption names."""

    video: np.ndarray
    attributes: dict[str, str]
    second_colour: str = ""

    @property
    def prompt(self) -> str:
        """The dense caption of its truth."""
        return dense_caption(Attributes(**self.attributes))

    @property
    def colour(self) -> str:
        """That of the object that the caption names."""
        return self.attributes["colour"]

    @property
    def other_colour(self) -> str:
        """A colour of the palette that the scene does not show, three places on, or four."""
        place = list(HUES).index(self.colour)
        three, four = (list(HUES)[(place + step) % len(HUES)] for step in (3, 4))
        return four if three == self.second_colour else three

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
        shown = zip(chosen.rows, chosen.frames, strict=True)
        self.scenes = [Scene(video, truth[row["clip_id"]]) for row, video in shown]

    def make(self, task: Task, seed: int, options: SamplingOptions | None = None) -> np.ndarray:
        """One video."""
        return finish(self.pipeline.run(task, seeds=[seed], options=options))[0]

    def agree(self, one: np.ndarray, other: np.ndarray, names: Sequence[str]) -> bool:
        """Whether the judge finds these attributes the same in both videos."""
        seen = self.probe.read([one, other])
        return all(seen[0][name] == seen[1][name] for name in names)

    def sees(self, video: np.ndarray, **asked: str) -> bool:
        """Whether the judge finds these attributes in a video."""
        seen = self.probe.read([video])[0]
        return all(seen[name] == value for name, value in asked.items())

    def singles(self, num: int) -> list[Scene]:
        """Scenes of one object."""
        return [scene for scene in self.scenes if scene.attributes.get("count", "one") == "one"][:num]

    def sliding(self, num: int) -> list[Scene]:
        """Scenes whose object moves steadily."""
        return [scene for scene in self.scenes if scene.attributes["motion"].startswith("slides")][:num]

    def closing(self, num: int) -> list[Scene]:
        """Scenes that can be loops."""
        return [scene for scene in self.scenes if scene.can_close][:num]

    def couples(self, num: int) -> list[tuple[Scene, Scene]]:
        """Neighbours of different colour: what one video turns into."""
        neighbours = zip(self.scenes, self.scenes[1:], strict=False)
        return [(one, other) for one, other in neighbours if one.colour != other.colour][:num]

    def pairs(self, num: int) -> list[Scene]:
        """Scenes of two objects that differ in colour, whose captions name the first alone."""
        num_frames, side_px, _ = self.shape
        filmed = pairs(num, FILMS_SEED, num_frames=num_frames, side_px=side_px, fps=round(self.pipeline.fps))
        return [Scene(pair.video, asdict(replace(pair.attributes, count="one")), pair.second_colour) for pair in filmed]
