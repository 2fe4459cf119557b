"""Two losses over the same seeds of one data set: tests, effect size, P(improvement).

All of it is descriptive: the verdict (`verdicts`) is drawn by Student's t alone, named in advance, so that nobody picks
the test with the smallest p. The exact tests stand beside it because they assume less: that signs of differences are
exchangeable under the null, and nothing of their distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

from adma.bench.errors import BenchError
from adma.bench.statistics.estimates import (
    RESAMPLES,
    SEED,
    Estimate,
    bootstrap_interval,
    check_level,
    checked,
    estimate,
    expanded_tail,
)

EXACT_PAIRS = 14  # up to so many pairs all 2^n signs are gone through
MONTE_CARLO = 2**EXACT_PAIRS  # beyond, so many drawn ones
_ROWS = 1024  # of signs that are numbers at once
_DIGITS = 12  # differences are compared to so many digits of the values: rounding makes no ties and breaks none


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test that paired differences are centred at 0.

    n: the pairs that entered; left_out: pairs without a difference that the test leaves out.
    p: None where no pair entered.
    method: "exact", "Monte Carlo" or "Student's t".
    least_p: the smallest p that so many pairs can give, whatever the values; needed: the pairs from which p can fall
        below alpha.
    """

    name: str
    n: int
    left_out: int
    p: float | None
    method: str
    least_p: float
    needed: int
    alpha: float

    @property
    def too_few(self) -> str:
        """Why this test cannot reject at alpha, in words; empty if it can."""
        if self.least_p < self.alpha:
            return ""
        ties = f" that differ ({self.left_out} do not)" if self.left_out else ""
        return (
            f"{self.name} cannot give p < {self.alpha:.4g} from {self.n} pair{'s' * (self.n != 1)}{ties}: its least p "
            f"there is {self.least_p:.2g}; {self.needed} pairs{' that differ' if self.left_out else ''} are needed"
        )


@dataclass(frozen=True)
class Effect:
    """The mean difference in standard deviations of the differences.

    d_z: Cohen's d_z = mean / sd. g: the same with Hedges' exact correction for few pairs, J(n - 1) d_z.
    """

    d_z: float
    g: float


@dataclass(frozen=True)
class Improvement:
    """P(improvement): that a run of the one loss beats a run of the other, both with seeds drawn at random; ties half.

    Agarwal et al. 2021 ("Deep RL at the Edge of the Statistical Precipice", Sec. 4.2): Mann-Whitney's U over n^2.
    interval: expanded percentile bootstrap that redraws seeds, both losses of a seed together; None for n < 2. It has
        width 0 where every run of one loss beats every run of the other, which does not mean certainty.
    """

    probability: float
    interval: tuple[float, float] | None
    level: float


@dataclass(frozen=True)
class Paired:
    """What two losses' common seeds say, beside the verdict. All differences are a - b in the metric's own unit."""

    estimate: Estimate
    bootstrap: tuple[float, float] | None
    t: PairedTest
    wilcoxon: PairedTest
    permutation: PairedTest
    effect: Effect | None
    improvement: Improvement | None

    @property
    def tests(self) -> tuple[PairedTest, ...]:
        return self.t, self.wilcoxon, self.permutation


def compare_pairs(
    a: Sequence[float], b: Sequence[float], *, higher_is_better: bool = True, level: float = 0.95, seed: int = SEED
) -> Paired:
    """Everything of two losses over n common seeds.

    Args:
        a, b: the metric of the two losses, shape (n,), the same seed at the same place.
        level: of the intervals; the tests speak of alpha = 1 - level.
        seed: of all resampling.

    Raises:
        BenchError: the shapes differ, a value is not finite, or level does not lie in (0, 1).
    """
    check_level(level)
    d = differences(a, b)
    alpha = 1 - level
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not higher_is_better:
        first, second = -first, -second
    return Paired(
        estimate=estimate(list(d), level),
        bootstrap=bootstrap_interval(list(d), level, seed=seed),
        t=t_test(d, alpha=alpha),
        wilcoxon=wilcoxon(d, alpha=alpha, seed=seed),
        permutation=sign_flip(d, alpha=alpha, seed=seed),
        effect=effect_size(d),
        improvement=_improvement(first, second, level, seed) if len(d) else None,
    )


def differences(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    """The differences a - b, rounded to 12 digits of the larger: 0.7 - 0.6 and 0.6 - 0.5 are the same difference.

    Raises:
        BenchError: the shapes differ, or a value is not finite.
    """
    first, second = checked(a, "a"), checked(b, "b")
    if len(first) != len(second):
        raise BenchError(f"a and b must hold the same seeds, got {len(first)} and {len(second)} values")
    if not len(first):
        return first
    scale = max(np.abs(first).max(), np.abs(second).max())
    if scale == 0:
        return first - second
    step = 10.0 ** (math.floor(math.log10(scale)) + 1 - _DIGITS)
    return np.round((first - second) / step) * step


def t_test(d: Sequence[float] | np.ndarray, *, alpha: float = 0.05, strict: bool = False) -> PairedTest:
    """Student's t of paired differences; where all are equal p is 0, or 1 if they are 0.

    Raises:
        BenchError: a value is not finite; with `strict`, fewer than 2 pairs.
    """
    d = checked(d, "differences")
    n = len(d)
    p = None if n < 2 else t_p(estimate(list(d), 1 - alpha))
    test = PairedTest("Student's t", n, 0, p, "Student's t", 1.0 if n < 2 else 0.0, 2, alpha)
    return _strictly(test, strict)


def t_p(e: Estimate) -> float:
    """Two-sided p of an estimate's mean against 0."""
    if e.sd == 0:
        return float(e.mean == 0)
    return float(2 * stats.t.sf(abs(e.mean) / (e.sd / math.sqrt(e.n)), e.n - 1))


def wilcoxon(
    d: Sequence[float] | np.ndarray, *, alpha: float = 0.05, strict: bool = False, seed: int = SEED
) -> PairedTest:
    """Wilcoxon's signed-rank test of paired differences, two-sided.

    Differences of 0 are left out and counted (Wilcoxon 1945, as R and scipy do); equal sizes share their mean rank.
    Exact: without shared ranks always (up to 50 pairs), with them up to EXACT_PAIRS pairs, given the ranks; beyond
    MONTE_CARLO drawn signs.

    Raises:
        BenchError: a value is not finite; with `strict`, too few pairs for any p < alpha.
    """
    d = checked(d, "differences")
    kept = d[d != 0]
    n, zeros = len(kept), int(np.sum(d == 0))
    least, needed = _sign_limits(n, alpha)
    if n == 0:
        return _strictly(PairedTest("Wilcoxon's signed-rank", 0, zeros, None, "exact", 1.0, needed, alpha), strict)
    ranks = stats.rankdata(np.abs(kept))
    if len(np.unique(ranks)) == n <= 50:
        p, method = float(stats.wilcoxon(kept, method="exact").pvalue), "exact"
    else:
        p, method = _all_signs(np.sign(kept) * ranks, seed)
    return _strictly(PairedTest("Wilcoxon's signed-rank", n, zeros, p, method, least, needed, alpha), strict)


def sign_flip(
    d: Sequence[float] | np.ndarray, *, alpha: float = 0.05, strict: bool = False, seed: int = SEED
) -> PairedTest:
    """The paired permutation test: the mean difference among all means that other signs would have given.

    Exact up to EXACT_PAIRS pairs, beyond with MONTE_CARLO drawn signs, the observed ones among them.

    Raises:
        BenchError: a value is not finite; with `strict`, too few pairs for any p < alpha.
    """
    d = checked(d, "differences")
    kept = d[d != 0]  # a 0 adds the same to every mean
    n, zeros = len(kept), int(np.sum(d == 0))
    least, needed = _sign_limits(n, alpha)
    if n == 0:
        return _strictly(PairedTest("paired permutation", 0, zeros, None, "exact", 1.0, needed, alpha), strict)
    p, method = _all_signs(kept, seed)
    return _strictly(PairedTest("paired permutation", n, zeros, p, method, least, needed, alpha), strict)


def _all_signs(x: np.ndarray, seed: int) -> tuple[float, str]:
    """Two-sided p of the sum of x among the sums under all signs, or under drawn ones and its own."""
    x = np.sort(x)  # drawn signs fall on the same values in whatever order these came
    signs = _signs(len(x), seed)
    sums = np.concatenate([signs[k : k + _ROWS] @ x for k in range(0, len(signs), _ROWS)])
    exact = len(x) <= EXACT_PAIRS
    observed, rounding = x.sum(), 1e-13 * np.abs(x).sum()
    least, greatest = np.sum(sums <= observed + rounding), np.sum(sums >= observed - rounding)
    p = (min(least, greatest) + (not exact)) / (len(sums) + (not exact))
    return min(1.0, 2 * float(p)), "exact" if exact else "Monte Carlo"


@lru_cache(maxsize=4)  # all losses of a study are asked with the same number of seeds
def _signs(n: int, seed: int) -> np.ndarray:
    """All 2^n rows of n signs, or so many drawn ones that MONTE_CARLO are there with the observed one."""
    if n <= EXACT_PAIRS:
        minus = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        minus = np.random.default_rng(seed).integers(2, size=(MONTE_CARLO - 1, n), dtype=np.int8)
    return (1 - 2 * minus).astype(np.int8)


def effect_size(d: Sequence[float] | np.ndarray) -> Effect | None:
    """Cohen's d_z and Hedges' g of paired differences; None for n < 3 or differences that are all equal.

    J(v) = Gamma(v / 2) / (sqrt(v / 2) Gamma((v - 1) / 2)), v = n - 1 (Hedges 1981).

    Raises:
        BenchError: a value is not finite.
    """
    e = estimate(list(checked(d, "differences")), 0.95)
    if e.n < 3 or e.sd == 0:
        return None
    v = e.n - 1
    correction = math.exp(special.gammaln(v / 2) - special.gammaln((v - 1) / 2)) / math.sqrt(v / 2)
    return Effect(e.mean / e.sd, correction * e.mean / e.sd)


def _improvement(a: np.ndarray, b: np.ndarray, level: float, seed: int) -> Improvement:
    """Of a over b, higher is better."""
    n = len(a)
    order = np.lexsort((b, a))  # the same seeds in another order have the same interval
    a, b = a[order], b[order]
    rising = np.argsort(b, kind="stable")
    below, not_above = (np.searchsorted(b[rising], a, side) for side in ("left", "right"))
    value = float(below.sum() + not_above.sum()) / (2 * n**2)
    if n < 2:
        return Improvement(value, None, level)
    counts = _redrawn(n, seed)
    upto = np.zeros((RESAMPLES, n + 1), dtype=np.int64)  # of the least k runs of b, how many are drawn
    np.cumsum(counts[:, rising], axis=1, out=upto[:, 1:])
    wins = np.einsum("rn,rn->r", counts, upto[:, below] + upto[:, not_above])
    tail = expanded_tail(n, level)
    low, high = np.quantile(wins / (2 * n**2), [tail, 1 - tail])
    return Improvement(value, (float(low), float(high)), level)


@lru_cache(maxsize=2)  # as `_signs`
def _redrawn(n: int, seed: int) -> np.ndarray:
    """How often each of n seeds is drawn, for each resample."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return drawn.astype(np.int32)


def _sign_limits(n: int, alpha: float) -> tuple[float, int]:
    """The least p of a two-sided test on the signs of n differences, 2 / 2^n, and the n that brings it below alpha."""
    needed = 1
    while 2.0 ** (1 - needed) >= alpha:
        needed += 1
    return min(1.0, 2.0 ** (1 - n)), needed


def _strictly(test: PairedTest, strict: bool) -> PairedTest:
    if strict and test.too_few:
        raise BenchError(test.too_few)
    return test
