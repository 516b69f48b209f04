"""What an edit from a source prompt leaves alone."""

import torch
from torch import Tensor

from model.flow_edit import EditTexts, described, flow_edit, shared_words
from model.guidance import Condition
from model.runner import finish
from model.sampling import Start, seeded_noise, sigma_schedule
from model.views import Velocity


def believing(guess: Tensor) -> Velocity:
    """A network that takes the video to be `guess`, whatever it sees."""

    def velocity(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        del condition
        return (x - guess) / sigma[:, None, :, None, None]

    return velocity


def halves(left: float, right: float) -> Tensor:
    """Latents whose left half is one value and whose right half another."""
    latents = torch.full((1, 4, 2, 4, 8), float(left))
    latents[..., 4:] = right
    return latents


SCENE = halves(1, -1)
NOISE = seeded_noise(tuple(SCENE.shape[1:]), [0])
TEXTS = EditTexts(target=believing(halves(3, 3)), source=believing(halves(1, 1)), shared=believing(halves(0, -1)))


def test_the_source_text_describes_what_it_explains_better_than_the_shared_words() -> None:
    shared, source = halves(1, 0)[:, 0], halves(0, 4)[:, 0]
    region = described(shared, source)
    assert region[..., :3].all()
    assert not region[..., 5:].any()
    assert described(source, source).all(), "as good is good enough"


def test_an_edit_moves_what_is_described_and_leaves_the_rest_to_the_last_bit() -> None:
    edited = finish(flow_edit(TEXTS, Start(SCENE, torch.ones(2)), NOISE, sigma_schedule(10)))
    assert torch.equal(edited[..., 5:], SCENE[..., 5:])
    assert (edited[..., :3] > 2).all()


def test_shared_words_keep_the_order_of_the_source() -> None:
    source, target = "a large red ball falls, the camera zooms in", "a large blue cube falls, the camera zooms in"
    assert shared_words(source, target) == "a large falls, the camera zooms in"
    assert shared_words("two dogs", "a cat") == ""
