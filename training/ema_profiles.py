"""How much the weights of each moment count in an average over training: its decay, its width, and mixtures of such.

Source: power-function averages and their mixtures, EDM2 (arXiv 2312.02696, section 3). That a mixture's shares add up
to one is our own: with few averages the nearest profile alone would scale the network.
"""

from collections.abc import Callable, Sequence

import numpy as np

from model.errors import ConfigError

Decay = Callable[[int], float]
"""What an average keeps of itself at an update, counted from 0."""

WIDEST = 0.28
"""The least power, 0, counts all moments alike and has a width of 0.289."""


def warmed_up(decay: float) -> Decay:
    """A decay that begins low, since the first weights are far from where they go: (1 + n) / (10 + n)."""
    return lambda num_updates: min(decay, (1 + num_updates) / (10 + num_updates))


def power_function(width: float) -> Decay:
    """The decay under which weights count by a power of their time.

    `width` is the standard deviation of those times, as a share of the time that has passed.
    """
    exponent = _exponent(width)
    return lambda num_updates: (1 - 1 / (num_updates + 1)) ** (exponent + 1)


def shares_of(widths: Sequence[float], wanted: float) -> list[float]:
    """How much of each track makes the profile nearest to that of the wanted width; together 1.

    Raises:
        ConfigError: the width lies outside those of the tracks.
    """
    if not widths or not min(widths) <= wanted <= max(widths):
        raise ConfigError(
            f"an average of width {wanted} cannot be mixed from tracks of {list(widths)}; name one between them"
        )
    exponents = np.array([_exponent(width) for width in widths])
    overlaps = _overlap(exponents[:, None], exponents[None, :])
    count = len(exponents)
    system = np.block([[overlaps, np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    solved = np.linalg.solve(system, np.append(_overlap(exponents, _exponent(wanted)), 1.0))
    return solved[:count].tolist()


def _overlap(first: np.ndarray, second: np.ndarray | float) -> np.ndarray:
    """The inner product of two profiles, power functions over one time."""
    return (first + 1) * (second + 1) / (first + second + 1)


def _exponent(width: float) -> float:
    """The power whose profile has the width: its root in EDM2's algorithm 2."""
    if not 0 < width < WIDEST:
        raise ConfigError(f"an average's width {width} must lie between 0 and {WIDEST}; 0.05 and 0.10 are usual")
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())
