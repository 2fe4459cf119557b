"""Verdicts while seeds are added: an error rate that holds at whatever look one stops.

Fixed-n tests promise alpha for one look at a number of seeds named in advance. Looking again and again and stopping
when p < 0.05 promises nothing. Here the t test is replaced by a *confidence sequence*: intervals for every n at once
that all hold the true mean with probability 1 - alpha.

The method: the Bayes factor of a t test with a normal prior N(0, g) on the standardised effect and the right Haar
prior on the scale is, under a normal model with any mean m and any variance, a nonnegative martingale with mean 1 in
the filtration of the scale-invariant statistics (Lai 1976; Hendriksen, de Heide and Gruenwald 2021; Wang and Ramdas
2024, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance"). With
t = sqrt(n) (mean - m) / s and v = n - 1 it is

    BF_n(m) = (1 + n g)^(-1/2) [(1 + t^2 / v) / (1 + t^2 / (v (1 + n g)))]^(n / 2)

By Ville's inequality it ever reaches 1 / alpha with probability at most alpha. Every m with BF_n(m) >= 1 / alpha is
left out; solved for m, what is left has the half-width

    s / sqrt(n) sqrt(v x),  x = (A - 1) / (1 - A / (1 + n g)),  A = (sqrt(1 + n g) / alpha)^(2 / n),

infinite where A >= 1 + n g. What was left out once stays out, so the interval is the intersection over all n so far.
Better or worse: it excludes 0. Equivalent: it lies within the rope. Several losses against one baseline share alpha
equally. So a false verdict, of any loss at any look, has a probability of at most alpha.

g = 1, the unit-information prior: among 1/4 to 4 it decides about as early as any between 5 and 40 seeds. With
alpha = 0.05 / 3 (four losses) and effects of 0.75, 1, 1.5, 2 and 3 standard deviations the median seeds to a verdict
are 24, 15, 10, 8 and 7 (g = 1/4: 25, 17.5, 13, 11, 10; g = 4: 25, 16, 9, 7, 6), and 6 is the first number of seeds
that can decide.

What simulation finds (20,000 sequences each, a look at every n from 3 to 60, alpha = 0.05, true mean 0, share with a
false better or worse):

    normal                                        0.025
    accuracies at 97% of 360 test samples         0.027
    accuracies at 99% of 360 test samples         0.026
    counts that mostly tie (Poisson 0.05 to 0.5)  0.000 to 0.017
    Laplace, t with 3 and with 2 degrees          0.013 to 0.015
    uniform                                       0.040
    lognormal, sigma 0.5                          0.076
    exponential                                   0.116
    lognormal, sigma 1                            0.22
    a collapse in 1 seed of 5, of 10              0.31, 0.57

With the true mean at the rope's edge, share of false equivalent: normal 0.013 and less, Poisson counts 0.04 and less,
exponential 0.06. So discreteness, ties and heavy tails cost nothing; *skewness does*: a loss that collapses in one seed
of ten and gains a little in the others is judged by the gain until the first collapse, as it would be by any t test.
Runs that diverge enter no mean; they are named beside the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adma.bench.errors import BenchError
from adma.bench.statistics.estimates import Estimate, checked, estimate
from adma.bench.statistics.verdicts import (
    BETTER,
    EQUIVALENT,
    FURTHER_CAP,
    MIN_SEEDS,
    UNDECIDED,
    WORSE,
    check_rope,
)

G = 1.0


@dataclass(frozen=True)
class Watched:
    """One loss against the baseline, watched after every seed.

    verdict: BETTER, WORSE, EQUIVALENT or UNDECIDED; once decided it stays.
    decided_at: the seeds that it took; None while undecided.
    estimate: of all differences so far; its interval is the confidence sequence, None while it is infinite: with few
        seeds, or as long as all differences are equal, which shows no spread to judge by.
    p: the anytime-valid p of "no difference": the least 1 / BF_n(0) so far, at most 1.
    negligible: better or worse, yet the interval lies within the rope.
    constant: all differences are equal.
    broken: the sequence became empty, so that the seeds are hardly all draws from one normal distribution; the interval
        is the last that was not empty.
    further: more seeds after which the sequence would decide, were mean and sd those observed; 0 if decided, None if
        more than FURTHER_CAP or if nothing can be projected. Where they are the true ones it has decided by then in two
        of three simulations, so this promises less than `Judgement.further`.
    """

    verdict: str
    decided_at: int | None
    estimate: Estimate
    p: float
    rope: float
    negligible: bool
    constant: bool
    broken: bool
    further: int | None

    @property
    def decided(self) -> bool:
        return self.verdict != UNDECIDED


def half_width(n: int | np.ndarray, sd: float | np.ndarray, alpha: float, g: float = G) -> np.ndarray:
    """Half the width of the confidence sequence after n values of standard deviation sd, without the intersection.

    Infinite for n < 2, while the values cannot yet exclude anything, and for sd = 0.
    """
    count = np.asarray(n, dtype=np.float64)
    inflation = 1 + count * g
    with np.errstate(all="ignore"):
        a = (np.sqrt(inflation) / alpha) ** (2 / count)
        x = (a - 1) / (1 - a / inflation)
        half = np.asarray(sd) / np.sqrt(count) * np.sqrt((count - 1) * x)
    return np.where((count >= 2) & (a < inflation) & (np.asarray(sd) > 0), half, np.inf)


def bayes_factor(n: int | np.ndarray, mean: float | np.ndarray, sd: float | np.ndarray, g: float = G) -> np.ndarray:
    """BF_n(0), the evidence against a mean of 0; 1 for n < 2 and for sd = 0, where it is not defined."""
    count = np.asarray(n, dtype=np.float64)
    with np.errstate(all="ignore"):
        u = count * np.asarray(mean) ** 2 / np.asarray(sd) ** 2 / (count - 1)
        ratio = np.log1p(u) - np.log1p(u / (1 + count * g))
        log = -0.5 * np.log1p(count * g) + count / 2 * ratio
        value = np.exp(np.minimum(log, 700.0))
    return np.where((count >= 2) & (np.asarray(sd) > 0), value, 1.0)


def confidence_sequence(d: Sequence[float] | np.ndarray, alpha: float, g: float = G) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends after each of n >= MIN_SEEDS values, running intersection included; shape (..., n).

    Args:
        d: values along the last axis, in the order in which they came.

    Raises:
        BenchError: alpha does not lie in (0, 1), g is not above 0, or a value is not finite.
    """
    if not 0.0 < alpha < 1.0:
        raise BenchError(f"alpha must lie between 0 and 1, both excluded, got {alpha!r}; usual is 0.05")
    if not 0.0 < g < math.inf:
        raise BenchError(f"g, the prior variance of the standardised effect, must be above 0, got {g!r}")
    x = np.asarray(d, dtype=np.float64)
    if not np.isfinite(x).all():
        raise BenchError("differences must be finite; leave out the seeds that gave no number, and say so")
    n, mean, sd = _running(x)
    half = np.where(n >= MIN_SEEDS, half_width(n, sd, alpha, g), np.inf)
    return np.maximum.accumulate(mean - half, axis=-1), np.minimum.accumulate(mean + half, axis=-1)


def watch(
    differences: Sequence[float] | np.ndarray,
    *,
    rope: float,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    g: float = G,
) -> Watched:
    """The verdict after these seeds.

    Args:
        differences: loss minus baseline over their common seeds, in the seeds' order; as `paired.differences` gives
            them.
        rope: half the width of the region of practical equivalence, in the metric's unit.
        alpha: the chance of a false verdict; of several losses, each one's share.

    Raises:
        BenchError: a value is not finite; rope, alpha or g cannot be.
    """
    d = checked(differences, "differences")
    check_rope(rope)
    low, high = confidence_sequence(d, alpha, g)
    empty = np.flatnonzero(low > high)
    if len(empty):
        low, high = low[: empty[0]], high[: empty[0]]
    decided = np.flatnonzero((low > 0) | (high < 0) | ((low > -rope) & (high < rope)))
    verdict, at = UNDECIDED, None
    if len(decided):
        first = int(decided[0])
        at = first + 1
        if low[first] > 0 or high[first] < 0:
            verdict = BETTER if (low[first] > 0) == higher_is_better else WORSE
        else:
            verdict = EQUIVALENT
    found = estimate(list(d), 1 - alpha)
    interval = (float(low[-1]), float(high[-1])) if len(low) and math.isfinite(low[-1]) else None
    n, mean, sd = _running(d)
    factors = bayes_factor(n, mean, sd, g)[MIN_SEEDS - 1 :]
    return Watched(
        verdict=verdict,
        decided_at=at,
        estimate=Estimate(found.n, found.mean, found.sd, interval, 1 - alpha),
        p=float(min(1.0, (1 / factors).min())) if len(factors) else 1.0,
        rope=rope,
        negligible=verdict in (BETTER, WORSE) and interval is not None and max(map(abs, interval)) < rope,
        constant=found.n >= MIN_SEEDS and found.sd == 0,
        broken=bool(len(empty)),
        further=0 if at is not None else _further(found, rope, alpha, g),
    )


def _further(e: Estimate, rope: float, alpha: float, g: float) -> int | None:
    if e.n < 2 or e.sd == 0:
        return None
    n = np.arange(max(e.n + 1, MIN_SEEDS), e.n + FURTHER_CAP + 1)
    half = half_width(n, e.sd, alpha, g)
    enough = np.flatnonzero((abs(e.mean) > half) | (rope - abs(e.mean) > half))
    return int(n[enough[0]]) - e.n if len(enough) else None


def _running(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n, mean and sd (n - 1) of every beginning; sd is exactly 0 as long as all values are equal."""
    n = np.arange(1, x.shape[-1] + 1, dtype=np.float64)
    shifted = x - x[..., :1]  # equal values give exact zeros
    mean = np.cumsum(shifted, axis=-1) / n
    with np.errstate(all="ignore"):
        variance = (np.cumsum(shifted**2, axis=-1) - n * mean**2) / (n - 1)
    varied = np.maximum.accumulate(np.abs(shifted), axis=-1) > 0
    sd = np.where(varied, np.sqrt(np.maximum(variance, 0)), 0.0)
    return n, mean + x[..., :1], np.where(n >= 2, sd, 0.0)
