"""Fits the captioner to the clips that came with captions, so that it can caption all the others."""

import json
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from data.stage import StageResult
from data.workspace import Workspace
from model.captioner import FIELD_MARKS, CaptionText, VideoCaptioner, prepare, to_marked_text
from model.errors import StageError
from model.precision import autocast
from model.weights import weights_digest
from training.augment import jitter
from training.clips import clips_digest, is_held_out, kept_rows, load_clips
from training.config import CaptionerTraining
from training.loop import Learner, run_schedule
from training.optim import make_optimizers, update

MINIMUM_LABELLED = 8


def train_captioner(config: CaptionerTraining, workspace: Workspace) -> StageResult:
    """Train on the labelled clips, measure on a held-out part of them, and write the captioner."""
    rows = labelled_rows(workspace)
    training = [row for row in rows if not is_held_out(row["clip_id"], config.validation_fraction)]
    validation = [row for row in rows if is_held_out(row["clip_id"], config.validation_fraction)]
    torch.manual_seed(config.schedule.seed)
    captions = [caption_of(row) for row in training]
    captioner = VideoCaptioner(
        train_tokenizer(captions, config.vocabulary),
        dim=config.dim,
        num_layers=config.num_layers,
        side_px=config.side_px,
    )
    facts = {"config": config.digest, "clips": clips_digest(training)}
    fit(captioner, config, prepared(workspace, training, config.side_px), captions, workspace, facts)
    captioner.eval().save(workspace.captioner)
    return StageResult(
        digest=weights_digest(workspace.captioner),
        outputs=list(workspace.captioner.rglob("*.safetensors")),
        took={"labelled_clips": len(training), "steps": config.schedule.num_steps},
        gave={
            "validation_clips": len(validation),
            "validation_loss": round(validation_loss(captioner, workspace, validation), 4),
            "parameters": sum(p.numel() for p in captioner.parameters()),
        },
    )


def labelled_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """Kept clips that have a caption of their own.

    Raises:
        StageError: too few to learn from.
    """
    rows = [row for row in kept_rows(workspace) if row["sidecar_dense"]]
    if len(rows) < MINIMUM_LABELLED:
        raise StageError(
            f"{len(rows)} clips have captions beside their video, {MINIMUM_LABELLED} are needed to train a captioner; "
            "add .captions.json or .txt files, or name another caption backend in the recipe"
        )
    return rows


def caption_of(row: dict[str, Any]) -> CaptionText:
    """The caption that came with a clip."""
    structured = json.loads(row["sidecar_structured"] or "{}")
    return CaptionText(row["sidecar_short"] or row["sidecar_dense"], row["sidecar_dense"], structured)


def prepared(workspace: Workspace, rows: list[dict[str, Any]], side_px: int) -> Tensor:
    """The clips as the captioner sees them, in the order of `rows`."""
    by_id: dict[str, np.ndarray] = {}
    for chosen in load_clips(workspace.root, rows).values():
        by_id |= {row["clip_id"]: frames for row, frames in zip(chosen.rows, chosen.frames, strict=True)}
    return prepare([by_id[row["clip_id"]] for row in rows], side_px)


def train_tokenizer(captions: list[CaptionText], vocabulary: int) -> PreTrainedTokenizerFast:
    """Word pieces of these captions (byte-pair merges over words), with the field marks as special tokens."""
    special = ["<pad>", "<bos>", "<eos>", "<unk>", *FIELD_MARKS.values()]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator([to_marked_text(caption) for caption in captions], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", special.index("<eos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        additional_special_tokens=list(FIELD_MARKS.values()),
    )  # fmt: skip


def fit(
    captioner: VideoCaptioner,
    config: CaptionerTraining,
    video: Tensor,
    captions: list[CaptionText],
    workspace: Workspace,
    facts: dict[str, str],
) -> None:
    """Run the schedule from the newest checkpoint on; a step depends on its number and the seed alone."""
    schedule, labels = config.schedule, captioner.tokenize(captions)
    optimizers = make_optimizers(captioner, schedule, muon_lr=config.muon_lr, weight_decay=0.01, muon_in=("stem.",))
    captioner.train()

    def take_step(step: int) -> dict[str, float]:
        torch.manual_seed(schedule.seed * 1_000_003 + step)
        pick = torch.randint(len(video), (schedule.batch_size,))
        with autocast():
            loss = captioner.loss(jitter(video[pick]), trimmed(labels[pick]))
        update(optimizers, loss, captioner, max_grad_norm=1.0)
        return {"loss": loss.item()}

    run_schedule(Learner("captioner", captioner, optimizers), schedule, workspace, facts, take_step)


def trimmed(labels: Tensor) -> Tensor:
    """Labels without the columns that are padding in every row."""
    return labels[:, : int((labels != -100).sum(dim=1).max())].contiguous()


@torch.no_grad()
def validation_loss(captioner: VideoCaptioner, workspace: Workspace, rows: list[dict[str, Any]]) -> float:
    """The mean caption loss over held-out clips, or NaN without any."""
    if not rows:
        return float("nan")
    return float(
        captioner.loss(
            prepared(workspace, rows, captioner.side_px), captioner.tokenize([caption_of(row) for row in rows])
        )
    )
