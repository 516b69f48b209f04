"""Judges drawn videos by the world's truth: what a probe reads in them, and whether their objects hold together.

Each figure stands beside what bounds it: real clips, real clips through the autoencoder (the ceiling), the same videos
held against shuffled prompts (the floor), and chance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from data.workspace import Workspace
from data.worlds.palette import COLOURS_RGB
from model.captioner import prepare
from model.errors import StageError
from model.pipeline import SkyloomPipeline
from model.pixels import to_frames, to_video
from model.precision import autocast
from training.clips import clips_in_order, is_held_out
from training.coherence import one_object_share, outline_change, palette_hues
from training.config import EvaluationConfig
from training.frechet import frechet_distance, principal_axes
from training.probe import Attributes, Lesson, Probe, accuracy, fit_probe
from training.truth import shown_values

VALIDATION_FRACTION = 0.1
DECODED_EVERY = 3
OUTLINE_LIMIT, FRECHET_LIMIT = 1.2, 2.0
FEWEST_FOR_SPREAD = 8
"""Clips below which a covariance says nothing."""
HUES = palette_hues(COLOURS_RGB)


class Drawn(NamedTuple):
    """Videos and what each was asked to show."""

    videos: Sequence[np.ndarray]
    asked: Sequence[Attributes]


class Judge:
    """A probe fitted to real clips, and the real clips that it has not seen."""

    def __init__(
        self,
        config: EvaluationConfig,
        workspace: Workspace,
        pipeline: SkyloomPipeline,
        rows: list[dict[str, Any]],
        truth: dict[str, dict[str, str]],
    ) -> None:
        self._config, self._values = config, shown_values(truth)
        fitting = [row for row in rows if not is_held_out(row["clip_id"], VALIDATION_FRACTION)]
        testing = [row for row in rows if is_held_out(row["clip_id"], VALIDATION_FRACTION)]
        if not testing:
            raise StageError(f"none of {len(rows)} clips is held out to judge by; make more clips, or no evaluation")
        torch.manual_seed(config.seed)
        self.probe = Probe(self._values, side_px=config.side_px)
        lessons = real_and_decoded(workspace, pipeline, fitting, truth, config.side_px)
        fit_probe(self.probe, lessons, config.probe, workspace.logs / "probe.jsonl")
        self.probe.save(workspace.evaluation / "probe.safetensors")
        clips = clips_in_order(workspace, testing)
        self.real = Drawn(clips, [truth[row["clip_id"]] for row in testing])
        self.decoded = Drawn(through_autoencoder(pipeline, clips), self.real.asked)

    def adherence(self, drawn: Drawn) -> dict[str, dict[str, Any]]:
        """Per attribute, and for `all` together: the share that the probe finds as asked, and what bounds it."""
        seen = self.probe.read(drawn.videos)
        order = np.random.default_rng(self._config.seed).permutation(len(drawn.asked))
        found = self._accuracy(seen, drawn.asked)
        real, ceiling = (self._accuracy(self.probe.read(d.videos), d.asked) for d in (self.real, self.decoded))
        floor = self._accuracy(seen, [drawn.asked[place] for place in order])
        return {
            name: {
                "generated": value,
                "interval": wilson_interval(value, len(seen)),
                "real": real[name],
                "ceiling": ceiling[name],
                "floor": floor[name],
                "chance": self.chance(name),
                "goal": self._config.goals.get(name),
            }
            for name, value in found.items()
        }

    def _accuracy(self, seen: Sequence[Attributes], asked: Sequence[Attributes]) -> dict[str, float]:
        return accuracy(seen, [{name: attributes[name] for name in self._values} for attributes in asked])

    def chance(self, name: str) -> float:
        """The accuracy of a blind guess at an attribute, or at `all` of them."""
        if name == "all":
            return math.prod(1 / len(values) for values in self._values.values())
        return 1 / len(self._values[name])

    def looks(self, drawn: Drawn) -> dict[str, dict[str, Any]]:
        """What attributes flatter: one patch per object, a steady outline, features that lie as those of real clips."""
        outlines = [mean_outline_change(each) for each in (drawn, self.real, self.decoded)]
        found = {
            "coherence": {
                "generated": alone_share(drawn),
                "real": alone_share(self.real),
                "goal": self._config.coherence_goal,
            },
            "outline": {"generated": outlines[0], "real": outlines[1], "ceiling": outlines[2], "limit": OUTLINE_LIMIT},
        }
        num = min(len(drawn.videos), len(self.real.videos) // 2)
        return found | ({"frechet": self._frechet(drawn, num)} if num >= FEWEST_FOR_SPREAD else {})

    def _frechet(self, drawn: Drawn, num: int) -> dict[str, Any]:
        """The distance of `num` videos from as many real clips, beside that of other real clips from these."""
        features = self.probe.describe(self.real.videos[: 2 * num])
        axes = principal_axes(features)
        real, other, made = features[:num] @ axes, features[num:] @ axes, self.probe.describe(drawn.videos[:num]) @ axes
        return {
            "generated": frechet_distance(made, real),
            "real": frechet_distance(other, real),
            "num": num,
            "limit": FRECHET_LIMIT,
        }


def alone_share(drawn: Drawn) -> float:
    """The share of the frames of single objects that show exactly one patch of the asked colour."""
    alone = [place for place, attributes in enumerate(drawn.asked) if attributes["count"] == "one"]
    colours = [drawn.asked[place]["colour"] for place in alone]
    return one_object_share([drawn.videos[place] for place in alone], colours, HUES)


def mean_outline_change(drawn: Drawn) -> float:
    """How much outlines change from frame to frame, mean over videos."""
    pairs = zip(drawn.videos, drawn.asked, strict=True)
    return float(np.nanmean([outline_change(video, attributes["colour"], HUES) for video, attributes in pairs]))


def wilson_interval(share: float, num: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `num` trials (Wilson, 1927)."""
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def real_and_decoded(
    workspace: Workspace,
    pipeline: SkyloomPipeline,
    rows: list[dict[str, Any]],
    truth: Mapping[str, Attributes],
    side_px: int,
) -> list[Lesson]:
    """What the probe learns from: the clips as they are, and every third of them through the autoencoder."""
    clips = clips_in_order(workspace, rows)
    shown = [truth[row["clip_id"]] for row in rows]
    decoded = through_autoencoder(pipeline, clips[::DECODED_EVERY])
    return [Lesson(prepare(clips, side_px), shown), Lesson(prepare(decoded, side_px), shown[::DECODED_EVERY])]


@torch.no_grad()
def through_autoencoder(
    pipeline: SkyloomPipeline, clips: Sequence[np.ndarray], batch_size: int = 32
) -> list[np.ndarray]:
    """Clips `T H W C` encoded and decoded again, in order; those of one size pass together."""
    through: dict[int, np.ndarray] = {}
    for shape in sorted({clip.shape for clip in clips}):
        places = [place for place, clip in enumerate(clips) if clip.shape == shape]
        for start in range(0, len(places), batch_size):
            chosen = places[start : start + batch_size]
            with autocast():
                latents = pipeline.autoencoder.encode(to_video([clips[place] for place in chosen])).mean
                through |= dict(zip(chosen, to_frames(pipeline.autoencoder.decode(latents)), strict=True))
    return [through[place] for place in range(len(clips))]
