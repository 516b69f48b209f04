"""Optimisers: Muon for the matrices and filters inside blocks, AdamW for everything else.

Muon is kept because it left AdamW far behind at these sizes (docs/decisions/0002).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.config import Schedule
from training.muon import FilterMuon

SMALLEST_MUON_SIDE = 16
"""Muon makes an update's singular values equal, which means little for a matrix of few rows or columns."""


def split_parameters(network: nn.Module, markers: Sequence[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(weights of two or more axes in submodules whose name holds a marker, all other parameters), in order."""
    filters, others = [], []
    for name, parameter in network.named_parameters():
        is_weight = name.endswith(".weight") and parameter.ndim >= 2 and min(parameter.shape[:2]) >= SMALLEST_MUON_SIDE
        (filters if is_weight and any(marker in name for marker in markers) else others).append(parameter)
    return filters, others


def make_optimizers(
    network: nn.Module,
    schedule: Schedule,
    *,
    muon_lr: float,
    weight_decay: float,
    muon_in: Sequence[str] = ("blocks.",),
) -> dict[str, torch.optim.Optimizer]:
    """The optimisers by name; each group remembers its peak rate as `peak_lr`. `muon_lr` of 0 leaves all to AdamW."""
    filters, others = split_parameters(network, muon_in if muon_lr > 0 else ())
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(others, lr=schedule.lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)
    }
    if filters:
        optimizers["muon"] = FilterMuon(filters, lr=muon_lr, weight_decay=weight_decay)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: dict[str, torch.optim.Optimizer], factor: float) -> None:
    """Scale every group's peak rate by `factor`."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def update(
    optimizers: dict[str, torch.optim.Optimizer], loss: Tensor, network: nn.Module, max_grad_norm: float
) -> Tensor:
    """One descent step on `loss` by every optimiser; returns the gradient norm before clipping."""
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    for optimizer in optimizers.values():
        optimizer.step()
    return norm
