"""The noise convention and the training patterns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.diffusion import add_noise, draw_levels, shift_sigma, velocity_loss
from model.noise_patterns import NoisePatterns


def test_ends_of_the_path_are_data_and_noise() -> None:
    x0, noise = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    torch.testing.assert_close(add_noise(x0, noise, torch.zeros(2, 3)), x0)
    torch.testing.assert_close(add_noise(x0, noise, torch.ones(2, 3)), noise)


def test_each_frame_has_its_own_level() -> None:
    x0, noise = torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1, 1)
    mixed = add_noise(x0, noise, torch.tensor([[0.0, 0.25, 1.0]]))
    assert mixed.flatten().tolist() == pytest.approx([0, 0.25, 1])


def test_the_true_velocity_has_no_loss_and_given_frames_do_not_count() -> None:
    x0, noise = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    is_noisy = torch.tensor([[True, True, False], [True, True, True]])
    assert velocity_loss(noise - x0, x0, noise, is_noisy) == 0
    wrong = (noise - x0).clone()
    wrong[0, :, 2] += 5
    assert velocity_loss(wrong, x0, noise, is_noisy) == 0
    wrong[0, :, 1] += 1
    assert velocity_loss(wrong, x0, noise, is_noisy) == pytest.approx(1 / 5, rel=1e-5)


def test_the_mean_of_ranks_is_the_loss_of_the_whole_batch() -> None:
    x0, noise, predicted = (torch.randn(6, 2, 5, 4, 4) for _ in range(3))
    is_noisy = torch.rand(6, 5) < 0.4
    whole = velocity_loss(predicted, x0, noise, is_noisy)
    ranks = [
        velocity_loss(*(values[rank::2] for values in (predicted, x0, noise, is_noisy)), is_noisy.sum() / 2)
        for rank in range(2)
    ]
    torch.testing.assert_close(sum(ranks) / 2, whole)


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_given_frames_are_clean_and_something_is_left_to_predict(seed: int, num_frames: int) -> None:
    patterns = NoisePatterns(prefix=0.4, suffix=0.3, both_ends=0.3)
    levels = draw_levels(16, num_frames, patterns, torch.Generator().manual_seed(seed))
    assert levels.is_noisy.any(dim=1).all()
    assert (levels.sigma[~levels.is_noisy] == 0).all()
    assert ((levels.sigma[levels.is_noisy] > 0) & (levels.sigma[levels.is_noisy] < 1)).all()


def test_patterns_come_in_their_shares() -> None:
    patterns = NoisePatterns(prefix=0.25, suffix=0.25, both_ends=0.25)
    is_noisy = draw_levels(4000, 6, patterns, torch.Generator().manual_seed(0)).is_noisy
    first, last = is_noisy[:, 0], is_noisy[:, -1]
    for share in ((~first & last), (first & ~last), (~first & ~last), (first & last)):
        assert float(share.float().mean()) == pytest.approx(0.25, abs=0.03)


def test_ramps_move_one_way_and_independent_levels_any_way() -> None:
    generator = torch.Generator().manual_seed(0)
    quiet = {"prefix": 0, "suffix": 0, "both_ends": 0}
    ramps = draw_levels(500, 6, NoisePatterns(ramp=1, **quiet), generator)
    assert ramps.is_noisy.all()
    steps = ramps.sigma.diff(dim=1)
    assert ((steps >= 0).all(dim=1) | (steps <= 0).all(dim=1)).all()
    assert (steps.abs().amax(dim=1) > 0.01).float().mean() > 0.9
    apart = draw_levels(500, 6, NoisePatterns(independent=1, **quiet), generator).sigma.diff(dim=1)
    assert ((apart > 0).any(dim=1) & (apart < 0).any(dim=1)).float().mean() > 0.9


def test_given_frames_carry_a_little_noise_when_asked() -> None:
    patterns = NoisePatterns(prefix=1, suffix=0, both_ends=0, noisy_given=0.4, max_given_sigma=0.3)
    levels = draw_levels(4000, 4, patterns, torch.Generator().manual_seed(0))
    given = levels.sigma[:, 0]
    assert float((given > 0).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert given.max() <= 0.3


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to 1\.2"):
        NoisePatterns(prefix=0.9, suffix=0.25)


@given(st.floats(0, 1), st.floats(1, 10))
def test_shifting_keeps_the_ends_and_never_lowers(sigma: float, shift: float) -> None:
    shifted = float(shift_sigma(torch.tensor(sigma, dtype=torch.float64), shift))
    assert sigma - 1e-9 <= shifted <= 1 + 1e-9
