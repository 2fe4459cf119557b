"""The rows of the losses outside the family, for the libraries of `adma.rows`; the namespace has `repeat` besides.

They see every class's `t = -log s` and target probability y, (..., C), and give (...). Mean squared error and squared
hinge are on probabilities, as Keras defines them.
"""

from __future__ import annotations

from typing import Any

from adma import constraints, rows
from adma.classic import (
    ActivePassive,
    BiTempered,
    Classic,
    MeanSquaredError,
    SemanticCrossEntropy,
    SquaredHinge,
    SymmetricCrossEntropy,
)
from adma.family import Array

_NEWTON_STEPS = 24


def head(loss: Classic, z: Array, xp: Any) -> Array:
    """`-log` of the loss's own softmax, (..., C)."""
    return tempered_nll(z, loss.t2, xp) if isinstance(loss, BiTempered) else rows.nll(z, xp)


def loss_of_logits(loss: Classic, z: Array, y: Array, keep: Array | None, xp: Any) -> Array:
    """The loss of each row, (...), of logits (..., C); otherwise as `row_loss`."""
    if isinstance(loss, SemanticCrossEntropy):
        forward = xp.sum(rows.weighed(y, rows.nll(z, xp), xp), -1)
        return forward + loss.strength * _semantic(loss.constraint, z, xp)
    return row_loss(loss, head(loss, z, xp), y, keep, xp)


def row_loss(loss: Classic, t: Array, y: Array, keep: Array | None, xp: Any) -> Array:
    """The loss of each row.

    Args:
        loss: which.
        t: `-log` of the probabilities, (..., C).
        y: target probabilities, (..., C); 0 where `keep` is False.
        keep: bool (..., C): the classes that there are; None for all.
        xp: the namespace.

    Raises:
        TypeError: there are no rows for this loss here.
    """
    if isinstance(loss, MeanSquaredError):
        # near 1 the difference from y by expm1, which keeps the relative accuracy of a small error
        return _mean(xp.where(y > 0.5, (1.0 - y) + xp.expm1(-t), xp.exp(-t) - y) ** 2, keep, xp)
    if isinstance(loss, SquaredHinge):
        margin = 1.0 - (2.0 * y - 1.0) * xp.exp(-t)
        return _mean(xp.where(margin > 0, margin, 0.0) ** 2, keep, xp)
    if isinstance(loss, BiTempered):
        return _bregman(t, y, loss.t1, xp)
    if isinstance(loss, SymmetricCrossEntropy):
        forward = xp.sum(rows.weighed(y, t, xp), -1)
        return loss.alpha * forward + loss.beta * _reverse_cross_entropy(t, y, loss.clip, xp)
    if isinstance(loss, ActivePassive):
        forward = _normalised_cross_entropy(t, y, xp)
        return loss.alpha * forward + loss.beta * _reverse_cross_entropy(t, y, loss.clip, xp)
    raise TypeError(
        f"{loss!r} is no function of probabilities alone; its PyTorch form is adma.make_loss({loss.name!r})"
    )


def _semantic(constraint: str, z: Array, xp: Any) -> Array:
    """`-log P(constraint)` of labels that are independently true by `sigmoid(z)`."""
    if constraint == "exactly_one":  # sum_k softplus(z_k) - logsumexp(z), the largest class's own terms together
        top = rows.hot(xp.argmax(z, -1), z.shape[-1], xp)
        peak = xp.sum(xp.where(top, z, 0.0), -1)
        others = xp.sum(xp.where(top, 0.0, rows.softplus(z, xp)), -1)
        rest = xp.sum(xp.where(top, 0.0, xp.exp(rows.difference(z, peak[..., None], xp))), -1)
        return rows.softplus(-peak, xp) + others - xp.log1p(rest)
    rule = constraints.named(constraint, z.shape[-1])
    values = [0.0 * xp.sum(xp.where(xp.isinf(z), 0.0, z), -1)]  # log 1 at the end, of the rows' shape
    for index in range(rule.variables - 1, -1, -1):
        off, on = -rows.softplus(z[..., index], xp), -rows.softplus(-z[..., index], xp)
        values = [
            off + values[low]
            if high < 0
            else on + values[high]
            if low < 0
            else _log_add(off + values[low], on + values[high], xp)
            for low, high in rule.levels[index].tolist()
        ]
    return xp.where(values[0] < 0, -values[0], 0.0)  # a probability that rounding has brought above 1 is 1


def _log_add(x: Array, y: Array, xp: Any) -> Array:
    """`log(exp x + exp y)`, also where one of them, or both, is log 0."""
    top, low = xp.where(x > y, x, y), xp.where(x > y, y, x)
    return top + xp.log1p(xp.exp(rows.difference(low, top, xp)))


def tempered_nll(z: Array, t2: float, xp: Any) -> Array:
    """`-log softmax_t2(z)`, `softmax_t(z) = exp_t(z - lambda)`, with lambda such that the probabilities sum to 1.

    Its derivatives are right up to the third order.
    """
    if isinstance(t2, float) and t2 == 1:
        return rows.nll(z, xp)
    k = t2 - 1
    z = rows.difference(z, xp.stop_gradient(xp.max(z, -1))[..., None], xp)

    def newton(level: Array, z: Array) -> Array:
        # Newton on (sum exp_t)^(-k) = 1, which is nearly linear in the level: from 0 it rises to the root, never past
        inner = k * (level - z)
        ended = inner <= -1  # for t2 < 1 exp_t is 0 from a point on
        log_s = -xp.log1p(xp.where(ended, 0.0, inner)) / k
        s = xp.where(ended, 0.0, xp.exp(log_s))
        total = xp.sum(s, -1)[..., None]
        slope = xp.sum(xp.where(ended, 0.0, xp.exp(t2 * log_s)), -1)[..., None] / total
        return level + xp.expm1(k * xp.log(total)) / (k * slope)

    still = xp.stop_gradient(z)
    level = xp.max(still, -1)[..., None]  # 0
    level = xp.stop_gradient(xp.repeat(_NEWTON_STEPS, lambda x: newton(x, still), level))
    level = newton(newton(level, z), z)  # two steps that are differentiated give the root's derivatives
    inner = k * (level - z)
    ended = inner <= -1
    return xp.where(ended, float("inf"), xp.log1p(xp.where(ended, 0.0, inner)) / k)


def _mean(terms: Array, keep: Array | None, xp: Any) -> Array:
    if keep is None:
        return xp.sum(terms, -1) / terms.shape[-1]
    count = xp.sum(xp.where(keep, 1.0, 0.0), -1)
    return xp.sum(xp.where(keep, terms, 0.0), -1) / xp.where(count == 0, 1.0, count)


def _bregman(t: Array, y: Array, t1: float, xp: Any) -> Array:
    """`sum_j y_j (log_t1 y_j - log_t1 s_j) - (y_j^(2 - t1) - s_j^(2 - t1)) / (2 - t1)`."""
    k = 1 - t1
    there = y > 0
    log_y = xp.log(xp.where(there, y, 1.0))

    def log_t(x: Array) -> Array:
        return x if isinstance(k, float) and k == 0 else xp.expm1(k * x) / k

    gain = xp.where(there, y * (log_t(log_y) - log_t(xp.where(there, -t, 0.0))), 0.0)
    power = xp.where(there, xp.exp((1 + k) * log_y), 0.0)
    # near 1 the difference by expm1
    near = (power - 1.0) - xp.expm1(-(1 + k) * t)
    return xp.sum(gain - xp.where(y > 0.5, near, power - xp.exp(-(1 + k) * t)) / (1 + k), -1)


def _normalised_cross_entropy(t: Array, y: Array, xp: Any) -> Array:
    """`sum_j y_j t_j / sum_k t_k`, an impossible class left out of the second sum; as a target its quotient is 1."""
    impossible = xp.isinf(t)
    finite = xp.where(impossible, 0.0, t)
    largest = xp.stop_gradient(xp.max(finite, -1))[..., None]
    finite = finite / xp.where(largest == 0, 1.0, largest)  # so that the sum does not overflow
    total = xp.sum(finite, -1)[..., None]
    share = finite / xp.where(total == 0, 1.0, total)  # a class that is alone costs nothing
    return xp.sum(y * xp.where(impossible, 1.0, share), -1)


def _reverse_cross_entropy(t: Array, y: Array, clip: float, xp: Any) -> Array:
    """`-sum_j s_j max(log y_j, clip)`."""
    log_y = xp.log(xp.where(y > 0, y, 1.0))
    counted = xp.where((y > 0) & (log_y > clip), log_y, clip)
    return -xp.sum(xp.exp(-t) * counted, -1)
