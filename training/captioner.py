"""Fits the captioner to the clips that came with captions, so that it can caption all the others."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from data.stage import StageResult
from data.workspace import Workspace
from model.captioner import FIELD_MARKS, STRUCTURE_KEYS, CaptionText, VideoCaptioner, prepare, to_marked_text
from model.errors import StageError
from model.precision import autocast
from model.weights import weights_digest
from training.augment import jitter
from training.clips import clips_digest, clips_in_order, is_held_out, kept_rows
from training.config import CaptionerTraining, CaptionField
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
    agreed = agreement(captioner.eval(), workspace, validation)
    refuse_below(config.minimum, agreed, len(validation))
    captioner.save(workspace.captioner)
    return StageResult(
        digest=weights_digest(workspace.captioner),
        outputs=list(workspace.captioner.rglob("*.safetensors")),
        took={"labelled_clips": len(training), "steps": config.schedule.num_steps},
        gave={
            "validation_clips": len(validation),
            "validation_loss": round(validation_loss(captioner, workspace, validation), 4),
            "parameters": sum(p.numel() for p in captioner.parameters()),
            **{f"same_{name}": round(share, 4) for name, share in agreed.items()},
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
    return prepare(clips_in_order(workspace, rows), side_px)


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


def agreement(captioner: VideoCaptioner, workspace: Workspace, rows: list[dict[str, Any]]) -> dict[str, float]:
    """For each field that these clips' own captions have: the share of clips of which it is written word for word."""
    if not rows:
        return {}
    own = [caption_of(row).structured for row in rows]
    written = [caption.structured for caption in captioner.caption(clips_in_order(workspace, rows))]
    shares = {}
    for name in STRUCTURE_KEYS:
        pairs = [
            (mine.get(name, ""), theirs[name]) for mine, theirs in zip(written, own, strict=True) if theirs.get(name)
        ]
        same = [mine.split() == theirs.split() for mine, theirs in pairs]
        if same:
            shares[name] = float(np.mean(same))
    return shares


def refuse_below(minimum: Mapping[CaptionField, float], agreed: Mapping[str, float], num_clips: int) -> None:
    """Stop a captioner that would teach the model wrong words: later stages see the captions alone.

    Raises:
        StageError: a field is written rightly of fewer clips than asked, or no held-out clip has it to judge by.
    """
    for name, least in minimum.items():
        if name not in agreed:
            raise StageError(
                f"the captioner cannot be judged: none of {num_clips} held-out clips has a {name} in its caption, and "
                f"captioner.minimum asks for {least:.0%}; label more clips, or take {name} out of captioner.minimum"
            )
        if agreed[name] < least:
            raise StageError(
                f"the captioner writes the {name} of {agreed[name]:.0%} of {num_clips} held-out clips as their own "
                f"captions do, captioner.minimum asks for {least:.0%}; raise captioner.schedule.num_steps, change "
                "captioner.schedule.seed, or label more clips"
            )
