"""Optimisers: Muon for the square-ish matrices of the blocks, AdamW for everything else.

Source: Muon (Keller Jordan, 2024), as `torch.optim.Muon`; kept because it left AdamW far behind at this size
(docs/decisions/0002).
"""

import torch
from torch import nn

from training.config import Schedule


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices inside blocks, all other parameters), each in the network's own order."""
    matrices, others = [], []
    for name, parameter in network.named_parameters():
        is_block_matrix = "blocks." in name and parameter.ndim == 2 and not name.endswith("modulation_bias")
        (matrices if is_block_matrix else others).append(parameter)
    return matrices, others


def make_optimizers(network: nn.Module, schedule: Schedule, *, muon_lr: float, weight_decay: float) -> dict[str, torch.optim.Optimizer]:
    """The optimisers by name; each group remembers its peak rate as `peak_lr`."""
    matrices, others = split_parameters(network)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(others, lr=schedule.lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)
    }
    if matrices and muon_lr > 0:
        optimizers["muon"] = torch.optim.Muon(matrices, lr=muon_lr, weight_decay=weight_decay, momentum=0.95)
    elif matrices:
        optimizers["adamw"].add_param_group({"params": matrices})
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: dict[str, torch.optim.Optimizer], factor: float) -> None:
    """Scale every group's peak rate by `factor`."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
