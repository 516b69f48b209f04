"""What the trained model can do, measured: adherence to prompts, one-object coherence, and samples to look at."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.atomic import replacing
from data.catalog import read_table
from data.stage import Figures, StageResult
from data.video import write_mp4
from data.workspace import Workspace
from data.worlds.captions import ACTIONS, heldout_prompts
from data.worlds.palette import COLOURS_RGB
from model.captioner import prepare
from model.config import digest_of
from model.pipeline import SkyloomPipeline
from model.pixels import to_frames, to_video
from model.runner import finish
from model.shapes import VideoShape
from training.clips import ClipSet, is_held_out, kept_rows, load_clips
from training.coherence import one_object_share, palette_hues
from training.config import EvaluationConfig
from training.probe import Attributes, Lesson, Probe, accuracy, fit_probe
from training.tracking import RUN_FILE, log_metrics, open_client
from training.truth import VALUES, truth_of_clips

GOALS = {"colour": 0.95, "size": 0.90, "camera": 0.90, "motion": 0.90, "shape": 0.60}
COHERENCE_GOAL = 0.75
VALIDATION_FRACTION = 0.1
DECODED_EVERY = 3


@dataclass(frozen=True)
class Asked:
    """Prompts to draw, with their seeds and buckets; `attributes` is empty where no truth is known."""

    prompts: list[str]
    attributes: list[Attributes]
    buckets: list[str]


def evaluate(config: EvaluationConfig, workspace: Workspace) -> StageResult:
    """Draw prompts with the trained pipeline, judge them where the world's truth is known, and keep samples."""
    rows = kept_rows(workspace)
    pipeline = SkyloomPipeline.from_pretrained(workspace.pipeline)
    truth = truth_of_clips(workspace, rows)
    asked = ask_world(config, pipeline) if truth else ask_captions(config, workspace, rows)
    drawn = draw(pipeline, asked, config.seed)
    results: dict[str, Any] = {"num_prompts": len(drawn), "adherence": {}, "coherence": {}, "captions": {}}
    if truth:
        results |= judge(config, workspace, pipeline, rows, truth, asked, drawn)
    results["samples"] = write_samples(config, workspace, pipeline, rows, truth, asked, drawn)
    path = workspace.evaluation / "results.json"
    with replacing(path) as partial:
        partial.write_text(json.dumps(results, indent=2))
    figures = headline(results)
    log_to_mlflow(workspace, figures)
    return StageResult(
        digest=digest_of(results), outputs=[path], took={"prompts": len(drawn), "known_clips": len(truth)}, gave=figures
    )


def ask_world(config: EvaluationConfig, pipeline: SkyloomPipeline) -> Asked:
    """Prompts whose combination of attributes no film shows, over the trained buckets in turn."""
    pairs = heldout_prompts(config.num_prompts, config.seed)
    buckets = pipeline.facts.trained_buckets
    return Asked(
        [text for text, _ in pairs], [asdict(attributes) for _, attributes in pairs], cycled(buckets, len(pairs))
    )


def ask_captions(config: EvaluationConfig, workspace: Workspace, rows: list[dict[str, Any]]) -> Asked:
    """Captions of an even pick of the clips, at those clips' own sizes: all that can be asked without a truth."""
    captions = {row["clip_id"]: row["dense"] for row in read_table(workspace.catalog / "captions.parquet")}
    pick = np.linspace(0, len(rows) - 1, min(config.num_samples, len(rows))).astype(int)
    chosen = [rows[index] for index in pick]
    return Asked([captions[row["clip_id"]] for row in chosen], [], [row["bucket"] for row in chosen])


def cycled(values: list[str], count: int) -> list[str]:
    """`count` values, in turn."""
    return [values[index % len(values)] for index in range(count)]


def draw(pipeline: SkyloomPipeline, asked: Asked, seed: int) -> list[np.ndarray]:
    """One video per prompt, in order; prompts of one bucket are drawn together."""
    videos: dict[int, np.ndarray] = {}
    for bucket in sorted(set(asked.buckets)):
        places = [place for place, name in enumerate(asked.buckets) if name == bucket]
        prompts = [asked.prompts[place] for place in places]
        drawn = finish(pipeline.generate(prompts, VideoShape.parse(bucket), seeds=[seed + place for place in places]))
        videos |= dict(zip(places, drawn, strict=True))
    return [videos[place] for place in range(len(videos))]


def judge(
    config: EvaluationConfig,
    workspace: Workspace,
    pipeline: SkyloomPipeline,
    rows: list[dict[str, Any]],
    truth: dict[str, dict[str, str]],
    asked: Asked,
    drawn: list[np.ndarray],
) -> dict[str, Any]:
    """Adherence and coherence of the drawn videos, each beside what real clips score."""
    known = [row for row in rows if row["clip_id"] in truth]
    fitting = [row for row in known if not is_held_out(row["clip_id"], VALIDATION_FRACTION)]
    testing = [row for row in known if is_held_out(row["clip_id"], VALIDATION_FRACTION)]
    torch.manual_seed(config.seed)
    probe = Probe(VALUES)
    versions = real_and_decoded(workspace, pipeline, fitting, truth)
    fit_probe(probe, versions, config.probe, workspace.logs / "probe.jsonl")
    probe.save(workspace.evaluation / "probe.safetensors")
    real_clips = clips_in_order(workspace, testing)
    real_truth = [truth[row["clip_id"]] for row in testing]
    real = accuracy(probe.read(real_clips), real_truth)
    generated = accuracy(probe.read(drawn), asked.attributes)
    hues = palette_hues(COLOURS_RGB)
    return {
        "adherence": {
            name: {"generated": value, "real": real[name], "chance": chance(name), "goal": GOALS.get(name)}
            for name, value in generated.items()
        },
        "coherence": {
            "generated": one_object_share(drawn, [attributes["colour"] for attributes in asked.attributes], hues),
            "real": one_object_share(real_clips, [attributes["colour"] for attributes in real_truth], hues),
            "goal": COHERENCE_GOAL,
        },
        "captions": caption_accuracy(workspace, truth),
    }


def chance(name: str) -> float:
    """The accuracy of a blind guess at an attribute, or at `all` of them."""
    if name == "all":
        return float(np.prod([1 / len(values) for values in VALUES.values()]))
    return 1 / len(VALUES[name])


def clips_in_order(workspace: Workspace, rows: list[dict[str, Any]]) -> list[np.ndarray]:
    """The frames of these rows, in their order."""
    by_id: dict[str, np.ndarray] = {}
    for chosen in load_clips(workspace.root, rows).values():
        by_id |= frames_by_id(chosen)
    return [by_id[row["clip_id"]] for row in rows]


def frames_by_id(chosen: ClipSet) -> dict[str, np.ndarray]:
    """The frames of a clip set by clip id."""
    return {row["clip_id"]: frames for row, frames in zip(chosen.rows, chosen.frames, strict=True)}


def real_and_decoded(
    workspace: Workspace, pipeline: SkyloomPipeline, rows: list[dict[str, Any]], truth: dict[str, dict[str, str]]
) -> list[Lesson]:
    """What the probe learns from: the clips as they are, and every third of them through the autoencoder."""
    real: dict[str, np.ndarray] = {}
    decoded: dict[str, np.ndarray] = {}
    for chosen in load_clips(workspace.root, rows).values():
        real |= frames_by_id(chosen)
        some = ClipSet(chosen.bucket, chosen.rows[::DECODED_EVERY], chosen.frames[::DECODED_EVERY])
        through = through_autoencoder(pipeline, some.frames)
        decoded |= {row["clip_id"]: clip for row, clip in zip(some.rows, through, strict=True)}
    return [
        Lesson(prepare(list(version.values())), [truth[clip_id] for clip_id in version]) for version in (real, decoded)
    ]


@torch.no_grad()
def through_autoencoder(pipeline: SkyloomPipeline, frames: np.ndarray, batch_size: int = 32) -> list[np.ndarray]:
    """Clips `N T H W C` encoded and decoded again."""
    through: list[np.ndarray] = []
    for start in range(0, len(frames), batch_size):
        batch = to_video(list(frames[start : start + batch_size]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            through += to_frames(pipeline.autoencoder.decode(pipeline.autoencoder.encode(batch).mean))
    return through


def caption_accuracy(workspace: Workspace, truth: dict[str, dict[str, str]]) -> dict[str, float]:
    """How often the dense captions that the captioner wrote name each true attribute."""
    written = [row for row in read_table(workspace.catalog / "captions.parquet") if row["origin"] == "captioner"]
    pairs = [(row["dense"], truth[row["clip_id"]]) for row in written if row["clip_id"] in truth]
    if not pairs:
        return {}
    words = {name: [attributes[name] for _, attributes in pairs] for name in VALUES}
    words["motion"] = [ACTIONS[motion] for motion in words["motion"]]
    return {
        name: float(np.mean([word in dense for word, (dense, _) in zip(said, pairs, strict=True)]))
        for name, said in words.items()
    }


def write_samples(
    config: EvaluationConfig,
    workspace: Workspace,
    pipeline: SkyloomPipeline,
    rows: list[dict[str, Any]],
    truth: dict[str, dict[str, str]],
    asked: Asked,
    drawn: list[np.ndarray],
) -> list[dict[str, str]]:
    """Videos of the first prompts, each beside the real clip that is most like what was asked."""
    folder = workspace.evaluation / "samples"
    samples = []
    for place in range(min(config.num_samples, len(drawn))):
        path = folder / f"{place:02d}.mp4"
        write_mp4(path, drawn[place], pipeline.fps)
        real = nearest_real(rows, truth, asked, place)
        samples.append({"prompt": asked.prompts[place], "video": str(path.relative_to(workspace.root)), "real": real})
    return samples


def nearest_real(rows: list[dict[str, Any]], truth: dict[str, dict[str, str]], asked: Asked, place: int) -> str:
    """The path of the clip of the same bucket that shares most attributes with a prompt (any, without truth)."""
    same = [row for row in rows if row["bucket"] == asked.buckets[place]]
    if not asked.attributes:
        return str(same[place % len(same)]["path"])
    wanted = asked.attributes[place].items()
    return str(max(same, key=lambda row: len(wanted & truth.get(row["clip_id"], {}).items()))["path"])


def headline(results: dict[str, Any]) -> Figures:
    """The figures that stand in the receipt and in MLflow, as shares from 0 to 1."""
    figures: Figures = {
        f"adherence_{name}": round(score["generated"], 4) for name, score in results["adherence"].items()
    }
    figures |= {f"probe_real_{name}": round(score["real"], 4) for name, score in results["adherence"].items()}
    if results["coherence"]:
        figures |= {
            "coherence": round(results["coherence"]["generated"], 4),
            "coherence_real": round(results["coherence"]["real"], 4),
        }
    return figures | {f"caption_{name}": round(value, 4) for name, value in results["captions"].items()}


def log_to_mlflow(workspace: Workspace, figures: Figures) -> None:
    """Add the scores and the samples to the training's MLflow run."""
    record: Path = workspace.transformer / RUN_FILE
    if not record.is_file():
        return
    client, run_id = open_client(workspace), record.read_text().strip()
    log_metrics(client, run_id, 0, record.stat().st_mtime, {name: float(value) for name, value in figures.items()})
    client.log_artifacts(run_id, str(workspace.evaluation / "samples"), artifact_path="samples")
