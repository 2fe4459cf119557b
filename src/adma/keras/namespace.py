"""The namespace that `adma.rows` computes with, of Keras's own operations: those of the backend that runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

Tensor = Any  # of Keras's backend


def expm1(x: Tensor) -> Tensor:
    """expm1 with the derivatives of exp; some backends' own is `result + 1`, which cancels to 0 far below 0."""
    e = ops.exp(x)
    return ops.stop_gradient(ops.expm1(x)) + (e - ops.stop_gradient(e))


def tiny(x: Tensor) -> float:
    """The smallest normal number of x's type, float32 or float64."""
    return 2.0**-1022 if keras.backend.standardize_dtype(x.dtype) == "float64" else 2.0**-126


def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`ops.where` with constants in the type of the other: Keras takes them by way of float32.

    A positive constant too small for the type (a floor, 1e-300) is its smallest normal number.
    """
    like = y if isinstance(x, float) else x
    if not isinstance(like, float):
        x, y = (_constant(v, like) if isinstance(v, float) else v for v in (x, y))
    return ops.where(condition, x, y)


def _constant(value: float, like: Tensor) -> Tensor:
    value = max(value, tiny(like)) if value > 0 else value
    return ops.convert_to_tensor(value, dtype=like.dtype)


XP = SimpleNamespace(
    exp=ops.exp, expm1=expm1, log=ops.log, log1p=ops.log1p, where=where, isinf=ops.isinf, max=ops.max, sum=ops.sum,
    stop_gradient=ops.stop_gradient,
    arange=lambda count: ops.arange(count, dtype="int32"),
    argmax=lambda x, axis: ops.cast(ops.argmax(x, axis), "int32"),
    repeat=lambda count, function, start: ops.fori_loop(0, count, lambda _, x: function(x), start),
)  # fmt: skip
