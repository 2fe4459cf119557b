"""Losses over several data sets: ranks, Friedman, Nemenyi, Wilcoxon with Holm, the interquartile mean.

After Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006. A data set is one
observation: its cell is the mean over its runs, and only the order (ranks) or the difference within it counts. Ranks
need every loss on every data set, so a data set without a number for one of the losses is left out whole and named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.statistics.estimates import RESAMPLES, SEED, check_level
from adma.bench.statistics.paired import PairedTest, differences, wilcoxon
from adma.bench.statistics.verdicts import holm

MIN_DATASETS = 2
MIN_LOSSES = 3  # of Friedman and Nemenyi; two losses have Wilcoxon


@dataclass(frozen=True)
class LeftOut:
    """A data set, or a loss on all data sets, that enters nothing, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all losses rank alike: chi-squared with df degrees, corrected for ties."""

    statistic: float
    df: int
    p: float
    datasets: int
    losses: int


@dataclass(frozen=True)
class RankPair:
    """Two losses over the data sets.

    median_difference: of first minus second over the data sets, in the scores' unit.
    wilcoxon: over the data sets; p_holm: adjusted over all pairs, NaN where the test has no p.
    rank_difference: average rank of first minus second; nemenyi_p: None with fewer than MIN_LOSSES losses.
    """

    first: str
    second: str
    median_difference: float
    wins: int
    losses: int
    wilcoxon: PairedTest
    p_holm: float
    rank_difference: float
    nemenyi_p: float | None


@dataclass(frozen=True)
class Interquartile:
    """The interquartile mean over all runs of all data sets (Agarwal et al. 2021): the mean of the middle half.

    interval: percentiles of a bootstrap stratified by data set, which redraws the runs of each; None where a data set
        has a single run.
    """

    loss: str
    mean: float
    interval: tuple[float, float] | None
    runs: int


@dataclass(frozen=True)
class Across:
    """What several data sets say together.

    ranks: data set -> loss -> rank, 1 is best, ties averaged. mean_ranks: loss -> their mean.
    friedman, critical_difference: None with fewer than MIN_LOSSES losses; two mean ranks that differ by less than the
        critical difference are not told apart (Nemenyi).
    pairs: every pair of losses once. uneven: cells with fewer runs than others of their data set, in words.
    left_out: what entered nothing. omitted: tests that could not be made, in words.
    """

    datasets: tuple[str, ...]
    losses: tuple[str, ...]
    level: float
    ranks: Mapping[str, Mapping[str, float]]
    mean_ranks: Mapping[str, float]
    friedman: Friedman | None
    critical_difference: float | None
    pairs: tuple[RankPair, ...]
    interquartile: tuple[Interquartile, ...]
    left_out: tuple[LeftOut, ...]
    uneven: tuple[str, ...]
    omitted: tuple[str, ...]

    @property
    def ranked(self) -> list[str]:
        """The losses, the best mean rank first."""
        return sorted(self.losses, key=lambda loss: self.mean_ranks[loss])

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Maximal runs of neighbours in rank that Nemenyi does not tell apart, of two losses and more."""
        if self.critical_difference is None:
            return ()
        order, cd = self.ranked, self.critical_difference
        found: list[tuple[int, int]] = []
        for start, loss in enumerate(order):
            end = max(i for i, other in enumerate(order) if self.mean_ranks[other] - self.mean_ranks[loss] <= cd)
            if end > start and (not found or end > found[-1][1]):
                found.append((start, end))
        return tuple(tuple(order[a : b + 1]) for a, b in found)

    def pair(self, first: str, second: str) -> RankPair:
        """The pair in either order.

        Raises:
            BenchError: it is not there.
        """
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair
        raise BenchError(f"no pair {first!r}, {second!r}; the losses are {', '.join(self.losses)}")


def compare_across(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    losses: Sequence[str] | None = None,
    higher_is_better: bool = True,
    level: float = 0.95,
    missing: str = "leave out",
    seed: int = SEED,
) -> Across:
    """Compare losses over data sets.

    Args:
        scores: data set -> loss -> its runs; one number where only a mean is known. A cell that is absent, empty or
            not finite is missing.
        losses: the columns; by default all that occur, in their order.
        missing: "leave out" leaves out, by name, first the losses without any number, then the data sets that lack a
            number of the others; "refuse" raises.
        seed: of the bootstrap.

    Raises:
        BenchError: fewer than MIN_DATASETS data sets or two losses remain; a cell is missing and may not be.
    """
    check_level(level)
    if missing not in ("leave out", "refuse"):
        raise BenchError(f"missing must be 'leave out' or 'refuse', got {missing!r}")
    wanted = list(dict.fromkeys(losses or (loss for of in scores.values() for loss in of)))
    runs = {
        data: {loss: [float(v) for v in of.get(loss, ())] for loss in wanted} for data, of in scores.items()
    }  # every cell once
    lacking = {data: [loss for loss in wanted if not _whole(of[loss])] for data, of in runs.items()}
    if missing == "refuse" and any(lacking.values()):
        listed = "; ".join(f"{data}: {', '.join(of)}" for data, of in lacking.items() if of)
        raise BenchError(f"no number for {listed}; run them, or leave these data sets out by name")
    left_out = []
    kept = []
    for loss in wanted:
        if runs and all(loss in of for of in lacking.values()):
            left_out.append(LeftOut(loss, "has no number on any data set"))
        else:
            kept.append(loss)
    datasets = []
    for data in runs:
        gaps = [loss for loss in lacking[data] if loss in kept]
        if gaps:
            left_out.append(LeftOut(data, f"no number for {', '.join(gaps)}"))
        else:
            datasets.append(data)
    _enough(datasets, kept, left_out)
    means = np.array([[math.fsum(runs[d][loss]) / len(runs[d][loss]) for loss in kept] for d in datasets])
    return _compare(means, datasets, kept, runs, higher_is_better, level, tuple(left_out), seed)


def _compare(
    means: np.ndarray,
    datasets: list[str],
    losses: list[str],
    runs: Mapping[str, Mapping[str, Sequence[float]]],
    higher: bool,
    level: float,
    left_out: tuple[LeftOut, ...],
    seed: int,
) -> Across:
    ranks = rank_matrix(means, higher_is_better=higher)
    mean_ranks = dict(zip(losses, map(float, ranks.mean(axis=0)), strict=True))
    omitted = []
    friedman_test, cd, nemenyi_p = None, None, None
    if len(losses) >= MIN_LOSSES:
        friedman_test = friedman(means)
        cd = critical_difference(len(losses), len(datasets), 1 - level)
        import scikit_posthocs  # here, as it takes a second and most commands do without

        nemenyi_p = scikit_posthocs.posthoc_nemenyi_friedman(ranks).to_numpy()
    else:
        omitted.append(
            f"Friedman's test and Nemenyi's need at least {MIN_LOSSES} losses, there are {len(losses)}; Wilcoxon's "
            "compares two"
        )
    places = [(i, j) for i in range(len(losses)) for j in range(i + 1, len(losses))]
    apart = {(i, j): differences(means[:, i], means[:, j]) for i, j in places}
    tests = {place: wilcoxon(apart[place], alpha=1 - level, seed=seed) for place in places}
    adjusted = holm([1.0 if t.p is None else t.p for t in tests.values()], 1 - level).adjusted
    weak = {place: t for place, t in tests.items() if t.too_few}
    if weak and len(datasets) < next(iter(weak.values())).needed:
        strongest = max(weak.values(), key=lambda t: t.n)
        omitted.append(
            f"Wilcoxon's signed-rank test cannot give p < {strongest.alpha:.4g} over {len(datasets)} data sets; "
            f"{strongest.needed} are needed"
        )
    else:
        omitted += [f"{losses[i]}, {losses[j]}: {t.too_few}" for (i, j), t in weak.items()]
    sign = 1 if higher else -1
    pairs = tuple(
        RankPair(
            first=losses[i],
            second=losses[j],
            median_difference=float(np.median(apart[i, j])),
            wins=int(np.sum(sign * apart[i, j] > 0)),
            losses=int(np.sum(sign * apart[i, j] < 0)),
            wilcoxon=tests[i, j],
            p_holm=math.nan if tests[i, j].p is None else p_holm,
            rank_difference=mean_ranks[losses[i]] - mean_ranks[losses[j]],
            nemenyi_p=None if nemenyi_p is None else float(nemenyi_p[i, j]),
        )
        for (i, j), p_holm in zip(places, adjusted, strict=True)
    )
    uneven = []
    for data in datasets:
        most = max(len(runs[data][loss]) for loss in losses)
        uneven += [
            f"{data}, {loss}: {len(runs[data][loss])} of {most} runs" for loss in losses if len(runs[data][loss]) < most
        ]
    return Across(
        datasets=tuple(datasets),
        losses=tuple(losses),
        level=level,
        ranks={d: dict(zip(losses, map(float, row), strict=True)) for d, row in zip(datasets, ranks, strict=True)},
        mean_ranks=mean_ranks,
        friedman=friedman_test,
        critical_difference=cd,
        pairs=pairs,
        interquartile=tuple(interquartile(loss, [runs[d][loss] for d in datasets], level, seed) for loss in losses),
        left_out=left_out,
        uneven=tuple(uneven),
        omitted=tuple(omitted),
    )


def rank_matrix(scores: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Ranks within each row (data set) of a matrix data sets x losses: 1 is best, ties have their mean rank.

    Scores that agree to 12 digits are tied.

    Raises:
        BenchError: it is no matrix, or a score is not finite.
    """
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2:
        raise BenchError(f"scores must be a matrix data sets x losses, got shape {matrix.shape}")
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        raise BenchError(f"scores must be finite, got {matrix[tuple(bad[0])]} in row {bad[0][0]}, column {bad[0][1]}")
    columns = np.arange(matrix.shape[1])
    rounded = np.array([[float(f"{v:.12g}") for v in row] for row in matrix]).reshape(len(matrix), len(columns))
    return np.asarray(stats.rankdata(-rounded if higher_is_better else rounded, axis=1))


def friedman(scores: np.ndarray) -> Friedman:
    """Friedman's test of a matrix data sets x losses; p = 1 where no data set tells two losses apart.

    Its chi-squared law is an approximation, rough for fewer than about 10 data sets (Demsar 2006, Sec. 3.2.2).

    Raises:
        BenchError: fewer than MIN_DATASETS rows or MIN_LOSSES columns, or a score is not finite.
    """
    ranks = rank_matrix(scores)
    n, k = ranks.shape
    if n < MIN_DATASETS or k < MIN_LOSSES:
        raise BenchError(
            f"Friedman's test needs at least {MIN_DATASETS} data sets and {MIN_LOSSES} losses, got {n} and {k}"
        )
    if np.all(ranks == ranks[0, 0]):
        return Friedman(0.0, k - 1, 1.0, n, k)
    found = stats.friedmanchisquare(*ranks.T)
    return Friedman(float(found.statistic), k - 1, float(found.pvalue), n, k)


def critical_difference(losses: int, datasets: int, alpha: float = 0.05) -> float:
    """Nemenyi's: q sqrt(k (k + 1) / (6 N)), q the studentised range's quantile over sqrt(2).

    Raises:
        BenchError: fewer than MIN_DATASETS data sets or MIN_LOSSES losses.
    """
    if datasets < MIN_DATASETS or losses < MIN_LOSSES:
        raise BenchError(
            f"Nemenyi's test needs at least {MIN_DATASETS} data sets and {MIN_LOSSES} losses, got {datasets} and "
            f"{losses}"
        )
    q = float(stats.studentized_range.ppf(1 - alpha, losses, np.inf)) / math.sqrt(2)
    return q * math.sqrt(losses * (losses + 1) / (6 * datasets))


def interquartile(loss: str, strata: Sequence[Sequence[float]], level: float, seed: int = SEED) -> Interquartile:
    """The interquartile mean of one loss's runs, stratified by data set, with its bootstrap interval.

    `scipy.stats.trim_mean` at a quarter, as rliable computes it; a data set with more runs weighs more.

    Raises:
        BenchError: a data set has no run, or a run is not finite.
    """
    if not strata or not all(map(_whole, strata)):
        raise BenchError(f"{loss}: every data set needs at least one run, all of them finite")
    arrays = [np.sort(np.asarray(s, dtype=np.float64)) for s in strata]
    pooled = np.concatenate(arrays)
    mean = float(stats.trim_mean(pooled, 0.25))
    if min(map(len, arrays)) < 2:
        return Interquartile(loss, mean, None, len(pooled))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([a[rng.integers(len(a), size=(RESAMPLES, len(a)))] for a in arrays], axis=1)
    low, high = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interquartile(loss, mean, (float(low), float(high)), len(pooled))


def _whole(cell: Sequence[float]) -> bool:
    return len(cell) > 0 and all(map(math.isfinite, cell))


def _enough(datasets: Sequence[str], losses: Sequence[str], left_out: Sequence[LeftOut]) -> None:
    if len(datasets) >= MIN_DATASETS and len(losses) >= 2:
        return
    why = "".join(f"; left out: {item.name} ({item.reason})" for item in left_out)
    raise BenchError(
        f"statistics over data sets need at least {MIN_DATASETS} data sets and 2 losses with a number in every cell, "
        f"got {len(datasets)} ({', '.join(datasets) or 'none'}) and {len(losses)} ({', '.join(losses) or 'none'}){why}"
    )
