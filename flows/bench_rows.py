"""The rows that several benches share: a share that must be reached, a limit, half of what the naive way gives."""

from collections.abc import Sequence

import numpy as np

from flows.bench import Measurement


def at_least_share(
    what: str, ours: Sequence[bool], theirs: Sequence[bool], peer: str, goal: float = 0.8
) -> Measurement:
    """How often something was so, beside how often it was for the naive way."""
    mine, naive = float(np.mean(ours)), float(np.mean(theirs))
    return Measurement(
        what=what, ours=round(100 * mine, 1), unit="%", peer=round(100 * naive, 1), peer_name=peer,
        goal=f"at least {100 * goal:.0f} %", holds=mine >= goal,
    )  # fmt: skip


def at_most(what: str, ours: float, limit: float, theirs: float, peer: str, unit: str = "") -> Measurement:
    """A figure that may not pass a limit, beside that of the naive way."""
    return Measurement(
        what=what, ours=round(ours, 3), unit=unit, peer=round(theirs, 3), peer_name=peer,
        goal=f"at most {limit:g} {unit}".strip(), holds=ours <= limit,
    )  # fmt: skip


def half_of(what: str, ours: float, theirs: float, peer: str, unit: str = "px/frame") -> Measurement:
    """An error that must be at most half of that of the naive way."""
    return Measurement(
        what=what, ours=round(ours, 3), unit=unit, peer=round(theirs, 3), peer_name=peer,
        goal="at most 1/2 of it", holds=2 * ours <= theirs,
    )  # fmt: skip


def percent(
    what: str, ours: float, peer: float | None, peer_name: str, goal: str, *, holds: bool, **details: float | int | str
) -> Measurement:
    """A share from 0 to 1, in percent, beside another."""
    return Measurement(
        what=what, ours=round(100 * ours, 1), unit="%", peer=None if peer is None else round(100 * peer, 1),
        peer_name=peer_name, goal=goal, holds=holds, details=details,
    )  # fmt: skip
