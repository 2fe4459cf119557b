"""The random states of this process: seeded together, taken and set again together."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed(value: int) -> None:
    """Seed PyTorch on all devices, NumPy and Python: a network of a user's may draw from any of them."""
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def state(device: str) -> dict[str, Any]:
    """All of them, as plain values and tensors."""
    name, keys, *rest = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    found = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(words), gauss],
    }
    if device.startswith("cuda"):
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore(found: dict[str, Any], device: str) -> None:
    """Set what `state` took."""
    torch.set_rng_state(found["torch"])
    name, keys, *rest = found["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, words, gauss = found["python"]
    random.setstate((version, tuple(words), gauss))
    if device.startswith("cuda"):
        torch.cuda.set_rng_state(found["cuda"], device)
