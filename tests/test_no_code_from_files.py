"""No file that Skyloom reads can make it run code (S6): weights, checkpoints, frames, manifests."""

import ast
import os
import pickle
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.manifest import Member, read_member
from data.tars import write_tar
from model.errors import CheckpointError, ShardError, SkyloomError
from model.pipeline import SkyloomPipeline
from model.tiny import save_tiny_pipeline
from serving.api.intake import Intake
from training.checkpoint import load_newest

ROOMS = ("model", "data", "training", "serving", "flows")
BANNED_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BANNED_CALLS = {"torch.load", "yaml.load", "eval", "exec", "os.system", "os.popen"}
PICKLED = ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.pt", "pytorch_model.bin", "model.ckpt", "model.pth")


class Canary:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (self.path, 0o700)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What appears when a pickle was run."""
    return tmp_path / "sung"


def test_a_canary_sings(canary: Path) -> None:
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()


@pytest.mark.parametrize("part", ["autoencoder", "transformer"])
@pytest.mark.parametrize("name", PICKLED)
def test_pickled_weights_are_refused(tmp_path: Path, canary: Path, part: str, name: str) -> None:
    folder = tmp_path / "model"
    save_tiny_pipeline(folder)
    (folder / part / name).write_bytes(pickle.dumps(Canary(canary)))
    SkyloomPipeline.from_pretrained(folder)  # what lies beside the real weights is not looked at
    (folder / part / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises((SkyloomError, OSError)):
        SkyloomPipeline.from_pretrained(folder)
    assert not canary.exists()


def test_a_pickle_under_the_name_of_safetensors_is_refused(tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "model"
    save_tiny_pipeline(folder)
    (folder / "transformer/diffusion_pytorch_model.safetensors").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises((SkyloomError, OSError)):
        SkyloomPipeline.from_pretrained(folder)
    assert not canary.exists()


def test_a_pickled_checkpoint_is_no_checkpoint(tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "step-000010"
    folder.mkdir()
    for name in ("state.safetensors", "facts.json", "COMMITTED", "state.pt", ".metadata"):
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
    with suppress(CheckpointError):
        assert load_newest(tmp_path) is None
    assert not canary.exists()


def test_frames_with_objects_are_refused(tmp_path: Path, canary: Path) -> None:
    np.save(tmp_path / "upload.npy", np.array([Canary(canary)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        Intake(tmp_path).frames("upload")
    assert not canary.exists()


@pytest.mark.parametrize("shard", ["pipe:mkdir {}", "|mkdir {}", "../elsewhere.tar", "/etc/passwd"])
def test_a_manifest_names_plain_files_only(tmp_path: Path, canary: Path, shard: str) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    (entry,) = write_tar(folder / "video-00000.tar", [("a.bin", b"film")])
    good = Member("a", "video", "video-00000.tar", entry.offset, entry.size, "64x64x16", entry.digest)
    shutil.copy(folder / "video-00000.tar", tmp_path / "elsewhere.tar")
    assert read_member(folder, good) == b"film"
    with pytest.raises(ShardError, match="no plain file name"):
        read_member(folder, replace(good, shard=shard.format(canary)))
    assert not canary.exists()


def test_no_module_can_run_what_it_reads() -> None:
    found = [
        f"{path}:{node.lineno}: {name}"
        for room in ROOMS
        for path in sorted(Path(room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        for name in forbidden(node)
    ]
    assert not found


def forbidden(node: ast.AST) -> list[str]:
    """The names in a node that could run what a file says."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.split(".")[0] in BANNED_MODULES]
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)] if str(node.module).split(".")[0] in BANNED_MODULES else []
    if isinstance(node, ast.Call):
        pickles = [word.arg for word in node.keywords if word.arg == "allow_pickle" and _is_true(word.value)]
        return [name for name in [ast.unparse(node.func)] if name in BANNED_CALLS] + [str(arg) for arg in pickles]
    return []


def _is_true(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is True
