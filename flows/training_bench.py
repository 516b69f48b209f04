"""How fast the transformer trains: its attention, and a whole step against diffusers' and against bare products."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flows.bench import Measurement
from model.layers import multiplied_out
from model.precision import autocast, compute_dtype
from model.transformer import SpacetimeTransformer
from training.config import Schedule
from training.optim import make_optimizers, update

BATCH, TEXT_TOKENS, TEXT_DIM = 128, 20, 384
DIM, HEADS, BLOCKS = 256, 4, 8
LATENTS = (BATCH, 16, 4, 8, 8)  # 64 tokens of 1 x 2 x 2 cells
SIDE = 2048
"""Of the product that stands for the machine's limit."""
FORMAT = str(compute_dtype()).removeprefix("torch.")
WHAT = (
    f"training step, {DIM} wide, {BLOCKS} blocks, 64 latent and {TEXT_TOKENS} text tokens, batch {BATCH}, "
    f"{FORMAT}, AdamW"
)
Call: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Latents and text states to a velocity of the latents' shape."""


class Runner(NamedTuple):
    """A network, its blocks (which are compiled), and how it is called."""

    network: nn.Module
    blocks: Sequence[nn.Module]
    call: Call


def attention() -> dict[str, Measurement]:
    """Short attention, forward and backward: multiplied out against torch's fused kernel."""
    q, k, v = (torch.randn(64, 4, 84, 64, dtype=compute_dtype(), requires_grad=True) for _ in range(3))
    ours, fused = interleaved_s(
        [
            lambda: multiplied_out(q, k, v).sum().backward(),
            lambda: functional.scaled_dot_product_attention(q, k, v).sum().backward(),
        ]
    )
    row = _faster(f"attention of 84 tokens multiplied out, forward and backward, {FORMAT}", ours, fused, "fused SDPA")
    if compute_dtype() is not torch.bfloat16:
        row = row.model_copy(update={"goal": f"none: in {FORMAT} the fused one is used", "holds": True})
    return {"": row}


def training_step() -> dict[str, Measurement]:
    """A compiled step against Wan's and LTX's transformers of equal width, depth and tokens in the same plain loop."""
    runners = [ours(), wan(), ltx()]
    flops = count_flops(runners[0])
    a, b = (torch.randn(SIDE, SIDE, dtype=compute_dtype()) for _ in range(2))
    mine_s, wan_s, ltx_s, product_s = interleaved_s([*map(stepper, runners), lambda: torch.mm(a, b)], rounds=8)
    achieved, limit = flops / mine_s / 1e9, 2 * SIDE**3 / product_s / 1e9
    share = Measurement(
        what=f"{WHAT}, compiled: the products' share of what the machine multiplies",
        ours=round(achieved, 1), unit="GFLOP/s", peer=round(limit, 1), peer_name="one large product",
        goal="at least 50 %", holds=achieved >= 0.5 * limit,
    )  # fmt: skip
    rows = {
        name: _faster(f"{WHAT}, compiled", mine_s, theirs_s, type(runner.network).__name__)
        for name, theirs_s, runner in (("wan", wan_s, runners[1]), ("ltx", ltx_s, runners[2]))
    }
    return rows | {"share": share}


def ours() -> Runner:
    """Ours."""
    network = SpacetimeTransformer(dim=DIM, num_heads=HEADS, num_blocks=BLOCKS, max_text_tokens=TEXT_TOKENS)

    def call(latents: Tensor, text: Tensor) -> Tensor:
        is_token = torch.ones(text.shape[:2], dtype=torch.bool)
        return network(latents, torch.rand(len(latents), latents.shape[2]), text, is_token)

    return Runner(network, list(network.blocks), call)


def wan() -> Runner:
    """Wan's, whose patches are ours."""
    network: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=HEADS, attention_head_dim=DIM // HEADS, in_channels=16,
        out_channels=16, text_dim=TEXT_DIM, freq_dim=256, ffn_dim=4 * DIM, num_layers=BLOCKS,
    )  # fmt: skip
    return Runner(
        network, network.blocks, lambda latents, text: network(latents, torch.rand(len(latents)) * 1000, text).sample
    )


def ltx() -> Runner:
    """LTX's, which takes the patches ready-made: 64 channels each."""
    network: Any = LTXVideoTransformer3DModel(
        in_channels=64, out_channels=64, num_attention_heads=HEADS, attention_head_dim=DIM // HEADS,
        cross_attention_dim=DIM, num_layers=BLOCKS, caption_channels=TEXT_DIM,
    )  # fmt: skip

    def call(latents: Tensor, text: Tensor) -> Tensor:
        tokens = latents.reshape(len(latents), 64, 64)
        is_token = torch.ones(text.shape[:2])
        made = network(tokens, text, torch.rand(len(tokens)) * 1000, is_token, num_frames=4, height=4, width=4)
        return made.sample.reshape(latents.shape)

    return Runner(network, network.transformer_blocks, call)


def stepper(runner: Runner) -> Callable[[], None]:
    """One update of a network with compiled blocks, as the plain loop that all share."""
    for block in runner.blocks:
        block.compile(dynamic=False)
    schedule = Schedule(num_steps=1, batch_size=BATCH, lr=1e-3)
    optimizers = make_optimizers(runner.network, schedule, muon_lr=0, weight_decay=0)
    latents, text = _inputs()

    def step() -> None:
        update(optimizers, _loss(runner, latents, text), runner.network, 1.0)

    return step


def count_flops(runner: Runner) -> int:
    """Floating point operations of the products of one step, forward and backward, before it is compiled."""
    latents, text = _inputs()
    # a fused kernel's backward makes the scores again, which is its own affair and no part of the work
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        _loss(runner, latents, text).backward()
    runner.network.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def _inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(LATENTS), torch.randn(BATCH, TEXT_TOKENS, TEXT_DIM)


def _loss(runner: Runner, latents: Tensor, text: Tensor) -> Tensor:
    with autocast():
        velocity = runner.call(latents, text)
    return (velocity.float() - latents).square().mean()


def interleaved_s(runs: Sequence[Callable[[], object]], rounds: int = 20) -> list[float]:
    """The median seconds of each, all in turn after two warm-up rounds, so that noise hits them alike."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(rounds + 2):
        for kept, run in zip(times, runs, strict=True):
            began = time.perf_counter()
            run()
            if number >= 2:
                kept.append(time.perf_counter() - began)
    return [statistics.median(kept) for kept in times]


def _faster(what: str, ours_s: float, theirs_s: float, peer: str, goal: float = 1.5) -> Measurement:
    """A speed-up, as rates in one run; the ratio is ours over theirs."""
    return Measurement(
        what=what, ours=round(1 / ours_s, 2), unit="per s", peer=round(1 / theirs_s, 2), peer_name=peer,
        goal=f"at least {goal:.1f}x", holds=theirs_s >= goal * ours_s,
    )  # fmt: skip
