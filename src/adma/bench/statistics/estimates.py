"""A mean with its intervals: Student's t, and a bootstrap that keeps its promise from few values.

Why the expanded percentile bootstrap. Resampling n values understates the variance by (n - 1) / n and the quantiles of
a normal are not those of t, so the plain percentile interval is too narrow for few values. Hesterberg ("What Teachers
Should Know About the Bootstrap", The American Statistician 69, 2015, Sec. 4.2) takes the percentiles at
alpha' = Phi(-sqrt(n / (n - 1)) t) in the place of alpha / 2. Coverage of nominal 95% intervals, 1,500 samples each:

    n    values                       percentile  BCa    expanded  t
    3    normal                       0.77        0.74   0.77      0.95
    5    normal                       0.83        0.83   0.91      0.94
    5    accuracies, 360 test samples 0.85        0.85   0.93      0.96
    5    exponential                  0.76        0.77   0.86      0.88
    10   normal                       0.92        0.91   0.96      0.96
    10   accuracies, 360 test samples 0.91        0.90   0.95      0.95
    10   exponential                  0.86        0.87   0.90      0.89
    30   normal                       0.93        0.93   0.95      0.95

BCa needs more than a handful of values to estimate its two corrections, and is undefined where the values are few and
equal. With 3 or 4 values the expanded interval is their range: no resampling can leave it, so its coverage is about
three quarters, and the t interval is the one to read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adma.bench.errors import BenchError

SEED = 0  # of all resampling, so that the same numbers give the same report
RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    sd: the standard deviation over the seeds (n - 1 in the denominator), NaN for n < 2.
    interval: Student's t-interval of the mean at `level`; None for n < 2, where nothing can be said. Of a study that
        grew until it was decided, the confidence sequence of a difference.
    """

    n: int
    mean: float
    sd: float
    interval: tuple[float, float] | None
    level: float


def estimate(values: Sequence[float], level: float) -> Estimate:
    """Mean, standard deviation and t-interval of finite values; equal values have an interval of width 0."""
    n = len(values)
    if n == 0:
        return Estimate(0, math.nan, math.nan, None, level)
    array = np.asarray(values, dtype=np.float64)
    if np.all(array == array[0]):  # exactly, not up to the rounding of the mean
        mean, sd = float(array[0]), 0.0
    else:
        mean, sd = float(array.mean()), float(array.std(ddof=1))
    if n == 1:
        return Estimate(1, mean, math.nan, None, level)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, (mean - half, mean + half), level)


def bootstrap_interval(values: Sequence[float], level: float, *, seed: int = SEED) -> tuple[float, float] | None:
    """The expanded percentile interval of the mean (Hesterberg 2015); None for n < 2.

    Equal values have an interval of width 0. The same values in another order have the same interval.

    Raises:
        BenchError: a value is not finite, or `level` does not lie in (0, 1).
    """
    check_level(level)
    array = np.sort(checked(values, "values"))
    if len(array) < 2:
        return None
    if array[0] == array[-1]:
        return float(array[0]), float(array[0])
    rng = np.random.default_rng(seed)
    done = stats.bootstrap((array,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng)
    tail = expanded_tail(len(array), level)
    low, high = np.quantile(done.bootstrap_distribution, [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(n: int, level: float) -> float:
    """The share to cut from each end of a bootstrap distribution of n values: Phi(-sqrt(n / (n - 1)) t)."""
    return float(stats.norm.sf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.5 + level / 2, n - 1)))


def checked(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    """The values as a float64 vector.

    Raises:
        BenchError: they are no vector, or not all finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise BenchError(f"{name} must be one list of numbers, got an array of shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise BenchError(
            f"{name} must be finite, got {array[bad[0]]} at place {bad[0]}; leave out the seeds that gave no number, "
            "and say so"
        )
    return array


def check_level(level: float) -> None:
    """Raises BenchError for a level outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise BenchError(f"level must lie between 0 and 1, both excluded, got {level!r}; usual is 0.95")
