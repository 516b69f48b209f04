"""An exponential moving average of a network's weights, with a decay that warms up."""

import torch
from torch import nn


class Ema:
    """Averages `network` into `average`, of the same shape. Decay at update n: min(decay, (1 + n) / (10 + n))."""

    def __init__(self, network: nn.Module, average: nn.Module, decay: float) -> None:
        average.load_state_dict(network.state_dict())
        self.average = average.requires_grad_(False).eval()
        self._source, self._target = list(network.parameters()), list(average.parameters())
        self._decay = decay

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the average towards the network after its update number `num_updates`, which counts from 0."""
        decay = min(self._decay, (1 + num_updates) / (10 + num_updates))
        for target, source in zip(self._target, self._source, strict=True):
            target.lerp_(source, 1 - decay)
