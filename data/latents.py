"""Latents and prompt states as safetensors members; the header says what made them, and a reader checks."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from model.errors import ShardError

LATENT_GROUP = "latent"
PROMPT_GROUP = "prompt"
LATENT_SUFFIX = "latent.safetensors"
PROMPT_SUFFIX = "prompt.safetensors"
IMAGE_VIEW = "image_"
"""Before the tensor names of a clip's middle frame as a still; those of another size have `scale_view` before them."""
_HEADER_KEY = "skyloom"
_LENGTH_BYTES = 8


def pack(tensors: Mapping[str, Tensor], header: Mapping[str, str | float | int]) -> bytes:
    """A safetensors file of bf16 tensors under one header; equal arguments give equal bytes."""
    stored = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    # One key: safetensors writes several metadata keys in an order that differs from process to process.
    return safetensors.torch.save(stored, {_HEADER_KEY: json.dumps(header, sort_keys=True)})


def scale_view(scale: float) -> str:
    """What stands before the tensor names of the clip at `scale` times its size."""
    return f"x{scale:g}_"


def scale_views(names: Iterable[str]) -> list[str]:
    """The views of other sizes among the tensor names of a member."""
    views = (name.removesuffix("mean") for name in names if name.endswith("_mean"))
    return sorted(view for view in views if view != IMAGE_VIEW)


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of one member.

    Raises:
        ShardError: the bytes are no member that `pack` made.
    """
    header = read_header(data)
    try:
        return safetensors.torch.load(data), header
    except safetensors.SafetensorError as error:
        raise ShardError(f"a member is no whole safetensors file ({error}); encode the dataset again") from error


def read_header(data: bytes) -> dict[str, Any]:
    """The header of one member, without its tensors; `shapes` in it holds each tensor's shape.

    Raises:
        ShardError: the bytes are no member that `pack` made.
    """
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        outer = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        header = json.loads(outer.pop("__metadata__")[_HEADER_KEY])
        return header | {"shapes": {name: tensor["shape"] for name, tensor in outer.items()}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"a member carries no Skyloom header ({error!r}); encode the dataset again") from error


def check_maker(header: Mapping[str, Any], role: str, digest: str) -> None:
    """Passes when the member was made by the weights that the reader uses.

    Raises:
        ShardError: other weights made it.
    """
    made_by = header.get(role)
    if made_by != digest:
        raise ShardError(
            f"this member was made by {role} {str(made_by)[:12]}, the reader has {role} {digest[:12]}; "
            "give the weights that made the dataset, or encode it again"
        )
