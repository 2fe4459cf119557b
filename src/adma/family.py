"""The family: losses that are a scalar function of the negative log-likelihood.

With `p` the true class's probability and `t = -log p >= 0` its negative log-likelihood (nats), a member is
`L = psi(t)` with `psi(0) = 0` and `psi' >= 0`. Whatever computes `t` and its gradient computes every member:

    dL/dz_j = psi'(t) (softmax(z)_j - [j = y])

so `psi'`, the *slope*, is the weight of a sample relative to cross-entropy. A member is a frozen dataclass
with these two functions. They are written once, against a namespace `xp` (NumPy, JAX's NumPy, or a
framework's adapter) that has `exp, expm1, log, log1p, where`, and take any `t` in [0, inf].

Rules that keep a member exact (`adma.testing.check_member` holds yours to them):
  * write differences from 1 by `expm1`, so that easy samples (t near 0) keep their relative accuracy;
  * no `0 * inf`: psi and slope must be finite or their true limit at t = 0 and t = inf;
  * the slope in its own closed form, not as a difference.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy

from adma import _check

Array = Any  # an array of the namespace's own kind
_Self = TypeVar("_Self", bound="Loss")

# exp(-t) is 0 in float64 beyond it: a bound for the factor t in products t * exp(-t), whose limit is 0
_T_MAX = 800.0


@dataclass(frozen=True)
class Range:
    """Where a parameter is worth searching, and within what it is learned.

    log: steps are ratios. whole: whole numbers only.
    optional: searched only when asked for by name.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Loss:
    """What a spec such as `adma:a=0.26` stands for: a name with checked parameters.

    space: parameter -> its range, for a search (`adma tune`) and for learning it in training.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    space: ClassVar[Mapping[str, Range]] = {}

    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def no_posterior(self) -> str:
        """Why class posteriors cannot be recovered from a network trained with this loss; empty if they can."""
        return ""

    def bind(self: _Self, **values: Any) -> _Self:
        """A copy with some parameters replaced, unchecked: for values that are arrays (learned, scheduled).

        Raises:
            TypeError: the loss has no such parameter.
        """
        unknown = set(values) - set(self.parameters())
        if unknown:
            raise TypeError(f"{self.name} has no parameter {sorted(unknown)[0]!r}; it has {list(self.parameters())}")
        copy = object.__new__(type(self))
        for key, value in {**self.parameters(), **values}.items():
            object.__setattr__(copy, key, value)
        return copy


@dataclass(frozen=True)
class Member(Loss):
    """A loss that is a scalar function of the negative log-likelihood. Subclass it, and `register` it."""

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        """The loss at negative log-likelihood `t` (any shape, nats, in [0, inf])."""
        raise NotImplementedError

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        """`psi'(t)`: the sample's weight relative to cross-entropy."""
        raise NotImplementedError

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        """`log psi'(t)`; override it where the slope underflows before its logarithm does."""
        return xp.log(self.slope(t, xp))

    @property
    def supremum(self) -> float:
        """The limit of psi for t -> inf: what a hopeless sample costs."""
        return float(self.psi(numpy.float64(numpy.inf), numpy))

    @property
    def slope_at_zero(self) -> float:
        """The limit of the slope for t -> 0: the weight of a sample that is surely right."""
        return float(self.slope(numpy.float64(0.0), numpy))

    @property
    def convex(self) -> bool:
        """Whether the loss is convex in p on (0, 1]. By default looked at on a grid; give the exact answer."""
        p = numpy.linspace(1e-6, 1.0, 20_001)
        rate = self.slope(-numpy.log(p), numpy) / p  # -dL/dp, falling in p where L is convex
        return bool(numpy.all(numpy.diff(rate) <= 1e-9 * numpy.abs(rate[1:])))

    @property
    def steep(self) -> bool:
        """Whether `-dL/dp` grows without bound for p -> 0. By default looked at far out; give the exact answer."""
        with numpy.errstate(divide="ignore"):
            near, far = (float(self.log_slope(numpy.float64(t), numpy)) + t for t in (300.0, 600.0))
        return far - near > 1e-9

    @property
    def no_posterior(self) -> str:
        """Why class posteriors cannot be recovered from a network trained with this loss; empty if they can.

        They can where the loss is strictly convex in p and steep: the minimiser at a point with class posteriors
        eta then satisfies `eta_j proportional to p_j / psi'(-log p_j)`. Where it is not steep, the minimiser is
        p = 0 for every class whose posterior is small enough beside the largest.
        """
        if not self.convex:
            return f"{self} is not convex in p, so its minimiser does not determine the posteriors"
        return "" if self.steep else NOT_STEEP.format(self)


@dataclass(frozen=True)
class CrossEntropy(Member):
    """Cross-entropy, `psi(t) = t`."""

    name: ClassVar[str] = "cce"
    aliases: ClassVar[tuple[str, ...]] = ("ce", "cross_entropy")

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        return t

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return 1.0 + 0.0 * xp.exp(-t)

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return 0.0 * xp.exp(-t)

    @property
    def convex(self) -> bool:
        return True

    @property
    def steep(self) -> bool:
        return True


@dataclass(frozen=True)
class Adma(Member):
    """Adma, `L = b - b^(p^a)`, with `b = e` the loss of the paper (A. Shrivastava 2020, eq. 5).

    Args:
        a: the scaling factor, in (0, inf). Convex in p iff `a <= 1 / (1 + ln base)`, which is 1/2 for base e.
        base: b, in (1, inf).
        normalize: divide by `a * ln(b) * b`, which makes the slope 1 at p = 1, as cross-entropy's is: a
            learning rate tuned for cross-entropy carries over. Then `a -> 0` is cross-entropy for any base and
            `base -> 1` is generalised cross-entropy with q = a.
    """

    a: float = 0.26
    base: float = math.e
    normalize: bool = False
    name: ClassVar[str] = "adma"
    space: ClassVar[Mapping[str, Range]] = {
        "a": Range(0.01, 0.5, log=True),  # beyond 0.5 the loss of base e is not convex in p
        "base": Range(1.05, 20.0, log=True, optional=True),
    }

    def __post_init__(self) -> None:
        for key, value in self.checked(self.a, self.base, self.normalize).items():
            object.__setattr__(self, key, value)
        if not self.convex:
            warnings.warn(
                f"Adma with a = {self.a} is not convex in p: a is past 1/(1 + ln base) = {self.convex_limit}. "
                "Training may stall on hard samples, and posteriors cannot be recovered.",
                stacklevel=3,
            )

    @staticmethod
    def checked(a: float, base: float, normalize: bool) -> dict[str, Any]:
        """The parameters, checked, without the warning past the convex range."""
        zero = "at a = 0 the loss b - b^(p^0) is zero everywhere, so nothing is learned"
        return {
            "a": _check.real("a", a, low=0, open_low=True, hint=zero),
            "base": _check.real("base", base, low=1, open_low=True),
            "normalize": _check.boolean("normalize", normalize),
        }

    def _c(self, xp: Any) -> Any:
        return math.log(self.base) if isinstance(self.base, float) else xp.log(self.base)

    @property
    def convex_limit(self) -> float:
        """The largest a for which the loss is convex in p: `1 / (1 + ln base)`."""
        return 1.0 / (1.0 + math.log(self.base))

    @property
    def convex(self) -> bool:
        return bool(self.a <= self.convex_limit)

    @property
    def steep(self) -> bool:
        return bool(self.a < 1)

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        c = self._c(xp)
        scale = 1.0 / (self.a * c) if self.normalize else self.base
        return -scale * xp.expm1(c * xp.expm1(-self.a * t))

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        c = self._c(xp)
        scale = 1.0 if self.normalize else self.a * c * self.base
        return scale * xp.exp(-self.a * t) * xp.exp(c * xp.expm1(-self.a * t))

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        c = self._c(xp)
        scale = 1.0 if self.normalize else self.a * c * self.base
        shift = math.log(scale) if isinstance(scale, float) else xp.log(scale)
        return shift - self.a * t + c * xp.expm1(-self.a * t)


@dataclass(frozen=True)
class GeneralizedCrossEntropy(Member):
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu 2018); q -> 0 is cross-entropy, q = 1 is 1 - p.

    Args:
        q: in (0, 1].
    """

    q: float = 0.7
    name: ClassVar[str] = "gce"
    aliases: ClassVar[tuple[str, ...]] = ("generalized_cross_entropy",)
    space: ClassVar[Mapping[str, Range]] = {"q": Range(0.02, 1.0, log=True)}

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "q",
            _check.real("q", self.q, low=0, high=1, open_low=True, hint="q -> 0 is cross-entropy (cce)"),
        )

    @property
    def convex(self) -> bool:
        return True

    @property
    def steep(self) -> bool:
        return bool(self.q < 1)

    @property
    def no_posterior(self) -> str:
        return "" if self.steep else LINEAR.format(self)

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        return -xp.expm1(-self.q * t) / self.q

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return xp.exp(-self.q * t)

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return -self.q * t


@dataclass(frozen=True)
class MeanAbsoluteError(Member):
    """Mean absolute error of the probabilities, `sum_j |s_j - y_j| = 2 (1 - p)` (Ghosh 2017)."""

    name: ClassVar[str] = "mae"
    aliases: ClassVar[tuple[str, ...]] = ("mean_absolute_error",)

    @property
    def convex(self) -> bool:
        return True

    @property
    def no_posterior(self) -> str:
        return LINEAR.format(self)

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        return -2.0 * xp.expm1(-t)

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return 2.0 * xp.exp(-t)

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return math.log(2.0) - t


@dataclass(frozen=True)
class Focal(Member):
    """Focal loss, `(1 - p)^gamma * t` (Lin 2017).

    Args:
        gamma: in [0, inf); 0 is cross-entropy.
    """

    gamma: float = 2.0
    name: ClassVar[str] = "focal"
    space: ClassVar[Mapping[str, Range]] = {"gamma": Range(0.05, 5.0, log=True)}

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", _check.real("gamma", self.gamma, low=0))

    @property
    def convex(self) -> bool:
        return True

    @property
    def steep(self) -> bool:
        return True

    @staticmethod
    def _error(t: Array, xp: Any) -> Array:
        """1 - p, kept off 0 so that its powers and logarithm, and their derivatives, stay finite."""
        error = -xp.expm1(-xp.where(t < _T_MAX, t, _T_MAX))
        return xp.where(error > 1e-300, error, 1e-300)

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        return self._error(t, xp) ** self.gamma * t

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        return self._error(t, xp) ** self.gamma * self._bend(t, xp)

    def log_slope(self, t: Array, xp: Any = numpy) -> Array:
        return self.gamma * xp.log(self._error(t, xp)) + xp.log(self._bend(t, xp))

    def _bend(self, t: Array, xp: Any) -> Array:
        """1 + gamma p t / (1 - p); the ratio t / (1 - p) is taken to its limit at t = 0."""
        bounded = xp.where(t < _T_MAX, t, _T_MAX)
        safe = xp.where(bounded > 1e-4, bounded, 1.0)
        ratio = xp.where(bounded > 1e-4, safe / -xp.expm1(-safe), 1.0 + bounded * (0.5 + bounded / 12.0))
        return 1.0 + self.gamma * xp.exp(-bounded) * ratio


@dataclass(frozen=True)
class Poly1(Member):
    """Poly-1 cross-entropy, `t + epsilon (1 - p)` (Leng 2022).

    Args:
        epsilon: in [-1, inf); below -1 the loss would fall with the error.
    """

    epsilon: float = 1.0
    name: ClassVar[str] = "poly1"
    space: ClassVar[Mapping[str, Range]] = {"epsilon": Range(-1.0, 8.0)}

    def __post_init__(self) -> None:
        hint = "below -1 the slope 1 + epsilon p would be negative"
        object.__setattr__(self, "epsilon", _check.real("epsilon", self.epsilon, low=-1, hint=hint))

    @property
    def convex(self) -> bool:
        return True

    @property
    def steep(self) -> bool:
        return True

    def psi(self, t: Array, xp: Any = numpy) -> Array:
        # near t = 0 the two terms cancel if epsilon is near -1: there (1 + epsilon) t - epsilon (t - (1 - p))
        small = xp.where(t < _T_SMALL, t, 0.0)
        near = (1.0 + self.epsilon) * small - self.epsilon * _t_minus_error(small)
        return xp.where(t < _T_SMALL, near, t - self.epsilon * xp.expm1(-t))

    def slope(self, t: Array, xp: Any = numpy) -> Array:
        near = (1.0 + self.epsilon) + self.epsilon * xp.expm1(-t)
        return xp.where(t < _T_SMALL, near, 1.0 + self.epsilon * xp.exp(-t))


# why there are no posteriors, of a loss
NOT_STEEP = (
    "{} gives the same minimiser, probability 0, for every class whose posterior is below a threshold, so the "
    "posteriors cannot be recovered"
)
LINEAR = "{} is linear in p: its minimiser puts everything on the most probable class, whatever the other posteriors"
_T_SMALL = 0.5


def _t_minus_error(t: Array) -> Array:
    """T - (1 - exp(-t)) for 0 <= t <= 1/2 by its series, t^2/2 (1 - t/3 (1 - t/4 (1 - ...)))."""
    series: Array = 1.0
    for n in range(17, 2, -1):
        series = 1.0 - t / n * series
    return 0.5 * t * t * series
