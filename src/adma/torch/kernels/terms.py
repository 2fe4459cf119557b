"""The terms of a row, as plain differentiable operations: the mathematics that every engine must agree with.

Everything here is exact to every order of differentiation, and goes through autograd, forward mode,
`torch.func` and `torch.compile` alike, because it is made of ordinary operators only.

Rows are computed in float64 where the device has it: a row is one number in C, so this costs next to nothing,
and it keeps `exp(-a t)` exact for large t, where the rounding of t alone would cost 4e-6 in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Shape(Protocol):
    """What a kernel asks of a member: two scalar functions of t."""

    def psi(self, t: Any, xp: Any) -> Any: ...

    def slope(self, t: Any, xp: Any) -> Any: ...


class Namespace:
    """The operators that `adma.family` asks of its `xp`."""

    exp = staticmethod(torch.exp)
    log = staticmethod(torch.log)
    log1p = staticmethod(torch.log1p)
    where = staticmethod(torch.where)

    @staticmethod
    def expm1(x: Tensor) -> Tensor:
        """The value of expm1 with the derivatives of exp.

        torch.expm1's own backward is `result + 1`, which cancels to 0 for x < -37 (float64).
        """
        e = torch.exp(x)
        return torch.expm1(x).detach() + (e - e.detach())


class PlainNamespace(Namespace):
    """The same without derivatives, for engines that write their own."""

    @staticmethod
    def expm1(x: Tensor) -> Tensor:
        """Torch's own."""
        return torch.expm1(x)


xp, plain_xp = Namespace(), PlainNamespace()


def row_dtype(device: torch.device) -> torch.dtype:
    """The type of a row: float64, but on devices that have none."""
    return torch.float32 if device.type in ("mps", "xla", "privateuseone") else torch.float64


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of the arithmetic on logits: half types are accumulated in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gap_error(z: Tensor, level: Tensor, gap: Tensor) -> Tensor:
    """What rounding took from `gap = z - level`, exactly (Knuth's two-sum), 0 where the exponential is 0 anyway.

    `exp(gap) * (1 + error)` is then exact to a few units in the last place for any gap; `exp(gap)` alone loses
    5e-6 at a gap of 80 in float32.
    """
    back = gap - z
    error = (z - (gap - back)) - (level + back)
    return torch.where(gap > -110.0, error, torch.zeros_like(error))


def log_odds(z: Tensor, target: Tensor) -> Tensor:
    """`log((1 - p) / p)` of the true class: `log sum_{j != y} exp(z_j - z_y)`.

    The true class is left out of the sum, so both tails keep their relative accuracy: `t = log1p(exp(u))`,
    `1 - p = sigmoid(u)`.

    Args:
        z: logits (N, C, M), of a floating type.
        target: class indices (N, M) in [0, C).

    Returns:
        (N, M), in `row_dtype`; -inf where no other class is possible, +inf where the true one is not.
    """
    rows = row_dtype(z.device)
    z = z.to(compute_dtype(z.dtype))
    _, level, total = _others(z, target)
    true = z.gather(1, target.unsqueeze(1)).squeeze(1)
    total = total.to(rows)
    alone = total == 0  # a single class, or all others masked
    log_total = torch.where(alone, float("-inf"), torch.log(torch.where(alone, 1.0, total)))
    return level.to(rows) - true.to(rows) + log_total


def log_odds_gradient(z: Tensor, target: Tensor) -> Tensor:
    """The gradient of `log_odds` in the logits: the softmax over the other classes, and -1 at the true one.

    Args:
        z: logits (N, C, M).
        target: class indices (N, M).

    Returns:
        (N, C, M), in `compute_dtype`.
    """
    e, _, total = _others(z.to(compute_dtype(z.dtype)), target)
    alone = total == 0
    share = torch.where(alone.unsqueeze(1), 0.0, e / torch.where(alone, 1.0, total).unsqueeze(1))
    return share.scatter(1, target.unsqueeze(1), -1.0)


def _others(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`exp(z - level)` with 0 at the true class (N, C, M), the level and the sum (N, M)."""
    others = z.scatter(1, target.unsqueeze(1), float("-inf"))
    level = others.detach().amax(1, keepdim=True)
    level = torch.where(level == float("-inf"), torch.zeros_like(level), level)
    gap = others - level
    e = torch.exp(gap)
    if z.dtype == torch.float32:
        e = e + e * gap_error(others.detach(), level, gap.detach())
    return e, level.squeeze(1), e.sum(1)


def softplus(u: Tensor) -> Tensor:
    """`log(1 + exp(u))` without torch's threshold, exact in both tails and at 0, with finite derivatives."""
    below = torch.where(u > 0, -u, u)
    return torch.log1p(torch.exp(below)) + torch.where(u > 0, u, torch.zeros_like(u))


def nll_all(z: Tensor) -> Tensor:
    """`-log softmax(z)` over dim 1 of (N, C, M), for every class, with full relative accuracy near 0 too."""
    rows = row_dtype(z.device)
    z = z.to(rows if z.dtype in (torch.float32, torch.float64) else torch.float32)
    top = z.detach().argmax(1, keepdim=True)
    gap = (z.gather(1, top) - z).scatter(1, top, 0.0)
    rest = torch.exp(-gap).scatter(1, top, 0.0)
    return torch.log1p(rest.sum(1, keepdim=True)) + gap


def at_probability(function: Callable[[Tensor], Tensor], p: Tensor) -> Tensor:
    """`function(t)` at `t = -log p` of a given probability, with a gradient that is never NaN.

    Below the smallest normal number of p's type the gradient in p, which may be infinite there, is the one at
    that number; the value is exact.
    """
    tiny = torch.finfo(p.dtype).tiny
    p = p.to(row_dtype(p.device))
    lifted = torch.where(p < tiny, p + (tiny - p).detach(), p)
    loss = function(-torch.log(lifted))
    exact = function(-torch.log(p.detach()))
    return loss + torch.where(exact == loss, torch.zeros_like(loss), exact - loss).detach()


def weighed(share: Tensor, cost: Tensor) -> Tensor:
    """`share * cost`, where no share of an infinite cost is 0, with derivatives in both."""
    return share * torch.where((share == 0) & cost.isinf(), torch.zeros_like(cost), cost)
