"""What the trained model can do, measured: adherence to prompts, one-object coherence, and samples to look at."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import replacing
from data.catalog import read_table
from data.stage import Figures, StageResult
from data.video import read_frames, write_mp4
from data.workspace import Workspace
from data.worlds.captions import Attributes, heldout_prompts
from model.config import digest_of
from model.pipeline import SkyloomPipeline
from model.runner import finish
from model.shapes import VideoShape
from model.weights import STARTER, has_starter
from training.clips import kept_rows
from training.config import EvaluationConfig
from training.judge import Drawn, Judge
from training.probe import Attributes as Shown
from training.sheet import Row, write_sheet
from training.tracking import RUN_FILE, log_metrics, open_client
from training.truth import largest_count, shown_values, truth_of_clips


@dataclass(frozen=True)
class Asked:
    """Prompts to draw, with their seeds and buckets; `attributes` is empty where no truth is known."""

    prompts: list[str]
    attributes: list[Shown]
    buckets: list[str]


def evaluate(config: EvaluationConfig, workspace: Workspace) -> StageResult:
    """Draw prompts with the trained pipeline, judge them where the world's truth is known, and keep samples."""
    rows = kept_rows(workspace)
    pipeline = SkyloomPipeline.from_pretrained(workspace.pipeline)
    truth = truth_of_clips(workspace, rows)
    asked = ask_world(config, pipeline, largest_count(truth)) if truth else ask_captions(config, workspace, rows)
    drawn = draw(pipeline, asked, config.seed)
    results: dict[str, Any] = {"num_prompts": len(drawn), "adherence": {}, "captions": {}}
    if truth and drawn:
        known = [row for row in rows if row["clip_id"] in truth]
        judge = Judge(config, workspace, pipeline, known, truth)
        made = Drawn(drawn, asked.attributes)
        results |= {"adherence": judge.adherence(made), "captions": caption_accuracy(workspace, truth)}
        results |= judge.looks(made)
    results["samples"] = write_samples(config, workspace, pipeline, rows, truth, asked, drawn)
    path = workspace.evaluation / "results.json"
    with replacing(path) as partial:
        partial.write_text(json.dumps(results, indent=2))
    figures = headline(results)
    log_to_mlflow(workspace, figures)
    return StageResult(
        digest=digest_of(results), outputs=[path], took={"prompts": len(drawn), "known_clips": len(truth)}, gave=figures
    )


def ask_world(config: EvaluationConfig, pipeline: SkyloomPipeline, max_count: int) -> Asked:
    """Prompts whose combination of attributes no film shows, over the trained buckets in turn."""
    pairs = heldout_prompts(config.num_prompts, config.seed, max_count)
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


def caption_accuracy(workspace: Workspace, truth: dict[str, dict[str, str]]) -> dict[str, float]:
    """How often the dense captions that the captioner wrote name each true attribute; none where none were written."""
    if not (workspace.catalog / "captions.parquet").is_file():
        return {}
    written = [row for row in read_table(workspace.catalog / "captions.parquet") if row["origin"] == "captioner"]
    pairs = [(row["dense"], truth[row["clip_id"]]) for row in written if row["clip_id"] in truth]
    if not pairs:
        return {}
    return {
        name: float(np.mean([says(dense, named(name, Attributes(**shown))) for dense, shown in pairs]))
        for name in shown_values(truth)
    }


def says(caption: str, words: str) -> bool:
    """Whether a caption has these words, whole: checkered says nothing of red."""
    return re.search(rf"\b{re.escape(words)}\b", caption) is not None


def named(name: str, attributes: Attributes) -> str:
    """The words by which a dense caption says one attribute."""
    if name == "motion":
        return attributes.action
    if name == "count" and attributes.count == "one":
        return f"a {attributes.size}"
    return str(getattr(attributes, name))


def write_samples(
    config: EvaluationConfig,
    workspace: Workspace,
    pipeline: SkyloomPipeline,
    rows: list[dict[str, Any]],
    truth: dict[str, dict[str, str]],
    asked: Asked,
    drawn: list[np.ndarray],
) -> list[dict[str, str]]:
    """Videos of the first prompts, each beside the real clip that is most like what was asked; and a sheet of all."""
    folder = workspace.evaluation / "samples"
    samples: list[dict[str, str]] = []
    sheet: list[Row] = []
    for place in range(min(config.num_samples, len(drawn))):
        path = folder / f"{place:02d}.mp4"
        write_mp4(path, drawn[place], pipeline.fps)
        real = nearest_real(rows, truth, asked, place)
        samples.append({"prompt": asked.prompts[place], "video": str(path.relative_to(workspace.root)), "real": real})
        sheet.append(Row(asked.prompts[place], drawn[place], read_frames(workspace.root / real)))
    if sheet:
        write_sheet(folder / "sheet.jpg", sheet)
    if truth:
        beside_starter(config, workspace, samples)
    return samples


def beside_starter(config: EvaluationConfig, workspace: Workspace, samples: list[dict[str, str]]) -> None:
    """What the weights that come with Skyloom make of the first prompts, put to the samples, where there are any."""
    if not has_starter() or not config.num_starter_samples:
        return
    starter = SkyloomPipeline.from_pretrained(STARTER)
    shape = VideoShape.parse(starter.facts.trained_buckets[0])
    chosen = samples[: config.num_starter_samples]
    prompts = [sample["prompt"] for sample in chosen]
    videos = finish(starter.generate(prompts, shape, seeds=[config.seed + place for place in range(len(chosen))]))
    for place, (sample, video) in enumerate(zip(chosen, videos, strict=True)):
        path = workspace.evaluation / "samples" / f"{place:02d}-starter.mp4"
        write_mp4(path, video, starter.fps)
        sample["starter"] = str(path.relative_to(workspace.root))


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
    for name in ("coherence", "outline", "frechet"):
        if name in results:
            figures |= {
                name: round(results[name]["generated"], 4),
                f"{name}_real": round(results[name]["real"], 4),
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
