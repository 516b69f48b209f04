"""Averages of weights: how far they lag, how wide they are, and what is mixed from them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from training.config import TransformerTraining
from training.ema import Ema, mixed
from training.ema_profiles import Decay, power_function, shares_of, warmed_up

NUM_STEPS = 4000


def profile(decay: Decay) -> np.ndarray:
    """How much each update counts at the end."""
    kept = np.array([decay(step) for step in range(NUM_STEPS)])
    later = np.append(np.cumprod(kept[::-1])[::-1][1:], 1.0)
    return (1 - kept) * later


def test_the_served_average_follows_and_lags() -> None:
    network, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    ema = Ema(network, average, warmed_up(0.9))
    with torch.no_grad():
        network.weight.fill_(1.0)
        average.weight.fill_(0.0)
    ema.update(0)
    assert float(average.weight.detach()) == pytest.approx(0.9), "early updates follow fast: decay (1+0)/(10+0)"
    with torch.no_grad():
        average.weight.fill_(0.0)
    ema.update(10_000)
    assert float(average.weight.detach()) == pytest.approx(0.1)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.25])
def test_a_power_function_is_as_wide_as_it_says(width: float) -> None:
    counts = profile(power_function(width))
    times = (np.arange(NUM_STEPS) + 1) / NUM_STEPS
    assert counts.sum() == pytest.approx(1)
    mean = (counts * times).sum()
    assert np.sqrt((counts * (times - mean) ** 2).sum()) == pytest.approx(width, rel=0.01)


def test_a_mixture_is_nearly_the_average_of_the_width_between() -> None:
    shares = shares_of([0.05, 0.1], 0.07)
    assert sum(shares) == pytest.approx(1)
    wanted = profile(power_function(0.07))
    made = shares[0] * profile(power_function(0.05)) + shares[1] * profile(power_function(0.1))
    for width in (0.05, 0.1):
        assert np.abs(made - wanted).sum() < np.abs(profile(power_function(width)) - wanted).sum() / 3
    assert shares_of([0.05, 0.1], 0.1) == pytest.approx([0, 1], abs=1e-9)


def test_weights_are_mixed_by_their_shares() -> None:
    tracks = {0.05: {"weight": torch.tensor([1.0, 3.0])}, 0.1: {"weight": torch.tensor([2.0, 5.0])}}
    shares = torch.tensor(shares_of([0.05, 0.1], 0.06))
    torch.testing.assert_close(mixed(tracks, 0.06)["weight"], shares @ torch.tensor([[1.0, 3.0], [2.0, 5.0]]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ema_widths": (0.05, 0.1), "served_width": 0.2}, "name one between"),
        ({"served_width": 0.05}, "name one between"),
        ({"ema_widths": (0.3,)}, "must lie between 0 and"),
        ({"ema_widths": (0.1, 0.1)}, "twice"),
    ],
)
def test_widths_that_cannot_be_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TransformerTraining.model_validate(settings)


def test_what_is_served_can_be_chosen_without_training_again() -> None:
    trained = TransformerTraining(ema_widths=(0.05, 0.1))
    chosen = trained.model_copy(update={"served_width": 0.07, "guidance_scale": 2.0})
    assert chosen.digest != trained.digest
    assert chosen.training_digest == trained.training_digest
    assert trained.model_copy(update={"dim": 128}).training_digest != trained.training_digest
