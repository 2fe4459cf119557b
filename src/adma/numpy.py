"""The float64 reference of everything: plain NumPy, checked against 50-digit arithmetic, slow and short.

Every backend is tested against these functions. They take what `adma.functional` takes: logits (C), (N, C) or
(N, C, d1, ..., dK), a target of class indices or of class probabilities, and the options of
`torch.nn.functional.cross_entropy`; they return float64.

    >>> import numpy as np
    >>> from adma.family import Adma
    >>> from adma import numpy as reference
    >>> logits = np.array([[2.0, 0.0, -1.0]])
    >>> round(float(reference.loss(Adma(a=0.26), logits, np.array([0]))), 6)
    0.114927
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adma import _check, constraints
from adma.classic import (
    ActivePassive,
    BiTempered,
    MeanSquaredError,
    SemanticCrossEntropy,
    SmoothedCrossEntropy,
    SquaredHinge,
    SymmetricCrossEntropy,
)
from adma.family import CrossEntropy, Loss, Member

Array = np.ndarray[Any, Any]
_REDUCTIONS = ("none", "mean", "sum")


def nll(logits: Array) -> Array:
    """`-log softmax(logits)` over axis 1 of (N, C, ...), with full relative accuracy also where it is near 0.

    The largest class's own exponential is left out of the sum, so `log1p` sees the small rest.
    """
    z = np.asarray(logits, dtype=np.float64)
    top = np.argmax(z, axis=1, keepdims=True)
    gap = np.take_along_axis(z, top, 1) - z
    rest = np.exp(-gap)
    np.put_along_axis(rest, top, 0.0, 1)
    np.put_along_axis(gap, top, 0.0, 1)
    return np.log1p(rest.sum(axis=1, keepdims=True)) + gap


def softmax(logits: Array) -> Array:
    """Probabilities over axis 1 of (N, C, ...)."""
    return np.exp(-nll(logits))


def loss(
    member: Loss,
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    from_probabilities: bool = False,
) -> Any:
    """The loss as `adma.functional` defines it.

    Args:
        member: which loss (`adma.family`, `adma.classic`).
        logits: (C), (N, C) or (N, C, d1, ...); probabilities if `from_probabilities`.
        target: indices (), (N) or (N, d1, ...), or probabilities of the logits' shape.
        weight: (C), of the classes.
        ignore_index: index targets with this value count nothing.
        reduction: "none", "mean" or "sum".
        label_smoothing: in [0, 1].
        from_probabilities: whether `logits` are posteriors.

    Raises:
        ValueError: shapes that do not fit, an option that is not known or out of its range.
        IndexError: a class index outside [0, C) that is not `ignore_index`.
    """
    _check.one_of("reduction", reduction, _REDUCTIONS)
    if isinstance(member, SmoothedCrossEntropy):
        label_smoothing = member.combined(label_smoothing)
        member = CrossEntropy()
    z, y, valid, unbatched = _canonical(logits, target, ignore_index, label_smoothing)
    w = np.ones(z.shape[1]) if weight is None else np.asarray(weight, dtype=np.float64)
    w = w.reshape((1, -1) + (1,) * (z.ndim - 2))
    t = _head(member, z, from_probabilities)
    hard = np.asarray(target).ndim != np.asarray(logits).ndim
    sample = (w * _canonical(logits, target, ignore_index, 0.0)[1]).sum(1)  # a row's weight, before smoothing
    with np.errstate(invalid="ignore"):
        if isinstance(member, SemanticCrossEntropy):
            rule = constraints.named(member.constraint, z.shape[1])
            rows = _rows(CrossEntropy(), t, y, sample[:, None], sample)
            rows = rows - sample * member.strength * rule.log_probability(np.moveaxis(z, 1, 0))
        else:
            rows = _rows(member, t, y, w, sample)
    rows = np.where(valid, rows, 0.0)
    if reduction == "none":
        return rows[0] if unbatched else rows
    if reduction == "sum":
        return rows.sum()
    count = (sample * valid).sum() if hard else rows.size
    return rows.sum() / count if count else np.float64(0.0)


def gradient(member: Member, logits: Any, target: Any, *, reduction: str = "mean", **options: Any) -> Array:
    """The gradient of `loss` in the logits, of the logits' shape; with reduction "none", of the sum of the rows.

    `dL/dz_k = s_k W - y_k psi'(t_k)` with `W = sum_j y_j psi'(t_j)`; the weights of the classes go with y.
    For members of the family, from logits.
    """
    _check.one_of("reduction", reduction, _REDUCTIONS)
    weight, smoothing = options.get("weight"), options.get("label_smoothing", 0.0)
    z, y, valid, unbatched = _canonical(logits, target, options.get("ignore_index", -100), smoothing)
    w = np.ones(z.shape[1]) if weight is None else np.asarray(weight, dtype=np.float64)
    w = w.reshape((1, -1) + (1,) * (z.ndim - 2))
    t = nll(z)
    slope = np.where(y == 0, 0.0, w * y * member.slope(t, np))
    s = np.exp(-t)
    # the true class's own part of s_k W - y_k psi' is -(1 - s_k) y_k psi'_k: subtracting would cancel
    others = slope.sum(1, keepdims=True) - slope
    if smoothing == 0 and np.asarray(target).ndim != np.asarray(logits).ndim:
        others = np.where(slope == 0, slope.sum(1, keepdims=True), 0.0)
    grad = s * others + np.expm1(-t) * slope
    if reduction == "mean":
        hard = np.asarray(target).ndim != np.asarray(logits).ndim
        plain = _canonical(logits, target, options.get("ignore_index", -100), 0.0)[1]
        count = ((w * plain).sum(1) * valid).sum() if hard else valid.size
        grad = grad / (count or 1.0)
    grad = np.where(valid[:, None], grad, 0.0)
    return grad[0] if unbatched else grad


def binary_loss(
    member: Member,
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """`y psi(softplus(-z)) + (1 - y) psi(softplus(z))`, one logit a label; the options of `BCEWithLogitsLoss`."""
    _check.one_of("reduction", reduction, _REDUCTIONS)
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(target, dtype=np.float64)
    positive = (1.0 if pos_weight is None else np.asarray(pos_weight)) * y
    with np.errstate(invalid="ignore"):
        on = np.where(y == 0, 0.0, positive * member.psi(softplus(-z), np))
        off = np.where(y == 1, 0.0, (1 - y) * member.psi(softplus(z), np))
    rows = (on + off) * (1.0 if weight is None else np.asarray(weight))
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else (rows.mean() if rows.size else np.float64(0.0))


def binary_gradient(member: Member, logits: Any, target: Any, *, weight: Any = None, pos_weight: Any = None) -> Array:
    """The gradient in the logits of `binary_loss` with reduction "sum"."""
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(target, dtype=np.float64)
    positive = (1.0 if pos_weight is None else np.asarray(pos_weight)) * y
    on = -positive * member.slope(softplus(-z), np) * np.exp(-softplus(z))
    off = (1 - y) * member.slope(softplus(z), np) * np.exp(-softplus(-z))
    return (on + off) * (1.0 if weight is None else np.asarray(weight))


def posterior(member: Loss, logits: Any, *, weight: Any = None) -> Array:
    """Class probabilities recovered by the loss's own map, `eta_j proportional to p_j / (w_j psi'(-log p_j))`.

    Raises:
        ValueError: the loss does not determine the posteriors.
    """
    if member.no_posterior:
        raise ValueError(member.no_posterior)
    if isinstance(member, SymmetricCrossEntropy):
        member = member.one_hot
    z = np.asarray(logits, dtype=np.float64)
    t = _head(member, z[None] if z.ndim == 1 else z, False)
    log_eta = -t
    if isinstance(member, Member):
        possible = t < np.inf  # a masked class stays impossible; its own terms are inf - inf
        with np.errstate(divide="ignore"):  # a slope of 0 at p = 1 makes that class certain
            log_slope = member.log_slope(np.where(possible, t, 1.0), np)
        log_eta = np.where(possible, log_eta - log_slope, -np.inf)
    if weight is not None:
        log_eta = log_eta - np.log(np.asarray(weight, dtype=np.float64)).reshape((1, -1) + (1,) * (t.ndim - 2))
    eta = softmax(np.minimum(log_eta, np.finfo(np.float64).max))
    return eta[0] if z.ndim == 1 else eta


def tempered_nll(logits: Array, t2: float) -> Array:
    """`-log exp_t2(z - lambda)` over axis 1, with lambda by bisection such that the probabilities sum to 1."""
    z = np.asarray(logits, dtype=np.float64)
    if t2 == 1:
        return nll(z)
    z = z - z.max(axis=1, keepdims=True)
    low = np.zeros_like(z[:, :1])
    high = low - np.expm1((t2 - 1) * np.log(z.shape[1])) / (1 - t2)

    def log_probability(level: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log1p(np.maximum((1 - t2) * (z - level), -1.0)) / (1 - t2)

    for _ in range(200):
        middle = 0.5 * (low + high)
        heavy = np.exp(log_probability(middle)).sum(1, keepdims=True) > 1
        low, high = np.where(heavy, middle, low), np.where(heavy, high, middle)
    return -log_probability(0.5 * (low + high))


# -- the parts ----------------------------------------------------------------------------------------------


def _canonical(logits: Any, target: Any, ignore_index: int, smoothing: float) -> tuple[Array, Array, Array, bool]:
    """(N, C, ...) logits and target probabilities, which rows count, whether the batch axis was added."""
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(target)
    unbatched = z.ndim == 1
    _check.real("label_smoothing", smoothing, low=0, high=1)
    hard = y.ndim != z.ndim
    if unbatched:
        z, y = z[None], y[None]
    expected = z.shape[:1] + z.shape[2:] if hard else z.shape
    if y.shape != expected:  # which NumPy might broadcast
        kind = "class indices" if hard else "probabilities"
        raise ValueError(f"target of {kind} must have shape {expected} for logits {z.shape}, got {y.shape}")
    if hard:
        valid = y != ignore_index
        wrong = y[valid & ((y < 0) | (y >= z.shape[1]))]
        if wrong.size:  # NumPy would count a negative one from the end
            raise IndexError(
                f"target {wrong[0]} is out of range: with {z.shape[1]} classes an index is in [0, {z.shape[1] - 1}], "
                f"or ignore_index = {ignore_index}"
            )
        y = _hot(np.where(valid, y, 0), z.shape[1])
        z = np.where(valid[:, None], z, 0.0)
    else:
        valid = np.ones((z.shape[0], *z.shape[2:]), dtype=bool)
    y = (1 - smoothing) * y.astype(np.float64) + smoothing / z.shape[1]
    return z, y, valid, unbatched


def _hot(index: Array, classes: int) -> Array:
    return np.moveaxis(np.eye(classes)[index.astype(np.int64)], -1, 1)


def _head(member: Loss, z: Array, from_probabilities: bool) -> Array:
    if from_probabilities:
        with np.errstate(divide="ignore"):
            return -np.log(z)
    return tempered_nll(z, member.t2) if isinstance(member, BiTempered) else nll(z)


def _rows(member: Loss, t: Array, y: Array, w: Array, sample: Array) -> Array:
    if isinstance(member, Member):
        return np.where(y == 0, 0.0, w * y * member.psi(t, np)).sum(1)
    s = np.exp(-t)
    if isinstance(member, MeanSquaredError):
        return sample * (np.where(y > 0.5, (1 - y) + np.expm1(-t), s - y) ** 2).mean(1)
    if isinstance(member, SquaredHinge):
        return sample * (np.maximum(0, 1 - (2 * y - 1) * s) ** 2).mean(1)
    if isinstance(member, BiTempered):
        k = 1 - member.t1
        log_y = np.log(y, out=np.zeros_like(y), where=y > 0)
        log_t = (lambda x: np.expm1(k * x) / k) if k else (lambda x: x)
        gain = np.where(y > 0, y * (log_t(log_y) - log_t(-t)), 0.0)
        return sample * (gain - (y ** (1 + k) - s ** (1 + k)) / (1 + k)).sum(1)
    if isinstance(member, SymmetricCrossEntropy):
        forward = np.where(y == 0, 0.0, y * t).sum(1)
        return sample * (member.alpha * forward + member.beta * _reverse(s, y, member.clip))
    if isinstance(member, ActivePassive):
        active = (y * _normalised(t)).sum(1)
        return sample * (member.alpha * active + member.beta * _reverse(s, y, member.clip))
    raise TypeError(f"the reference does not know {member!r}")


def _reverse(s: Array, y: Array, clip: float) -> Array:
    """Reverse cross-entropy, `-sum_j s_j max(log y_j, clip)`."""
    return -(s * np.maximum(np.log(y, out=np.full_like(y, clip), where=y > 0), clip)).sum(1)


def _normalised(t: Array) -> Array:
    """`t_j / sum_k t_k` over the classes k that are possible; 1 for one that is not, 0 for one that is alone."""
    impossible = t == np.inf
    finite = np.where(impossible, 0.0, t)
    largest = finite.max(1, keepdims=True)
    finite = finite / np.where(largest == 0, 1.0, largest)  # so that the sum does not overflow
    total = finite.sum(1, keepdims=True)
    return np.where(impossible, 1.0, finite / np.where(total == 0, 1.0, total))


def softplus(z: Array) -> Array:
    """`log(1 + exp(z))`, exact at both ends."""
    return np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0.0)
