"""Digests of weights: what a latent, a caption or a served video says it was made with."""

import hashlib
from pathlib import Path

from model.errors import CheckpointError

STARTER = Path(__file__).with_name("starter")
"""The weights that come with Skyloom: what is used where no model was trained yet."""

FACTS_FILE = "skyloom.json"
"""Of a pipeline's folder: what its weights are, and how they are to be sampled."""

STARTER_NAME = "starter"
"""How settings and commands name these weights."""

WEIGHT_PATTERNS = ("*.safetensors", "config.json", "model_index.json", "tokenizer.json")


def pipeline_folder(name: str) -> Path:
    """The folder that a setting means: a path, or `starter` for the weights that come with Skyloom."""
    return STARTER if name == STARTER_NAME else Path(name)


def has_starter() -> bool:
    """Whether any weights came with Skyloom."""
    return (STARTER / FACTS_FILE).is_file()


def absolute_name(name: str) -> str:
    """The same choice of weights, whatever the working folder; "" stays the choice of none."""
    return name if name in ("", STARTER_NAME) else str(Path(name).absolute())


def weights_digest(folder: Path) -> str:
    """The sha256 over every weight and config file below a folder, by relative path and content.

    Raises:
        CheckpointError: the folder holds no safetensors file.
    """
    files = sorted({path for pattern in WEIGHT_PATTERNS for path in Path(folder).rglob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise CheckpointError(f"{folder} holds no .safetensors file; train the model or name another folder")
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(file_digest(path).encode())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits, read in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
