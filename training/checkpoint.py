"""Checkpoints that are either whole or absent: a new folder per step, a COMMITTED manifest last, no pickle.

A folder holds `state.safetensors` (every tensor of networks and optimisers by name), `facts.json`, and `COMMITTED`,
which names sizes and sha256 of both. A kill at any moment leaves at most a folder without COMMITTED, which loading
ignores.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.atomic import sync
from model.errors import CheckpointError, DiskFullError, is_disk_full
from model.weights import file_digest

log = logging.getLogger(__name__)
STATE, FACTS, COMMITTED = "state.safetensors", "facts.json", "COMMITTED"


class Checkpoint(NamedTuple):
    """What was saved after `step` finished steps."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_checkpoint(root: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any], *, keep: int = 2) -> Path:
    """Write a checkpoint after `step` finished steps and remove all but the newest `keep`.

    Raises:
        DiskFullError: there is no room for it; what it had written is gone, and the checkpoints before it are whole.
    """
    folder = root / f"step-{step:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        _write(folder, step, tensors, facts)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not (is_disk_full(error) or "No space left" in str(error)):  # safetensors says so in its text alone
            raise
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        raise DiskFullError(f"no room in {root} for a checkpoint of {num_bytes} bytes; free some and resume") from error
    for old in committed_folders(root)[keep:]:
        shutil.rmtree(old)
    return folder


def _write(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, folder / STATE)
    (folder / FACTS).write_text(json.dumps({"step": step, **facts}, indent=2, sort_keys=True))
    sizes = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)} for name in (STATE, FACTS)
    }
    for name in sizes:
        sync(folder / name)
    partial = folder / (COMMITTED + ".partial")
    partial.write_text(json.dumps(sizes, indent=2))
    sync(partial)
    partial.rename(folder / COMMITTED)


def committed_folders(root: Path) -> list[Path]:
    """Folders of whole checkpoints, newest first."""
    return sorted((path.parent for path in root.glob(f"step-*/{COMMITTED}")), reverse=True)


def load_newest(root: Path, facts: dict[str, Any] | None = None) -> Checkpoint | None:
    """The newest whole checkpoint, or None if there is none; a damaged one is passed over with a warning.

    Given `facts` (settings and data of the run that asks), a checkpoint of other facts is no checkpoint of that run.
    """
    for folder in committed_folders(root):
        try:
            saved = load_checkpoint(folder)
        except CheckpointError as error:
            log.warning("%s; trying the one before", error)
            continue
        if facts is None or saved.facts == facts:
            return saved
        log.warning("checkpoint %s is of other settings or data; training starts anew", folder)
        return None
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint of a folder.

    Raises:
        CheckpointError: a file's size or sha256 differs from what COMMITTED promises, or COMMITTED is missing.
    """
    if not (folder / COMMITTED).is_file():
        raise CheckpointError(f"checkpoint {folder} was never finished (no {COMMITTED}); use an older one")
    for name, digest in promised_digests(folder).items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise CheckpointError(
                f"checkpoint {folder}: {name} is damaged (sha256 differs); delete the folder to use an older one"
            )
    facts = json.loads((folder / FACTS).read_text())
    return Checkpoint(facts.pop("step"), load_file(folder / STATE), facts)


def promised_digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file, as COMMITTED promises them.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        promised = json.loads((folder / COMMITTED).read_text())
        return {name: promised[name]["sha256"] for name in (STATE, FACTS)}
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {folder}: {COMMITTED} is damaged; delete the folder to use an older one"
        ) from error


def optimizer_tensors(optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimisers' states as named tensors; their settings are not kept, since the recipe holds them."""
    tensors = {}
    for name, optimizer in optimizers.items():
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": value for key, value in entry.items()}
    return tensors


def restore_optimizers(optimizers: dict[str, torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Load what `optimizer_tensors` gave."""
    states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in optimizers}
    for path, value in tensors.items():
        owner, _, rest = path.partition(".")
        if owner in states:
            index, _, key = rest.partition(".")
            states[owner].setdefault(int(index), {})[key] = value
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict({"state": states[name], "param_groups": optimizer.state_dict()["param_groups"]})


def module_tensors(name: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's weights and buffers as named tensors."""
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def restore_module(name: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load what `module_tensors` gave."""
    module.load_state_dict(module_weights(name, tensors))


def module_weights(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `module_tensors` gave, without the module's name."""
    prefix = name + "."
    return {path.removeprefix(prefix): value for path, value in tensors.items() if path.startswith(prefix)}
