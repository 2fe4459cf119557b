"""From a row of logits to its loss, once for every array library that differentiates by itself: JAX, Keras.

Like the family it is written against a namespace `xp`, which has here besides `exp, expm1, log, log1p, where`:
`arange, argmax, isinf, max, sum` and `stop_gradient`. Classes are the last axis. `expm1` must have the derivatives of
`exp` (`result + 1`, which most libraries take, cancels to 0 for hard samples): then everything here is exact to every
order of differentiation.

Logits may be infinite. The result is the limit in which equal infinities are equal logits, so nothing is NaN but what
comes from NaN.
"""

from __future__ import annotations

from typing import Any

from adma.family import Array, Member

_INF = float("inf")


def hot(index: Array, classes: int, xp: Any) -> Array:
    """Class indices (...) as bool (..., C); a row of False for an index outside [0, C)."""
    return index[..., None] == xp.arange(classes)


def difference(x: Array, y: Array, xp: Any) -> Array:
    """`x - y`, 0 where both are the same infinity."""
    return xp.where((x == y) & xp.isinf(x), 0.0, x - y)


def log_odds(z: Array, true: Array, xp: Any) -> Array:
    """`log((1 - p) / p) = log sum_{j != y} exp(z_j - z_y)`, (...), of logits (..., C) and the true class as bool.

    The true class is left out of the sum, so both tails keep their relative accuracy: `t = softplus(u)`,
    `1 - p = sigmoid(u)`. It is -inf for a class that is alone.
    """
    others = xp.where(true, -_INF, z)
    level = xp.stop_gradient(xp.max(others, -1))
    rest = xp.where(true, 0.0, xp.exp(difference(others, level[..., None], xp)))
    total = xp.sum(rest, -1)
    alone = total == 0
    gap = difference(level, xp.sum(xp.where(true, z, 0.0), -1), xp)
    return xp.where(alone, -_INF, gap + xp.log(xp.where(alone, 1.0, total)))


def softplus(u: Array, xp: Any) -> Array:
    """`log(1 + exp(u))`, exact in both tails and at 0, with finite derivatives."""
    return xp.log1p(xp.exp(xp.where(u > 0, -u, u))) + xp.where(u > 0, u, 0.0)


def nll(z: Array, xp: Any) -> Array:
    """`-log softmax(z)` of every class, (..., C), with full relative accuracy near 0 too."""
    top = hot(xp.argmax(z, -1), z.shape[-1], xp)
    peak = xp.sum(xp.where(top, z, 0.0), -1)[..., None]
    gap = xp.where(top, 0.0, difference(peak, z, xp))
    rest = xp.where(top, 0.0, xp.exp(-gap))
    return xp.log1p(xp.sum(rest, -1))[..., None] + gap


def weighed(share: Array, cost: Array, xp: Any) -> Array:
    """`share * cost`, where no share of an infinite cost is 0, with derivatives in both."""
    return share * xp.where((share == 0) & xp.isinf(cost), 0.0, cost)


def index_loss(member: Member, z: Array, true: Array, xp: Any) -> Array:
    """`psi(t)` of the true class: (...) of logits (..., C) and bool (..., C)."""
    return member.psi(softplus(log_odds(z, true, xp), xp), xp)


def soft_loss(member: Member, t: Array, y: Array, xp: Any) -> Array:
    """`sum_j y_j psi(t_j)`: (...) of every class's `t = -log p` and probabilities y (..., C)."""
    return xp.sum(weighed(y, member.psi(t, xp), xp), -1)


def binary_loss(member: Member, z: Array, y: Array, xp: Any) -> Array:
    """`y psi(softplus(-z)) + (1 - y) psi(softplus(z))` of one logit a label, y in [0, 1]."""
    on, off = (member.psi(softplus(u, xp), xp) for u in (-z, z))
    return weighed(y, on, xp) + weighed(1.0 - y, off, xp)


def at_probability(function: Any, p: Array, tiny: float, xp: Any) -> Array:
    """`function(t)` at `t = -log p` of given probabilities, with a gradient that is never NaN.

    Below `tiny`, the smallest normal number of p's type, the gradient in p, which may be infinite there, is the one
    at that number; the value is exact.
    """
    loss = function(-xp.log(xp.where(p < tiny, p + xp.stop_gradient(tiny - p), p)))
    exact = function(-xp.log(xp.stop_gradient(p)))
    return loss + xp.stop_gradient(xp.where(exact == loss, 0.0, exact - loss))


def posterior(member: Member, t: Array, xp: Any) -> Array:
    """`eta_j proportional to p_j / psi'(t_j)`, normalised over the classes, of every class's `t = -log p`."""
    possible = t < _INF  # a masked class stays impossible; its own terms are inf - inf
    finite = xp.where(possible, t, 1.0)
    log_eta = -finite - member.log_slope(finite, xp)
    return xp.exp(-nll(xp.where(possible, log_eta, -_INF), xp))


def binary_posterior(member: Member, z: Array, xp: Any) -> Array:
    """The posterior of the positive label, of one logit a label."""
    finite = xp.where(xp.isinf(z), 0.0, z)
    slopes = (member.log_slope(softplus(u, xp), xp) for u in (-finite, finite))
    odds = finite - next(slopes) + next(slopes)
    return xp.exp(-softplus(xp.where(xp.isinf(z), -z, -odds), xp))
