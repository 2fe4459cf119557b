"""Taylor cross-entropy: cross-entropy's series in 1 - p, cut off, between 1 - p and cross-entropy itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy

from adma import _check
from adma.family import LINEAR, Array, Member, Range

_MOST = 1000


@dataclass(frozen=True)
class TaylorCrossEntropy(Member):
    """Taylor cross-entropy, `sum_(i = 1..order) (1 - p)^i / i` (Feng, Shu, Lin, Lv, Li & An 2020).

    Order 1 is 1 - p, `order -> inf` is cross-entropy. Convex in p. Each order costs one more pass over the rows.

    Args:
        order: a whole number in [1, 1000].
    """

    order: int = 2
    name: ClassVar[str] = "taylor"
    aliases: ClassVar[tuple[str, ...]] = ("taylor_cross_entropy",)
    space: ClassVar[Mapping[str, Range]] = {"order": Range(1, 20, log=True, whole=True)}

    def __post_init__(self) -> None:
        hint = "order -> inf is cross-entropy (cce)"
        object.__setattr__(self, "order", _check.whole("order", self.order, low=1, high=_MOST, hint=hint))

    @property
    def convex(self) -> bool:
        return True

    @property
    def steep(self) -> bool:
        return False  # -dL/dp is the order at p = 0

    @property
    def no_posterior(self) -> str:
        return LINEAR.format(self) if self.order == 1 else super().no_posterior

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        error = -xp.expm1(-t)
        series: Array = 1.0 / self.order
        for i in range(self.order - 1, 0, -1):
            series = 1.0 / i + error * series
        return error * series

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return xp.exp(-t) * self._rate(t, xp)

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return xp.log(self._rate(t, xp)) - t

    def _rate(self, t: Array, xp: Any) -> Array:
        """`-dL/dp = 1 + (1 - p) + ... + (1 - p)^(order - 1)`: the slope 1 - (1 - p)^order over p, without its 0 / 0."""
        error = -xp.expm1(-t)
        rate = 1.0 + 0.0 * error
        for _ in range(self.order - 1):
            rate = 1.0 + error * rate
        return rate
