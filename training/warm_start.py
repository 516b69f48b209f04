"""Weights that a training goes on from: those of another run, or those that come with Skyloom."""

from typing import Literal

from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from data.stage import Figures
from model.errors import CheckpointError, ConfigError
from model.weights import pipeline_folder, weights_digest


def load_start(network: ModelMixin, start_from: str, part: Literal["autoencoder", "transformer"]) -> None:
    """Fill `network` in place with the weights of a pipeline folder's part, in its own precision; "" changes nothing.

    Raises:
        CheckpointError: the folder has no such part.
        ConfigError: the part has another shape than the recipe asks for.
    """
    if not start_from:
        return
    folder = pipeline_folder(start_from) / part
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"start_from={start_from!r}: {folder} holds no {part}; name a pipeline folder")
    given = type(network).from_pretrained(str(folder), use_safetensors=True).state_dict()
    wanted = network.state_dict()
    others = [name for name in sorted(wanted | given) if _shape(wanted, name) != _shape(given, name)]
    if others:
        name = others[0]
        raise ConfigError(
            f"start_from={start_from!r}: {len(others)} tensors of the {part} differ from the recipe's, first {name} "
            f"({_shape(given, name)} there, {_shape(wanted, name)} here); set the recipe's sizes as they are there"
        )
    network.load_state_dict(given)


def start_digest(start_from: str, part: Literal["autoencoder", "transformer"]) -> Figures:
    """What a receipt says of the weights that a training began with; nothing where it began with none."""
    return {"began_with": weights_digest(pipeline_folder(start_from) / part)} if start_from else {}


def _shape(tensors: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
