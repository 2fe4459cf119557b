"""The asymmetric losses of Zhou, Liu, Jiang, Gao & Ji 2021, made for training on noisy labels.

"Asymmetric Loss Functions for Learning with Noisy Labels" (ICML 2021). They are functions of p, the true class's
probability, whose derivative in p stays between two bounds. So a class whose posterior is small enough beside the
largest gets p = 0 from the minimiser: what makes them robust is also why they tell no posteriors, convex or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy

from adma import _check
from adma.family import LINEAR, Array, Member, Range

# of the logarithm of a power: what exp takes with room to spare
_LOG_MAX = 700.0


def _check_power(name: str, base: float, power: float) -> None:
    if power * math.log(base) > _LOG_MAX:
        raise ValueError(f"{name} must be at most 1e304, got {base:g}^{power:g}: take a smaller q or a smaller a")


@dataclass(frozen=True)
class Asymmetric(Member):
    """What the three share: `-dL/dp` is bounded, so small posteriors leave no trace."""

    @property
    def steep(self) -> bool:
        return False


@dataclass(frozen=True)
class AsymmetricGeneralizedCrossEntropy(Asymmetric):
    """Asymmetric generalised cross-entropy (AGCE), `((a + 1)^q - (a + p)^q) / q` (Zhou 2021).

    Convex in p iff `q <= 1`; `q = 1` is 1 - p for any a; `a -> 0` is `(1 - p^q) / q`, generalised cross-entropy.

    Args:
        a: in (0, inf).
        q: in (0, inf).
    """

    a: float = 1.0
    q: float = 2.0
    name: ClassVar[str] = "agce"
    aliases: ClassVar[tuple[str, ...]] = ("asymmetric_generalized_cross_entropy",)
    space: ClassVar[Mapping[str, Range]] = {"a": Range(0.1, 10.0, log=True), "q": Range(0.1, 4.0, log=True)}

    def __post_init__(self) -> None:
        hint = "a -> 0 is generalised cross-entropy (gce)"
        object.__setattr__(self, "a", _check.real("a", self.a, low=0, open_low=True, hint=hint))
        object.__setattr__(self, "q", _check.real("q", self.q, low=0, open_low=True))
        _check_power("(a + 1)^q", self.a + 1.0, self.q)

    @property
    def convex(self) -> bool:
        return bool(self.q <= 1)

    @property
    def no_posterior(self) -> str:
        return LINEAR.format(self) if self.q == 1 else super().no_posterior

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        # log((a + p) / (a + 1)): by log1p of its distance from 0, but where that is far, as for a tiny a near p = 0
        gap = xp.expm1(-t) / (self.a + 1.0)
        near = xp.log1p(xp.where(gap > -0.5, gap, 0.0))
        ratio = xp.where(gap > -0.5, near, xp.log((self.a + xp.exp(-t)) / (self.a + 1.0)))
        return (self.a + 1.0) ** self.q * (-xp.expm1(self.q * ratio)) / self.q

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return xp.exp(self.log_slope(t, xp))

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return (self.q - 1.0) * xp.log(self.a + xp.exp(-t)) - t


@dataclass(frozen=True)
class AsymmetricUnhinged(Asymmetric):
    """Asymmetric unhinged loss (AUL, AUE in its code), `((a - p)^q - (a - 1)^q) / q` (Zhou 2021).

    Convex in p iff `q >= 1`; `q = 1` is 1 - p for any a.

    Args:
        a: in (1, inf).
        q: in (0, inf).
    """

    a: float = 1.5
    q: float = 0.9
    name: ClassVar[str] = "aue"
    aliases: ClassVar[tuple[str, ...]] = ("aul", "asymmetric_unhinged")
    space: ClassVar[Mapping[str, Range]] = {"a": Range(1.1, 10.0, log=True), "q": Range(0.1, 4.0, log=True)}

    def __post_init__(self) -> None:
        hint = "a - p must be positive"
        object.__setattr__(self, "a", _check.real("a", self.a, low=1, open_low=True, hint=hint))
        object.__setattr__(self, "q", _check.real("q", self.q, low=0, open_low=True))
        _check_power("a^q", self.a, self.q)

    @property
    def convex(self) -> bool:
        return bool(self.q >= 1)

    @property
    def no_posterior(self) -> str:
        return LINEAR.format(self) if self.q == 1 else super().no_posterior

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        # (a - p)^q (1 - ((a - 1) / (a - p))^q) / q: neither cancels nor overflows
        error = -xp.expm1(-t)
        share = -xp.expm1(-self.q * xp.log1p(error / (self.a - 1.0)))
        return ((self.a - 1.0) + error) ** self.q * share / self.q

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return xp.exp(self.log_slope(t, xp))

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return (self.q - 1.0) * xp.log((self.a - 1.0) - xp.expm1(-t)) - t


@dataclass(frozen=True)
class AsymmetricExponential(Asymmetric):
    """Asymmetric exponential loss (AEL), `exp(-p / a) - exp(-1 / a)` (Zhou 2021).

    The paper's `exp(-p / a)` less its value at p = 1, so that a sample that is surely right costs nothing; the
    gradient is the same. Convex in p for any a; times a, `a -> inf` is 1 - p.

    Args:
        a: in (0, inf).
    """

    a: float = 2.5
    name: ClassVar[str] = "aexp"
    aliases: ClassVar[tuple[str, ...]] = ("ael", "asymmetric_exponential")
    space: ClassVar[Mapping[str, Range]] = {"a": Range(0.3, 10.0, log=True)}

    def __post_init__(self) -> None:
        object.__setattr__(self, "a", _check.real("a", self.a, low=0, open_low=True))

    @property
    def convex(self) -> bool:
        return True

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        return xp.exp(-xp.exp(-t) / self.a) * -xp.expm1(xp.expm1(-t) / self.a)

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return xp.exp(self.log_slope(t, xp))

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        log_a = math.log(self.a) if isinstance(self.a, float) else xp.log(self.a)
        return -xp.exp(-t) / self.a - log_a - t
