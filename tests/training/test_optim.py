"""Rates and the split of parameters between optimisers; the average of weights."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from model.tiny import tiny_transformer
from training import muon
from training.config import Schedule
from training.muon import FilterMuon
from training.optim import make_optimizers, set_rates, split_parameters, update


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    schedule = Schedule(num_steps=100, batch_size=1, lr=1, warmup_steps=10, decay_fraction=0.4)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:60] == [1.0] * 50
    assert all(later < earlier for earlier, later in pairwise(rates[60:]))
    assert 0 < rates[-1] < 0.05


def test_muon_gets_block_matrices_and_adamw_all_else() -> None:
    network = tiny_transformer()
    matrices, others = split_parameters(network, ("blocks.",))
    assert len(matrices) + len(others) == len(list(network.parameters()))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert all("blocks." in names[id(p)] and p.ndim == 2 for p in matrices)
    assert {"patch_in.weight", "patch_out.weight", "blocks.0.modulation_bias"} <= {names[id(p)] for p in others}


def test_muon_updates_filters_in_place_and_equalises_their_singular_values() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 16, 3))
    optimizers = make_optimizers(
        network, Schedule(num_steps=1, batch_size=1, lr=1e-3), muon_lr=0.1, weight_decay=0, muon_in=("0",)
    )
    before = network[0].weight.detach().clone()
    update(optimizers, network(torch.randn(2, 16, 8, 8)).square().mean(), network, 1.0)
    values = torch.linalg.svdvals((network[0].weight.detach() - before).flatten(1))
    assert values.max() < 0.14
    assert values.min() > 0.05


def test_matrices_orthogonalised_together_move_as_under_torchs_own_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "compute_dtype", lambda device_type: torch.bfloat16)  # torch's own knows no other
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((32, 32), (64, 32), (32, 64), (32, 32))]
    theirs = [nn.Parameter(weights.detach().clone()) for weights in ours]
    optimizers = (
        FilterMuon(ours, lr=0.02, weight_decay=0.01),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.01, momentum=0.95),
    )
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-4, rtol=0)


def test_rates_scale_each_group_from_its_own_peak() -> None:
    schedule = Schedule(num_steps=10, batch_size=1, lr=1e-3)
    optimizers = make_optimizers(tiny_transformer(), schedule, muon_lr=5e-3, weight_decay=0)
    set_rates(optimizers, 0.5)
    set_rates(optimizers, 0.25)
    assert optimizers["adamw"].param_groups[0]["lr"] == pytest.approx(2.5e-4)
    assert optimizers["muon"].param_groups[0]["lr"] == pytest.approx(1.25e-3)
