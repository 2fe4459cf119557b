"""Any loss and its posterior in JAX, for classes and for one logit a label."""

from __future__ import annotations

import numbers

import jax
import jax.numpy as jnp

from adma import _check, classic, classic_rows, family, rows
from adma.family import Loss, Member
from adma.jax.call import Axis, broadcast, canonical, floating, last_shape
from adma.jax.namespace import XP, Array, whole
from adma.spec import parse


def loss(
    member: Loss | str,
    logits: Array,
    labels: Array,
    *,
    axis: Axis = -1,
    where: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> jax.Array:
    """The loss of each example; multiply by a weight, take the mean, as with optax's.

    Args:
        member: which loss, of `adma.family` or `adma.classic`, or its spec such as "adma:a=0.26".
        logits: (..., C), of a floating type. Infinite ones are taken to their limit: the result is NaN only where a
            logit is NaN or there is no such class.
        labels: class indices, integers of the logits' shape without the classes; or class probabilities of the logits'
            shape (or broadcast to it; integers not over the classes). An index outside [0, C) makes its example NaN.
        axis: the axis of the classes; of several, an index counts in their flattened order; None is all of them.
        where: bool, which classes there are, of the logits' shape; or which examples count, of the shape of the
            result. What is left out counts nothing: a label there, and an example without a class, have loss 0.
        label_smoothing: in [0, 1], the share of each label that is spread evenly over the classes that there are.

    Returns:
        The logits' shape without the classes, in the logits' type.

    Raises:
        TypeError: logits of another type, labels that are neither.
        ValueError: shapes that do not fit, no classes, a label smoothing outside [0, 1], a spec that is not understood.
    """
    chosen = parse(member) if isinstance(member, str) else member
    smoothing = _share(label_smoothing)
    if isinstance(chosen, classic.SmoothedCrossEntropy):
        smoothing = chosen.combined(smoothing)
        chosen = family.CrossEntropy()
    call = canonical(logits, labels, axis, where)
    z, keep = call.logits, call.keep
    plain = isinstance(smoothing, float) and smoothing == 0
    if isinstance(chosen, Member) and call.hard and plain:
        out = rows.index_loss(whole(chosen), z, call.labels, XP)
        counted = None if keep is None else (call.labels & keep).any(-1)
    else:
        y = call.labels.astype(z.dtype)
        if not plain:
            classes = z.shape[-1] if keep is None else keep.sum(-1, keepdims=True)
            y = (1.0 - smoothing) * y + smoothing / jnp.maximum(classes, 1)
        y = y if keep is None else jnp.where(keep, y, 0.0)
        counted = None if keep is None else keep.any(-1)
        if isinstance(chosen, Member):
            out = rows.soft_loss(whole(chosen), rows.nll(z, XP), y, XP)
        else:
            out = classic_rows.loss_of_logits(chosen, z, y, keep, XP)  # type: ignore[arg-type]
    if counted is not None:
        out = jnp.where(counted, out, 0.0)
    if call.unknown is not None:
        out = jnp.where(call.unknown, jnp.nan, out)
    return out.astype(call.dtype)


def binary_loss(member: Member | str, logits: Array, labels: Array) -> jax.Array:
    """The loss of each label, one logit a label, as `optax.sigmoid_binary_cross_entropy`.

    Args:
        member: which loss, of `adma.family`, or its spec.
        logits: of any shape, of a floating type.
        labels: in [0, 1], of the logits' shape or broadcast to it.

    Returns:
        The logits' shape and type.

    Raises:
        TypeError: logits of another type.
        ValueError: shapes that do not fit, or a loss that has no binary form.
    """
    chosen = _of_family(member, "has no binary form; give the network two logits and take loss()")
    z, dtype = floating(logits)
    y = broadcast("labels", jnp.asarray(labels), z.shape).astype(z.dtype)
    return rows.binary_loss(whole(chosen), z, y, XP).astype(dtype)


def posterior(member: Loss | str, logits: Array, *, axis: Axis = -1, where: Array | None = None) -> jax.Array:
    """Class probabilities from a network trained with a loss, by the loss's own map: nothing is fitted.

    Args:
        member: the loss, or its spec; its parameters are plain numbers.
        logits: (..., C), of a floating type.
        axis: the axis, or axes, of the classes.
        where: bool, which classes there are, of the logits' shape; the others get 0.

    Returns:
        Probabilities of the logits' shape and type. With label smoothing or label noise they estimate the smoothed,
        the noisy posteriors: what the labels showed.

    Raises:
        TypeError: logits of another type.
        ValueError: the loss does not determine the posteriors, or shapes that do not fit.
    """
    chosen = parse(member) if isinstance(member, str) else member
    if chosen.no_posterior:
        raise ValueError(f"no posteriors: {chosen.no_posterior}")
    logits = jnp.asarray(logits)
    call = canonical(logits, jnp.zeros_like(logits), axis, where)
    chosen = chosen.one_hot if isinstance(chosen, classic.SymmetricCrossEntropy) else chosen
    if isinstance(chosen, Member):
        eta = rows.posterior(chosen, rows.nll(call.logits, XP), XP)
    else:
        eta = jnp.exp(-classic_rows.head(chosen, call.logits, XP))  # type: ignore[arg-type]
    eta = eta if call.keep is None else jnp.where(call.keep, eta, 0.0)
    moved = last_shape(logits.shape, call.axes)
    return jnp.moveaxis(eta.reshape(moved), range(-len(call.axes), 0), call.axes).astype(call.dtype)


def binary_posterior(member: Member | str, logits: Array) -> jax.Array:
    """The posterior of the positive label, one logit a label; as `posterior` for two classes.

    Raises:
        TypeError: logits of another type.
        ValueError: the loss has no binary form, or does not determine the posteriors.
    """
    chosen = _of_family(member, "has no binary form")
    if chosen.no_posterior:
        raise ValueError(f"no posteriors: {chosen.no_posterior}")
    z, dtype = floating(logits)
    return rows.binary_posterior(chosen, z, XP).astype(dtype)


def _share(label_smoothing: float | Array) -> float | Array:
    if isinstance(label_smoothing, numbers.Real):
        return _check.real("label_smoothing", label_smoothing, low=0, high=1)
    return label_smoothing


def _of_family(member: Loss | str, otherwise: str) -> Member:
    chosen = parse(member) if isinstance(member, str) else member
    if not isinstance(chosen, Member):
        raise ValueError(f"{chosen.name} {otherwise}")
    return chosen
