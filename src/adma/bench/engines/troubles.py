"""What ends a training before its time: told apart, and in words."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adma.bench.result import CellResult


class NoMemoryError(Exception):
    """Memory ran out in a training that may have others beside it on its device."""


class LostError(Exception):
    """Another process that trains the same cell is gone, and gave no reason."""


class UnheardError(Exception):
    """Nobody listens any more to what a training says of itself."""


def with_faults(result: CellResult, faults: Sequence[str]) -> CellResult:
    """A result with what happened before it came out."""
    if not faults:
        return result
    return replace(result, env={**result.env, "faults": [*faults, *result.env.get("faults", [])]})


def words(error: BaseException) -> str:
    """An error in a line, with where it arose."""
    place: Any = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(place[-1].filename)}:{place[-1].lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, or what it came from: a network's function fails with our words."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError):  # of the CPU, of the driver, of cuBLAS
        text = str(error).lower()
        if ("allocate" in text and "memory" in text) or "out of memory" in text or "alloc_failed" in text:
            return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)
