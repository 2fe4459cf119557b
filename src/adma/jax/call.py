"""What a call may look like, in one form: classes last and flat, floats in the type of the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adma import rows
from adma.jax.namespace import XP, Array

Axis = int | Sequence[int] | None


class Call(NamedTuple):
    """A call in one form: classes last and flat, floats in the type of the arithmetic."""

    logits: jax.Array  # (..., C)
    labels: jax.Array  # (..., C), bool for class indices, else probabilities
    hard: bool
    keep: jax.Array | None  # (..., C), bool
    unknown: jax.Array | None  # (...), bool: indices of no class
    axes: tuple[int, ...]
    dtype: Any  # of the result


def canonical(logits: Array, labels: Array, axis: Axis, where: Array | None) -> Call:
    z, dtype = floating(logits)
    axes = _axes(axis, z.ndim)
    y = jnp.asarray(labels)

    def last(x: jax.Array) -> jax.Array:
        shape = last_shape(x.shape, axes)
        before = len(shape) - len(axes)
        # not -1, which has no answer where there are no examples
        return jnp.moveaxis(x, axes, range(-len(axes), 0)).reshape(*shape[:before], math.prod(shape[before:]))

    shape, keep = z.shape, None
    if where is not None:
        keep = jnp.asarray(where)
        if keep.dtype != bool:
            raise TypeError(f"where must be bool, got {keep.dtype}")
        keep = last(broadcast("where", keep if keep.ndim == z.ndim else jnp.expand_dims(keep, axes), shape))
    z = last(z)
    if z.shape[-1] == 0:
        raise ValueError(f"logits must have a class, got the shape {shape} with classes on axis {axis}")
    if keep is not None:
        z = jnp.where(keep, z, -jnp.inf)
    if y.ndim == len(shape):
        per_class = math.prod(y.shape[axis] for axis in axes)
        if jnp.issubdtype(y.dtype, jnp.integer) and per_class == 1 < z.shape[-1]:
            raise ValueError(  # as probabilities they would broadcast, and every index be the weight of all classes
                f"labels must be class indices of shape {z.shape[:-1]}, or probabilities of the logits' shape {shape}; "
                f"got {y.dtype} of shape {y.shape}: leave out the axis of the classes"
            )
        return Call(z, last(broadcast("labels", y, shape)).astype(z.dtype), False, keep, None, axes, dtype)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(
            f"labels must be class indices (integers) of shape {z.shape[:-1]}, or probabilities of the logits' shape "
            f"{shape}; got {y.dtype} of shape {y.shape}"
        )
    if y.shape != z.shape[:-1]:
        raise ValueError(f"labels must be class indices of shape {z.shape[:-1]}, got the shape {y.shape}")
    unknown = (y < 0) | (y >= z.shape[-1])
    return Call(z, rows.hot(y, z.shape[-1], XP), True, keep, unknown, axes, dtype)


def last_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the axes of the classes moved to its end."""
    return (*(n for i, n in enumerate(shape) if i not in axes), *(shape[i] for i in axes))


def floating(logits: Array) -> tuple[jax.Array, Any]:
    """The logits in the type of the arithmetic, and their own type."""
    z = jnp.asarray(logits)
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise TypeError(f"logits must be of a floating type, got {z.dtype}")
    return z.astype(jnp.promote_types(z.dtype, jnp.float32)), z.dtype


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    given = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    for one in given:
        if not -ndim <= one < ndim:
            raise ValueError(f"axis must be in [{-ndim}, {ndim}) for logits of {ndim} axes, got {axis!r}")
    axes = tuple(one % ndim for one in given)
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"axis must name different axes of the classes, got {axis!r}")
    return axes


def broadcast(name: str, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    try:
        return jnp.broadcast_to(x, shape)
    except ValueError:
        raise ValueError(f"{name} must have the shape {shape} or broadcast to it, got {x.shape}") from None
