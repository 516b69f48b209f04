"""Where networks run, and the number format in which they multiply: bfloat16 where the device is fast at it.

A CPU without instructions for bfloat16 (AVX2 alone) multiplies it a hundred times slower than float32: decision 0013.
Weights, latents on disk and optimisers have formats of their own, which do not depend on the machine.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch

from model.errors import ConfigError

_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As torch names them; the last is ARM's."""


def device_named(name: str) -> torch.device:
    """The torch device of that name; `auto` is a GPU where torch finds one, else the CPU.

    Raises:
        ConfigError: a GPU is asked for and torch finds none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError("device='cuda', but torch finds no GPU here; use 'auto' or 'cpu', or install torch for CUDA")
    return torch.device(("cuda" if has_gpu else "cpu") if name == "auto" else name)


@lru_cache
def compute_dtype(device_type: str = "cpu") -> torch.dtype:
    """bfloat16 or float32, whichever this machine's device of that type multiplies faster."""
    if device_type == "cpu":
        known = torch.cpu.get_capabilities()
        is_fast = any(known.get(name, False) for name in _CPU_INSTRUCTIONS)
    elif device_type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_fast = False
    return torch.bfloat16 if is_fast else torch.float32


def autocast(device: torch.device | str = "cpu") -> AbstractContextManager[object]:
    """A context in which networks on this device multiply in `compute_dtype`."""
    device_type = torch.device(device).type
    dtype = compute_dtype(device_type)
    return nullcontext() if dtype is torch.float32 else torch.autocast(device_type, dtype=dtype)
