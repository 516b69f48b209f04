"""What a scene showed at first: what is like it is drawn to it, and nothing else is."""

import torch
from torch import Tensor

from model.memory import ALIKE, STILL, SceneMemory, drawn_to, stands_still

CHANNELS, HEIGHT, WIDTH = 16, 3, 4


def frames(num: int, seed: int, batch: int = 2) -> list[Tensor]:
    """So many latent frames of one scene before a still camera, in which one column of cells is never twice alike."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randn((batch, CHANNELS, 1, HEIGHT, WIDTH), generator=generator).repeat(1, 1, num, 1, 1)
    scene[..., 0] = torch.randn((batch, CHANNELS, num, HEIGHT), generator=generator)
    return list((4 * scene).split(1, dim=2))


def remembered(first: list[Tensor]) -> SceneMemory:
    memory = SceneMemory(len(first))
    for frame in first:
        assert torch.equal(memory.recall(frame, 0, is_given=False), frame)
    return memory


def far(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().mean(dim=1).sqrt()


def test_what_is_nearly_as_it_was_is_drawn_to_it() -> None:
    first, memory = frames(4, 1), remembered(frames(4, 1))
    drifted = first[2] + 0.1
    recalled = memory.recall(drifted, 0, is_given=False)
    assert torch.allclose(far(recalled, first[2]), 0.1 * far(drifted, first[2]), atol=1e-5)


def test_what_was_never_seen_stays_as_it_is() -> None:
    memory, other = remembered(frames(4, 1)), frames(1, 2)[0]
    assert torch.equal(memory.recall(other, 0, is_given=False), other)


def test_each_cell_is_drawn_for_itself() -> None:
    first, memory = frames(4, 1), remembered(frames(4, 1))
    mixed = frames(1, 2)[0]
    mixed[..., 0, 0] = first[3][..., 0, 0] + 0.2
    mixed[..., 2, 3] = first[0][..., 2, 3] - 0.2
    recalled = memory.recall(mixed, 0, is_given=False)
    moved = far(recalled, mixed) > 0
    assert moved[..., 0, 0].all()
    assert moved[..., 2, 3].all()
    assert moved.sum() == 2 * len(mixed)


def test_the_pull_ends_where_things_are_no_longer_alike_and_nowhere_jumps() -> None:
    shown = torch.zeros(1, CHANNELS, 1, 1, 1)
    away = torch.linspace(0, 1.5 * ALIKE, 301)
    drawn = torch.stack([drawn_to(shown + step, shown)[0, 0, 0, 0, 0] for step in away])
    assert (drawn >= 0).all()
    assert (drawn.diff().abs() < 0.03 * ALIKE).all()
    assert torch.equal(drawn[away >= ALIKE], away[away >= ALIKE])


def test_where_the_camera_moves_nothing_is_drawn_to_what_was() -> None:
    moving = [frame + STILL * step for step, frame in enumerate(frames(4, 1, batch=1))]
    assert not stands_still(torch.cat(moving, dim=2))
    drifted = moving[2] + 0.1
    assert torch.equal(remembered(moving).recall(drifted, 0, is_given=False), drifted)


def test_how_still_a_sample_is_does_not_depend_on_its_batch() -> None:
    still = frames(4, 1, batch=1)
    moving = [frame + STILL * step for step, frame in enumerate(still)]
    together = [torch.cat(pair) for pair in zip(still, moving, strict=True)]
    drifted = together[2] + 0.1
    recalled = remembered(together).recall(drifted, 0, is_given=False)
    assert torch.equal(recalled[:1], remembered(still).recall(drifted[:1], 0, is_given=False))
    assert torch.equal(recalled[1:], drifted[1:])


def test_one_frame_of_a_scene_is_remembered_with_the_next() -> None:
    first, memory = frames(2, 1), SceneMemory(1)
    for frame in first:
        assert torch.equal(memory.recall(frame, 0, is_given=False), frame)
    assert (far(memory.recall(first[1] + 0.1, 0, is_given=False), first[1]) < 0.05).all()


def test_a_new_scene_begins_with_nothing_and_so_does_one_that_comes_again() -> None:
    first, memory = frames(4, 1), remembered(frames(4, 1))
    for scene in (1, 0):
        drifted = first[0] + 0.1
        assert torch.equal(memory.recall(drifted, scene, is_given=False), drifted)


def test_given_frames_are_remembered_and_stay() -> None:
    first, memory = frames(4, 1), SceneMemory(4)
    for frame in first:
        assert torch.equal(memory.recall(frame, 0, is_given=True), frame)
    drifted = first[0] + 0.1
    assert torch.equal(memory.recall(drifted, 0, is_given=True), drifted)
    assert (far(memory.recall(drifted, 0, is_given=False), first[0]) < far(drifted, first[0])).all()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    first, alone = frames(4, 1), [frame[:1] for frame in frames(4, 1)]
    drifted = first[1] + 0.3 * frames(1, 5)[0] / 4
    together = remembered(first).recall(drifted, 0, is_given=False)
    assert torch.equal(together[:1], remembered(alone).recall(drifted[:1], 0, is_given=False))


def test_no_more_is_kept_however_long_the_scene_is() -> None:
    memory = remembered(frames(3, 1))
    for frame in frames(40, 2):
        memory.recall(frame, 0, is_given=False)
    assert len(memory._first) == 3
