"""What `skyloom bench` measures. Each function gives its measurements by name; a name with `/` is a row of its own."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import TypeAlias, cast

import psutil
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional

from flows.bench import Measurement
from flows.home import workspace
from model.errors import StageError
from model.layers import attend
from model.transformer import SpacetimeTransformer
from training.config import Schedule
from training.optim import make_optimizers, update

DEMO_LIMIT_S, DEMO_AGAIN_LIMIT_S, DEMO_MEMORY_GB = 900.0, 90.0, 10.0
SAMPLE_EVERY_S = 15.0  # reading the sizes of every mapping costs a core some 0.2 s
Call: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]


def demo() -> dict[str, Measurement]:
    """The whole demo in a new folder: its time, the memory of all its processes together, and a second run."""
    with TemporaryDirectory(prefix="skyloom-bench-") as folder:
        first_s, peak_bytes = _timed_demo(folder)
        again_s, _ = _timed_demo(folder)
    return {
        "time": _limit("make demo after the packages are in", first_s, "s", DEMO_LIMIT_S),
        "memory": _limit("peak memory of all demo processes (PSS)", peak_bytes / 1e9, "GB", DEMO_MEMORY_GB),
        "again": _limit("a second make demo, everything kept", again_s, "s", DEMO_AGAIN_LIMIT_S),
    }


def adherence() -> dict[str, Measurement]:
    """What the last `make demo` in artifacts/demo scored: its evaluation, read and not repeated."""
    results = json.loads((workspace(None, "demo").evaluation / "results.json").read_text())
    rows = {
        name: Measurement(
            what=f"probe finds the right {name} in {results['num_prompts']} unseen prompts",
            ours=round(100 * score["generated"], 1),
            unit="%",
            peer=round(100 * score["real"], 1),
            peer_name="real clips",
            goal=f"at least {100 * score['goal']:.0f} %" if score["goal"] else "none",
            holds=score["generated"] >= (score["goal"] or 0),
        )
        for name, score in results["adherence"].items()
    }
    coherence = results["coherence"]
    rows["one object"] = Measurement(
        what="frames that show one patch of the asked colour",
        ours=round(100 * coherence["generated"], 1),
        unit="%",
        peer=round(100 * coherence["real"], 1),
        peer_name="real clips",
        goal=f"at least {100 * coherence['goal']:.0f} %",
        holds=coherence["generated"] >= coherence["goal"],
    )
    return rows


def attention() -> dict[str, Measurement]:
    """Short attention, forward and backward: multiplied out against torch's fused kernel."""
    q, k, v = (torch.randn(64, 4, 84, 64, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    ours, fused = _interleaved_ms(
        lambda: attend(q, k, v).sum().backward(),
        lambda: functional.scaled_dot_product_attention(q, k, v).sum().backward(),
    )
    return {"": _faster("attention of 84 tokens, forward and backward, bf16", ours, fused, "fused SDPA", goal=1.5)}


def training_step() -> dict[str, Measurement]:
    """A compiled training step against diffusers' Wan transformer of equal width, depth and tokens in the same loop."""
    ours = _stepper(SpacetimeTransformer(max_text_tokens=20), _ours)
    wan = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=4, attention_head_dim=64, in_channels=16, out_channels=16,
        text_dim=384, freq_dim=256, ffn_dim=1024, num_layers=8,
    )  # fmt: skip
    ours_ms, wan_ms = _interleaved_ms(ours, _stepper(wan, _wan), rounds=8)
    what = "training step, 256 wide, 8 blocks, 64 latent and 20 text tokens, batch 64, bf16, AdamW, compiled"
    return {"": _faster(what, ours_ms, wan_ms, "WanTransformer3DModel", goal=1.0)}


def _ours(network: nn.Module, latents: Tensor, text: Tensor) -> Tensor:
    return network(latents, torch.rand(len(latents), 4), text, torch.ones(text.shape[:2], dtype=torch.bool))


def _wan(network: nn.Module, latents: Tensor, text: Tensor) -> Tensor:
    return network(latents, torch.rand(len(latents)) * 1000, text).sample


def _stepper(network: nn.Module, call: Call) -> Callable[[], None]:
    """One update of a network with compiled blocks, as the plain loop that both sides share."""
    for block in cast(nn.ModuleList, network.blocks):
        block.compile(dynamic=False)
    optimizers = make_optimizers(network, Schedule(num_steps=1, batch_size=64, lr=1e-3), muon_lr=0, weight_decay=0)
    latents, text = torch.randn(64, 16, 4, 8, 8), torch.randn(64, 20, 384)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            velocity = call(network, latents, text)
        update(optimizers, (velocity.float() - latents).square().mean(), network, 1.0)

    return step


def _interleaved_ms(ours: Callable[[], None], theirs: Callable[[], None], rounds: int = 20) -> tuple[float, float]:
    """The median milliseconds of both, run in turn after two warm-up rounds, so that noise hits them alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        for kept, run in zip(times, (ours, theirs), strict=True):
            began = time.perf_counter()
            run()
            if number >= 2:
                kept.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def _faster(what: str, ours_ms: float, theirs_ms: float, peer: str, *, goal: float) -> Measurement:
    """A speed-up, as rates in one run; the ratio is ours over theirs."""
    return Measurement(
        what=what, ours=round(1000 / ours_ms, 2), unit="per s", peer=round(1000 / theirs_ms, 2), peer_name=peer,
        goal=f"at least {goal:.1f}x", holds=theirs_ms >= goal * ours_ms,
    )  # fmt: skip


def _limit(what: str, value: float, unit: str, limit: float) -> Measurement:
    """A figure that may not pass a limit."""
    return Measurement(
        what=what, ours=round(value, 1), unit=unit, peer=limit, peer_name="limit",
        goal=f"at most {limit:.0f} {unit}", holds=value <= limit,
    )  # fmt: skip


def _timed_demo(folder: str) -> tuple[float, float]:
    """(seconds, peak memory in bytes) of `skyloom demo` with its results in a folder.

    Raises:
        StageError: the demo failed.
    """
    began = time.monotonic()
    command = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())", "demo"]
    process = subprocess.Popen(command, env=os.environ | {"SKYLOOM_HOME": folder}, stdout=subprocess.DEVNULL)
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, tree_memory_bytes(psutil.Process(process.pid)))
        time.sleep(SAMPLE_EVERY_S)
    if process.returncode:
        raise StageError(f"`skyloom demo` ended with code {process.returncode}; run it by hand to see why")
    return time.monotonic() - began, peak_bytes


def tree_memory_bytes(root: psutil.Process) -> int:
    """The proportional set size of a process and all below it: pages that they share count once."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
