"""Muon for weights of two or more axes, with matrices of equal shape orthogonalised together.

Source: Muon (Keller Jordan, 2024), as `torch.optim.Muon`; its update one matrix at a time took a third of a training
step on two cores (docs/decisions/0007).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.precision import compute_dtype


class FilterMuon(torch.optim.Muon):
    """torch's Muon that also takes convolution filters `O I H W`, each as a matrix of O rows that shares its memory."""

    def __init__(self, parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        self._sources = list(parameters)
        self._matrices = [nn.Parameter(parameter.data.flatten(1)) for parameter in self._sources]
        super().__init__(self._matrices, lr=lr, weight_decay=weight_decay, momentum=0.95)

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - no closures here
        """Update every filter from its gradient."""
        for source, matrix in zip(self._sources, self._matrices, strict=True):
            matrix.grad = None if source.grad is None else source.grad.flatten(1)
        (group,) = self.param_groups
        matrices: list[Tensor] = []
        gradients: list[Tensor] = []
        momenta: list[Tensor] = []
        self._init_group(group, matrices, gradients, momenta)
        updates: list[Tensor] = []
        for matrix, gradient, momentum in zip(matrices, gradients, momenta, strict=True):
            momentum.lerp_(gradient, 1 - group["momentum"])
            updates.append(gradient.lerp(momentum, group["momentum"]))
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
        for shape in dict.fromkeys(matrix.shape for matrix in matrices):
            places = [place for place, matrix in enumerate(matrices) if matrix.shape == shape]
            stacked = torch.stack([updates[place] for place in places])
            turned = orthogonalised(stacked, group["ns_coefficients"], group["ns_steps"])
            rate = group["lr"] * math.sqrt(max(1, shape[0] / shape[1]))
            for place, update in zip(places, turned, strict=True):
                matrices[place].add_(update, alpha=-rate)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the filters and of their matrices."""
        super().zero_grad(set_to_none)
        for source in self._sources:
            source.grad = None


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], num_steps: int) -> Tensor:
    """Matrices `N R C` with their singular values brought near 1 by Newton-Schulz steps."""
    a, b, c = coefficients
    x = matrices.to(compute_dtype(matrices.device.type))
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT.contiguous()
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    for _ in range(num_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
