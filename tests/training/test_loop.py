"""Batches drawn ahead are those that would have been drawn in time."""

import torch
from torch import Tensor

from training.loop import drawn_ahead


def test_batches_drawn_ahead_are_the_same_from_any_first_step() -> None:
    drawn: list[int] = []

    def draw(step: int) -> Tensor:
        drawn.append(step)
        return torch.tensor(step)

    with drawn_ahead(draw) as batch_of:
        assert [int(batch_of(step)) for step in range(3, 8)] == [3, 4, 5, 6, 7]
    assert drawn == [3, 4, 5, 6, 7, 8]
