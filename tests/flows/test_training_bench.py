"""The benchmark of a training step: a fair order, peers that take the same input, and operations counted right."""

import pytest
import torch

from flows import training_bench


def test_all_run_in_turn():
    order: list[str] = []
    seconds = training_bench.interleaved_s([lambda: order.append("a"), lambda: order.append("b")], rounds=3)
    assert order == ["a", "b"] * 5
    assert len(seconds) == 2


@pytest.mark.parametrize("make", [training_bench.ours, training_bench.wan, training_bench.ltx])
def test_each_network_gives_a_velocity_of_the_latents_shape(make, monkeypatch):
    monkeypatch.setattr(training_bench, "BLOCKS", 1)
    runner = make()
    latents = torch.randn(2, *training_bench.LATENTS[1:])
    text = torch.randn(2, training_bench.TEXT_TOKENS, training_bench.TEXT_DIM)
    assert runner.call(latents, text).shape == latents.shape
    assert len(runner.blocks) == 1


def test_the_operations_of_a_step_are_those_of_its_products(monkeypatch):
    monkeypatch.setattr(training_bench, "BATCH", 2)
    monkeypatch.setattr(training_bench, "LATENTS", (2, 16, 4, 8, 8))
    counted = []
    for blocks in (1, 2):
        monkeypatch.setattr(training_bench, "BLOCKS", blocks)
        counted.append(training_bench.count_flops(training_bench.ours()))
    dim, tokens, text = training_bench.DIM, 64, training_bench.TEXT_TOKENS
    weights = 2 * tokens * (4 + 8) * dim**2 + 2 * text * 2 * dim**2  # q, k, v, out, mlp of 4; k and v of the text
    attention = 2 * 2 * tokens * (tokens + text) * dim
    assert counted[1] - counted[0] == 3 * 2 * (weights + attention)  # backward is twice forward; batch of 2
