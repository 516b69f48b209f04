"""The format of products: bfloat16 where the machine is fast at it, and never where it is not."""

import pytest
import torch

from model.errors import ConfigError
from model.precision import autocast, compute_dtype, device_named


@pytest.fixture(autouse=True)
def forgetful():
    compute_dtype.cache_clear()
    yield
    compute_dtype.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_a_cpu_multiplies_in_what_it_has_instructions_for(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert compute_dtype() is expected
    with autocast():
        assert torch.nn.Linear(4, 4)(torch.randn(2, 4)).dtype is expected


def test_an_unknown_device_keeps_float32():
    assert compute_dtype("meta") is torch.float32


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(monkeypatch, has_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert device_named("auto").type == expected
    assert device_named("cpu").type == "cpu"  # as asked, GPU or not


def test_a_gpu_that_is_not_there_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no GPU"):
        device_named("cuda")
