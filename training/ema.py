"""Averages of a network's weights over its training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.ema_profiles import Decay, shares_of


class Ema:
    """Averages `network` into `average`, of the same shape."""

    def __init__(self, network: nn.Module, average: nn.Module, decay: Decay) -> None:
        average.load_state_dict(network.state_dict())
        self.average = average.requires_grad_(False).eval()
        self._source, self._target = list(network.parameters()), list(average.parameters())
        self._decay = decay

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the average towards the network after its update number `num_updates`, which counts from 0."""
        decay = self._decay(num_updates)
        for target, source in zip(self._target, self._source, strict=True):
            target.lerp_(source, 1 - decay)


def mixed(tracks: Mapping[float, Mapping[str, Tensor]], width: float) -> dict[str, Tensor]:
    """The average of another width, mixed from the tracks, by their widths.

    Raises:
        ConfigError: the width lies outside those of the tracks.
    """
    shares = shares_of(list(tracks), width)
    names = next(iter(tracks.values()))
    return {
        name: sum((share * track[name] for share, track in zip(shares, tracks.values(), strict=True)), torch.zeros(()))
        for name in names
    }
