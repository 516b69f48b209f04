"""A small video captioner, trained from scratch on the labelled part of a dataset and run over all of it.

Convolutions over stacked frames feed a BART encoder-decoder of transformers, which writes one sequence of marked
fields: the dense caption, the short one, then the structure. Source: the recaptioning recipe of DALL-E 3 and Sora.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from model.autoencoder_blocks import ResidualBlock
from model.errors import CheckpointError
from model.pixels import to_video
from model.precision import autocast

STRUCTURE_KEYS = ("subject", "action", "camera", "style", "text")
DENSE, SHORT = "<dense>", "<short>"
FIELD_MARKS = {"dense": DENSE, "short": SHORT} | {key: f"<{key}>" for key in STRUCTURE_KEYS}
NUM_FRAMES, SIDE_PX = 6, 64
OCCURRENCE_WEIGHT = 0.1
STEM_FILE, NETWORK_FOLDER = "stem.safetensors", "text"


class CaptionText(NamedTuple):
    """One clip's caption in its short, dense and structured forms."""

    short: str
    dense: str
    structured: dict[str, str]


class ClipStem(nn.Module):
    """Convolutions that see each frame for itself, then all frames of a place together: 8 x 8 tokens.

    The first part tells shapes, the second motion; stacking frames from the start loses shapes (decision 0004).
    """

    def __init__(self, dim: int, num_frames: int = NUM_FRAMES) -> None:
        super().__init__()
        fine = max(16, dim // 4)
        self.frame = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, 64, 3, padding=1), nn.SiLU(),
            nn.Conv2d(64, fine, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.clip = nn.Sequential(
            nn.Conv2d(num_frames * fine, dim, 1), nn.PixelUnshuffle(2), nn.Conv2d(4 * dim, dim, 1),
            ResidualBlock(dim), ResidualBlock(dim),
        )  # fmt: skip

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b n dim"]:
        """One token per 8 x 8 pixels of a clip prepared by `prepare`."""
        frames = rearrange(video, "b c t h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        stacked = rearrange(self.frame(frames), "(b t) c h w -> b (t c) h w", b=len(video))
        return rearrange(self.clip(stacked), "b c h w -> b (h w) c")


def prepare(clips: Sequence[np.ndarray], side_px: int = SIDE_PX) -> Float[Tensor, "b 3 t h w"]:
    """Clips of any size and length, uint8 `T H W C`, as `NUM_FRAMES` even frames of `side_px` squared in [-1, 1]."""
    return to_video([_resized(clip, side_px) for clip in clips])


def _resized(clip: np.ndarray, side_px: int) -> np.ndarray:
    picked = clip[np.linspace(0, len(clip) - 1, NUM_FRAMES).round().astype(int)]
    return np.stack([cv2.resize(frame, (side_px, side_px), interpolation=cv2.INTER_AREA) for frame in picked])


class VideoCaptioner(nn.Module):
    """Clips to captions. `from_pretrained` loads the folder that `save` wrote."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, dim: int = 128, num_layers: int = 2, side_px: int = SIDE_PX
    ) -> None:
        super().__init__()
        self.tokenizer, self.side_px = tokenizer, side_px
        self.stem = ClipStem(dim)
        self.network = BartForConditionalGeneration(_bart_config(tokenizer, dim, num_layers, side_px))
        # The fused kernel's backward is slow on CPU for rows this short (decision 0003).
        self.network.set_attn_implementation("eager")
        self.words = nn.Linear(2 * dim, len(tokenizer))  # for training alone: not saved

    def loss(self, video: Float[Tensor, "b 3 t h w"], labels: Int[Tensor, "b l"]) -> Float[Tensor, ""]:
        """The mean cross-entropy of the caption tokens, and of which tokens occur; labels of -100 do not count.

        The second part tells the stem at once what there is to see, before the decoder has learned to look: it
        lifts the rarest distinction (decision 0008).
        """
        features = self.stem(video)
        return self.network(inputs_embeds=features, labels=labels).loss + self._occurrence_loss(features, labels)

    def _occurrence_loss(self, features: Float[Tensor, "b n dim"], labels: Int[Tensor, "b l"]) -> Float[Tensor, ""]:
        logits = self.words(torch.cat([features.mean(dim=1), features.amax(dim=1)], dim=1)).float()
        padding = self.tokenizer.get_vocab()["<pad>"]
        occurs = torch.zeros_like(logits).scatter_(1, labels.where(labels >= 0, padding), 1.0)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, occurs, reduction="none")
        return OCCURRENCE_WEIGHT * loss.sum(dim=1).mean()

    def tokenize(self, captions: Sequence[CaptionText]) -> Int[Tensor, "b l"]:
        """Labels for `loss`: the marked fields of each caption, padded with -100."""
        batch = self.tokenizer([to_marked_text(caption) for caption in captions], padding=True, return_tensors="pt")
        return batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    @torch.no_grad()
    def caption(self, videos: Sequence[np.ndarray], *, batch_size: int = 512) -> list[CaptionText]:
        """One caption per clip (uint8 `T H W C`), in order, by greedy decoding."""
        written: list[CaptionText] = []
        network = cast(Any, self.network)  # transformers' own types do not bind `generate`
        for start in range(0, len(videos), batch_size):
            with autocast():
                tokens = self.stem(prepare(videos[start : start + batch_size], self.side_px)).float()
            ids = network.generate(
                inputs_embeds=tokens,
                max_new_tokens=120,
                do_sample=False,
                num_beams=1,
                attention_mask=torch.ones(tokens.shape[:2]),
            )
            written += [from_marked_text(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=False)]
        return written

    def save(self, folder: Path) -> None:
        """Write tokenizer, stem and network as safetensors and JSON."""
        from_stem = {name: value.contiguous() for name, value in self.stem.state_dict().items()}
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save_pretrained(str(folder / NETWORK_FOLDER))
        self.tokenizer.save_pretrained(str(folder / NETWORK_FOLDER))
        save_file(from_stem, folder / STEM_FILE)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """The captioner of a folder.

        Raises:
            CheckpointError: the folder holds no trained captioner.
        """
        if not (folder / STEM_FILE).is_file():
            raise CheckpointError(f"{folder} holds no captioner; run `skyloom captioner` or caption by another backend")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder / NETWORK_FOLDER))
        config = json.loads((folder / NETWORK_FOLDER / "config.json").read_text())
        captioner = cls(
            tokenizer,
            dim=config["d_model"],
            num_layers=config["encoder_layers"],
            side_px=config.get("side_px", SIDE_PX),
        )
        captioner.network = BartForConditionalGeneration.from_pretrained(
            str(folder / NETWORK_FOLDER), use_safetensors=True
        )
        try:
            captioner.stem.load_state_dict(load_file(folder / STEM_FILE))
        except RuntimeError as error:
            raise CheckpointError(
                f"{folder} holds a captioner of another version of Skyloom; train it again with `skyloom captioner`"
            ) from error
        return captioner.eval()


def _bart_config(tokenizer: PreTrainedTokenizerFast, dim: int, num_layers: int, side_px: int) -> BartConfig:
    ids = {mark: tokenizer.get_vocab()[mark] for mark in ("<pad>", "<bos>", "<eos>")}
    config = BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=256, d_model=dim, dropout=0.0,
        encoder_layers=num_layers, encoder_ffn_dim=2 * dim, encoder_attention_heads=4,
        decoder_layers=num_layers, decoder_ffn_dim=2 * dim, decoder_attention_heads=4,
        pad_token_id=ids["<pad>"], bos_token_id=ids["<bos>"], eos_token_id=ids["<eos>"],
        decoder_start_token_id=ids["<bos>"], forced_eos_token_id=None,
    )  # fmt: skip
    config.update({"side_px": side_px})  # kept with the weights
    return config


def to_marked_text(caption: CaptionText) -> str:
    """A caption as one text with a mark before each field."""
    fields = {"dense": caption.dense, "short": caption.short} | {
        key: caption.structured[key] for key in STRUCTURE_KEYS if caption.structured.get(key)
    }
    return " ".join(f"{FIELD_MARKS[name]} {text.strip()}" for name, text in fields.items())


def from_marked_text(text: str) -> CaptionText:
    """The caption that a marked text spells; fields that are missing are empty."""
    for mark in ("<pad>", "<bos>", "<eos>"):
        text = text.replace(mark, " ")
    fields: dict[str, str] = {}
    for name, mark in FIELD_MARKS.items():
        _, found, rest = text.partition(mark)
        if found:
            fields[name] = " ".join(rest.split("<", 1)[0].split())
    dense, short = fields.pop("dense", ""), fields.pop("short", "")
    return CaptionText(short or dense, dense or short, fields)
