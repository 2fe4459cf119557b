"""What a finished search says: the curve over a parameter, its plateau, importances, selection bias. Numbers in,
dataclasses out.

The curve is the profile of a Gaussian process: at each value of the parameter the best that the other parameters can
make of it. Its interval, and the plateau, come from draws of the whole surface, so that they hold what was not tried.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from scipy import linalg, stats
from scipy.stats import qmc
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from adma.bench.search.propose import mirror
from adma.bench.search.space import at, place
from adma.bench.search.trials import COMPLETE, PRUNED, Trial, mean
from adma.bench.statistics import Estimate, estimate
from adma.family import Range

LEVEL = 0.95
ROPE = 0.002  # the region of practical equivalence: 0.2 points of accuracy
_GRID, _OTHERS, _DRAWS = 61, 31, 400  # places along the curve, places of the other parameters, draws of the surface
_CLIFF = 3.0  # how many times the median trial's distance to the best still counts in full, see `_lifted`
_PRIOR_DF = 4.0  # what the pooled variance of replicates weighs against a trial's own, in degrees of freedom
_FEWEST_FOR_IMPORTANCE = 10
_TREES, _RESAMPLES = 16, 8
_STATES = 2**32  # scikit-learn takes no larger seed, where NumPy's and Optuna's may be any


@dataclass(frozen=True)
class Plateau:
    """Where a parameter is as good as the best, as far as the data can say.

    low, high: the stretch around the best value in which no value is shown (at `level`) to fall more than `rope`
        short of the best one.
    best: the value with the highest curve.
    open_low, open_high: whether it reaches the end of what was searched, and may go on beyond.
    apart: whether other stretches are not ruled out either.
    """

    low: float
    high: float
    best: float
    rope: float
    level: float
    open_low: bool
    open_high: bool
    apart: bool

    @property
    def determined(self) -> bool:
        """Whether the data rule anything out."""
        return not (self.open_low and self.open_high)

    @property
    def ratio(self) -> float:
        """Its width as a ratio; NaN where an end is not above 0."""
        return self.high / self.low if self.low > 0 else math.nan


@dataclass(frozen=True)
class Curve:
    """Validation accuracy over one parameter, the other searched ones at their best.

    values: of the parameter; middle, lower, upper: of the accuracy there (median and interval at `level`).
    lifted: how many trials were worse than `floor` and taken to be no worse than that.
    noise: the standard error of a trial's mean, in the median.
    """

    parameter: str
    log: bool
    values: np.ndarray
    middle: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    plateau: Plateau
    floor: float
    lifted: int
    noise: float


@dataclass(frozen=True)
class Importance:
    """The share of the variance over the searched space that a parameter explains (fANOVA), in [0, 1].

    interval: from the least to the greatest over eight resamplings of the trials.
    """

    parameter: str
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Unknown:
    """What cannot be said, and why."""

    reason: str


def curve(
    trials: Sequence[Trial], ranges: Mapping[str, Range], parameter: str, *, rope: float = ROPE, seed: int = 0
) -> Curve | Unknown:
    """The curve of validation accuracy over one searched parameter, with its plateau.

    Args:
        trials: complete and pruned ones count.
        ranges: all that was searched.
        parameter: one of `ranges`.
        rope: how much accuracy, as a fraction, is taken for no difference.
        seed: of the draws.
    """
    used = _measured(trials)
    fewest = 2 * len(ranges) + 2
    if len(used) < fewest:
        return Unknown(f"{len(used)} measured points; the curve needs at least {fewest}")
    x = np.array([[place(ranges[key], t.params[key]) for key in ranges] for t in used])
    y, errors = _adjusted(used)
    if np.ptp(y) == 0:
        return Unknown("all trials have the same accuracy")
    y, floor, lifted = _lifted(y)
    scale = float(np.std(y)) or 1.0
    process = GaussianProcessRegressor(
        ConstantKernel(1.0, (0.05, 50.0)) * Matern(np.full(len(ranges), 0.5), (0.08, 20.0), nu=2.5)
        + WhiteKernel(1e-2, (1e-8, 2.0)),
        alpha=np.maximum(errors / scale, 1e-6) ** 2,
        n_restarts_optimizer=2,
        random_state=seed % _STATES,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound says: no influence
        process.fit(x, (y - y.mean()) / scale)
    surface = _draws(process, _places(list(ranges), parameter, seed), seed) * scale + y.mean()
    profiles = surface.reshape(_DRAWS, _GRID, -1).max(axis=2)
    along = np.linspace(0.0, 1.0, _GRID)
    values = np.array([at(ranges[parameter], u) for u in along])
    tail = (1 - LEVEL) / 2
    return Curve(
        parameter=parameter,
        log=ranges[parameter].log,
        values=values,
        middle=np.median(profiles, axis=0),
        lower=np.quantile(profiles, tail, axis=0),
        upper=np.quantile(profiles, 1 - tail, axis=0),
        level=LEVEL,
        plateau=_plateau(values, profiles, rope),
        floor=floor,
        lifted=lifted,
        noise=float(np.median(errors)),
    )


def _measured(trials: Sequence[Trial]) -> list[Trial]:
    """Every point once, by the trial with most of its seeds.

    A whole number is often proposed again: that trial is made of the same trainings, and tells nothing new.
    """
    found: dict[tuple[tuple[str, float], ...], Trial] = {}
    for t in trials:
        point = tuple(sorted(t.params.items()))
        if t.state in (COMPLETE, PRUNED) and len(t.values) > (len(found[point].values) if point in found else 0):
            found[point] = t
    return list(found.values())


def _plateau(values: np.ndarray, profiles: np.ndarray, rope: float) -> Plateau:
    regret = profiles.max(axis=1, keepdims=True) - profiles
    open_ = np.mean(regret > rope, axis=0) <= LEVEL  # not shown to be worse
    best = int(np.argmax(np.median(profiles, axis=0)))
    open_[best] = True
    low = high = best
    while low > 0 and open_[low - 1]:
        low -= 1
    while high < len(values) - 1 and open_[high + 1]:
        high += 1
    return Plateau(
        low=float(values[low]),
        high=float(values[high]),
        best=float(values[best]),
        rope=rope,
        level=LEVEL,
        open_low=low == 0,
        open_high=high == len(values) - 1,
        apart=bool(open_.sum() > high - low + 1),
    )


def _adjusted(trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """Each trial's mean accuracy with the luck of its seeds taken out, and the standard error of it.

    All trials see the same seeds, so a seed that is easy for all says nothing of a trial: what is left after the
    trial's and the seed's own effects is the noise. Few seeds say little about one trial's noise, so it is drawn
    towards that of the median trial.
    """
    seeds = sorted({seed for t in trials for seed in t.values})
    table = np.array([[t.values.get(seed, math.nan) for seed in seeds] for t in trials])
    whole = table[~np.isnan(table).any(axis=1)]
    effect = np.zeros(len(seeds))
    if len(whole) > 1:  # the median: a trial that diverged on one seed is no mark of that seed
        effect = np.median(whole - np.median(whole, axis=1, keepdims=True), axis=0)
        effect -= effect.mean()
    rest = table - effect
    count = (~np.isnan(rest)).sum(axis=1)
    means = np.nanmean(rest, axis=1)
    if len(seeds) == 1:
        return means, np.zeros(len(trials))
    df = np.maximum(count - 1, 0)
    own = np.where(df > 0, np.nansum((rest - means[:, None]) ** 2, axis=1) / np.maximum(df, 1), 0.0)
    pooled = float(np.median(own[df > 0])) if (df > 0).any() else 0.0
    variance = (_PRIOR_DF * pooled + df * own) / (_PRIOR_DF + df)
    return means, np.sqrt(variance / count)


def _lifted(y: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Accuracies with a floor: how bad a bad trial is says nothing of the top, but would bend a smooth surface."""
    top = float(y.max())
    floor = top - _CLIFF * max(top - float(np.median(y)), ROPE)
    return np.maximum(y, floor), floor, int((y < floor).sum())


def _places(names: Sequence[str], parameter: str, seed: int) -> np.ndarray:
    """A grid in the unit cube: along the parameter, at each place the same places of the others."""
    others = len(names) - 1
    if others <= 1:
        rest = np.linspace(0.0, 1.0, _OTHERS)[:, None] if others else np.zeros((1, 0))
    else:
        rest = qmc.Halton(others, scramble=True, seed=seed).random(_OTHERS * others)
    along = np.repeat(np.linspace(0.0, 1.0, _GRID), len(rest))
    return np.insert(np.tile(rest, (_GRID, 1)), list(names).index(parameter), along, axis=1)


def _draws(process: GaussianProcessRegressor, places: np.ndarray, seed: int) -> np.ndarray:
    """Draws of the surface itself, without the noise that `sample_y` would add to every place."""
    smooth = process.kernel_.k1
    cross = smooth(places, process.X_train_)
    half = linalg.solve_triangular(process.L_, cross.T, lower=True)
    covariance = smooth(places) - half.T @ half
    covariance[np.diag_indices_from(covariance)] += 1e-6 * smooth.diag(places[:1])[0]  # for the factor's sake
    root = linalg.cholesky(covariance, lower=True)
    normal = np.random.default_rng(seed).standard_normal((_DRAWS, len(places)))
    return cross @ process.alpha_ + normal @ root.T


def importance(trials: Sequence[Trial], ranges: Mapping[str, Range], *, seed: int = 0) -> list[Importance] | Unknown:
    """What each parameter explains of the accuracy's variance over the searched space (Hutter 2014, fANOVA).

    A pruned trial counts with the seeds it has: their own luck is taken out, as for the curve.
    """
    used = _measured(trials)
    if len(ranges) < 2:
        return Unknown("one parameter is searched, so there is nothing to weigh it against")
    if len(used) < _FEWEST_FOR_IMPORTANCE:
        return Unknown(f"{len(used)} measured points; fewer than {_FEWEST_FOR_IMPORTANCE} say too little")
    complete = [
        replace(t, state=COMPLETE, values={0: float(value)}) for t, value in zip(used, _adjusted(used)[0], strict=True)
    ]
    if len({t.value for t in complete}) == 1:
        return Unknown("all trials have the same accuracy")
    whole = _shares(complete, ranges, seed)
    rng = np.random.default_rng(seed)
    again: list[dict[str, float]] = []
    while len(again) < _RESAMPLES:
        some = [complete[i] for i in rng.integers(len(complete), size=len(complete))]
        if len({t.value for t in some}) > 1:
            again.append(_shares(some, ranges, seed))
    return [Importance(k, whole[k], (min(a[k] for a in again), max(a[k] for a in again))) for k in ranges]


def _shares(trials: Sequence[Trial], ranges: Mapping[str, Range], seed: int) -> dict[str, float]:
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=seed % _STATES)
    shares = optuna.importance.get_param_importances(mirror(trials, ranges), evaluator=evaluator)
    return {key: float(share) for key, share in shares.items()}


@dataclass(frozen=True)
class Bias:
    """What choosing the best of many flatters: validation accuracy in the search minus that of fresh seeds.

    searched: of the chosen trial, over the seeds of the search.
    fresh: of the same point, over seeds that the search never saw.
    difference: with Welch's interval; its `n` counts both.
    """

    searched: Estimate
    fresh: Estimate
    difference: Estimate


def selection_bias(searched: Mapping[int, float], fresh: Sequence[float], level: float = LEVEL) -> Bias | Unknown:
    """Compare the chosen trial's accuracies in the search with those of fresh seeds."""
    if not fresh:
        return Unknown("no run with a fresh seed is done")
    a, b = np.array(list(searched.values())), np.array(fresh)
    difference = mean(searched) - float(b.mean())
    n = len(a) + len(b)
    if len(a) < 2 or len(b) < 2:
        whole = Estimate(n, difference, math.nan, None, level)
    else:
        parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
        error = math.sqrt(sum(parts))
        df = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)) if error else 1.0
        half = float(stats.t.ppf(0.5 + level / 2, df)) * error if error else 0.0
        whole = Estimate(n, difference, math.nan, (difference - half, difference + half), level)
    return Bias(estimate(a.tolist(), level), estimate(b.tolist(), level), whole)
