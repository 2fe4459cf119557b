"""From results to a verdict: means, paired differences, and whether one loss is the best.

What the numbers speak of. A seed draws another split, other initial weights and another batch order from ONE
data set. The intervals say how the difference would vary over more such draws; they say nothing about other
data sets. The splits of different seeds share samples, so the draws are not quite independent and the
intervals are, if anything, too narrow for fresh data from the same source. Where the data set states its own
test part, every seed is judged on that one part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.store import DIVERGED, DONE, FAILED, MISSING, CellResult, Results

METRICS = tuple(f"{part}_{name}" for part in ("test", "val") for name in ("accuracy", "nll", "brier", "ece"))
SECONDARY = (
    "val_accuracy",
    "test_accuracy",
    *(f"test_{name}{kind}" for kind in ("", "_posterior", "_scaled") for name in ("nll", "brier", "ece")),
)
MIN_SEEDS = 3  # below it no winner is named: two differences can agree by chance


@dataclass(frozen=True)
class Trouble:
    """A cell that gives no number: its seed, "diverged", "failed" or "missing", and why."""

    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    sd: the standard deviation over the seeds (n - 1 in the denominator), NaN for n < 2.
    interval: Student's t-interval of the mean at `level`; None for n < 2, where nothing can be said.
    """

    n: int
    mean: float
    sd: float
    interval: tuple[float, float] | None
    level: float


@dataclass(frozen=True)
class Difference:
    """`loss` minus `other`, seed by seed, over the seeds that both finished."""

    loss: str
    other: str
    seeds: tuple[int, ...]
    estimate: Estimate


@dataclass(frozen=True)
class LossSummary:
    """One loss over its seeds.

    values: seed -> the metric after the last epoch, for the seeds that are done.
    secondary: measure -> mean over the same seeds (SECONDARY, and "seconds" a run); NaN where it is not
        defined for every one of them.
    to_baseline: None for the baseline itself.
    """

    loss: str
    values: Mapping[int, float]
    estimate: Estimate
    secondary: Mapping[str, float]
    troubles: tuple[Trouble, ...]
    to_baseline: Difference | None

    @property
    def n(self) -> int:
        """How many seeds are done."""
        return len(self.values)

    def count(self, status: str) -> int:
        """How many cells are "diverged", "failed" or "missing"."""
        return sum(t.status == status for t in self.troubles)

    def seeds_of(self, status: str) -> list[int]:
        """The seeds that are "diverged", "failed" or "missing"."""
        return [t.seed for t in self.troubles if t.status == status]

    def grouped_troubles(self) -> dict[tuple[str, str], list[int]]:
        """Status and reason -> the seeds that share them."""
        groups: dict[tuple[str, str], list[int]] = {}
        for t in self.troubles:
            groups.setdefault((t.status, t.reason), []).append(t.seed)
        return groups


@dataclass(frozen=True)
class Verdict:
    """Which loss is best.

    winner: None if it is undecided.
    leader: the loss with the best mean, None if no run finished.
    reason: why, in plain words.
    differences: the leader's to every other loss, with intervals at the corrected level.
    """

    winner: str | None
    leader: str | None
    reason: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A study in numbers.

    losses: in the study's order.
    shared: seed -> hash name -> hash of what all losses of that seed had in common.
    """

    metric: str
    level: float
    baseline: str
    seeds: tuple[int, ...]
    losses: tuple[LossSummary, ...]
    verdict: Verdict
    shared: Mapping[int, Mapping[str, str]] = field(default_factory=dict)

    @property
    def ranked(self) -> list[LossSummary]:
        """The losses from best mean to worst; those without a finished run last."""
        return sorted(self.losses, key=lambda s: -_sign(self.metric) * s.estimate.mean if s.n else math.inf)

    @property
    def missing(self) -> int:
        """How many cells have not run: more than 0 means that the study is partial."""
        return sum(s.count(MISSING) for s in self.losses)

    @property
    def winner(self) -> str | None:
        return self.verdict.winner


def summarise(
    results: Results, *, metric: str = "test_accuracy", baseline: str | None = None, level: float = 0.95
) -> Comparison:
    """Compare the losses of a study.

    The loss with the best mean is the winner if every one of its cells is done and its paired difference to
    every other loss, over at least 3 common seeds, has an interval that excludes 0. These intervals are
    Bonferroni-corrected: for k losses their level is `1 - (1 - level) / (k - 1)`.

    Args:
        metric: one of METRICS, at the last epoch. Accuracy is better high, nll, brier and ece are better low.
        baseline: the loss that differences are taken to; by default "cce", or else the study's first loss.
        level: of the intervals, in (0, 1).

    Raises:
        BenchError: an argument is unknown; the study lists a loss or seed twice; the losses of a seed did not
            share split, initial weights or batch order.
    """
    losses, seeds = results.study.losses, results.study.seeds
    if metric not in METRICS:
        raise BenchError(f"metric {metric!r} is not known{nearest(str(metric), METRICS)}; known: {', '.join(METRICS)}")
    if not 0.0 < level < 1.0:
        raise BenchError(f"level must lie between 0 and 1, both excluded, got {level!r}; usual is 0.95")
    for name, items in (("losses", losses), ("seeds", seeds)):
        if not items:
            raise BenchError(f"the study has no {name}; name at least one")
        if len(set(items)) < len(items):
            raise BenchError(f"the study's {name} hold a value twice ({', '.join(map(str, items))}); name each once")
    if baseline is None:
        baseline = "cce" if "cce" in losses else losses[0]
    elif baseline not in losses:
        raise BenchError(
            f"baseline {baseline!r} is not in the study{nearest(str(baseline), losses)}; "
            f"its losses: {', '.join(losses)}"
        )
    shared = check_fairness(results)

    cells = {loss: results.of(loss) for loss in losses}
    values = {loss: _values(cells[loss], metric) for loss in losses}
    summaries = tuple(
        LossSummary(
            loss=loss,
            values=values[loss],
            estimate=estimate(list(values[loss].values()), level),
            secondary=_secondary([c for c in cells[loss] if c.cell.seed in values[loss]]),
            troubles=_troubles(cells[loss], seeds, values[loss], metric),
            to_baseline=None if loss == baseline else _difference(loss, baseline, values, level),
        )
        for loss in losses
    )
    return Comparison(metric, level, baseline, seeds, summaries, _decide(summaries, values, metric, level), shared)


def check_fairness(results: Results) -> dict[int, dict[str, str]]:
    """Compare `env["shared"]` of all losses, seed by seed.

    A run that is not done may have ended before it drew everything; it is held to what it did record.

    Returns:
        seed -> hash name -> hash; a seed without any record is left out.

    Raises:
        BenchError: two losses of a seed differ, or a finished run lacks a hash that another one has.
    """
    agreed: dict[int, dict[str, str]] = {}
    for seed in results.study.seeds:
        records: dict[str, tuple[bool, Mapping[str, Any]]] = {
            c.cell.loss: (c.status == DONE, c.env.get("shared") or {}) for c in results.cells if c.cell.seed == seed
        }
        names = sorted({name for _, shared in records.values() for name in shared})
        for name in names:
            by_hash: dict[str, list[str]] = {}
            for loss, (done, shared) in records.items():
                if name in shared or done:
                    by_hash.setdefault(str(shared.get(name, "no hash")), []).append(loss)
            if len(by_hash) > 1:
                listed = "; ".join(f"{', '.join(losses)}: {value}" for value, losses in by_hash.items())
                raise BenchError(
                    f"seed {seed}: the losses did not share the same {name} ({listed}), so their difference "
                    "may be luck; run the study again in an empty folder, with one version of adma on one machine"
                )
            agreed.setdefault(seed, {})[name] = next(iter(by_hash))
    return agreed


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


def _sign(metric: str) -> int:
    return 1 if metric.endswith("accuracy") else -1


def _values(cells: Sequence[CellResult], metric: str) -> dict[int, float]:
    finals = {c.cell.seed: c.final(metric) for c in cells if c.status == DONE}
    return {seed: value for seed, value in finals.items() if math.isfinite(value)}


def _troubles(
    cells: Sequence[CellResult], seeds: Sequence[int], values: Mapping[int, float], metric: str
) -> tuple[Trouble, ...]:
    by_seed = {c.cell.seed: c for c in cells}
    troubles = []
    for seed in seeds:
        cell = by_seed.get(seed)
        if seed in values:
            continue
        if cell is None or cell.status == MISSING:
            troubles.append(Trouble(seed, MISSING, "not run yet"))
        elif cell.status == DONE:  # counted, so that it cannot vanish from the table
            troubles.append(Trouble(seed, FAILED, f"done, but its last {metric} is {cell.final(metric)}"))
        else:
            troubles.append(Trouble(seed, cell.status, cell.reason or "no reason recorded"))
    return tuple(troubles)


def _secondary(cells: Sequence[CellResult]) -> dict[str, float]:
    if not cells:
        return dict.fromkeys((*SECONDARY, "seconds"), math.nan)
    means = {name: math.fsum(c.final(name) for c in cells) / len(cells) for name in SECONDARY}
    return {**means, "seconds": math.fsum(c.seconds for c in cells) / len(cells)}


def _difference(loss: str, other: str, values: Mapping[str, Mapping[int, float]], level: float) -> Difference:
    seeds = tuple(seed for seed in values[loss] if seed in values[other])
    return Difference(loss, other, seeds, estimate([values[loss][s] - values[other][s] for s in seeds], level))


def _decide(
    summaries: Sequence[LossSummary], values: Mapping[str, Mapping[int, float]], metric: str, level: float
) -> Verdict:
    finished = [s for s in summaries if s.n]
    if not finished:
        return Verdict(None, None, "No run finished, so there is nothing to compare.")
    sign = _sign(metric)
    best = max(finished, key=lambda s: sign * s.estimate.mean)
    if len(summaries) == 1:
        return Verdict(
            None, best.loss, f"{best.loss} is the study's only loss, so there is nothing to compare it with."
        )
    strict = 1 - (1 - level) / (len(summaries) - 1)
    others = [s for s in summaries if s is not best]
    differences = tuple(_difference(best.loss, s.loss, values, strict) for s in others)

    obstacles = [f"{best.loss} itself has {_in_words(best.troubles)}"] if best.troubles else []
    few = [d for d in differences if len(d.seeds) < MIN_SEEDS]
    if few:
        listed = ", ".join(f"{len(d.seeds)} with {d.other}" for d in few)
        obstacles.append(f"it has too few finished seeds in common with others ({listed}; {MIN_SEEDS} are needed)")
    unclear = [d for d in differences if d not in few and not _excludes_zero(d, sign)]
    if unclear:
        near = min(unclear, key=lambda d: sign * d.estimate.mean)
        more = f" and {len(unclear) - 1} more" if len(unclear) > 1 else ""
        words = difference_in_words(near.estimate, metric)
        obstacles.append(f"the seeds do not tell it apart from {near.other} ({words}){more}")
    superlative = "highest" if sign > 0 else "lowest"
    name = metric.replace("_", " ").replace("nll", "NLL").replace("ece", "ECE").replace("brier", "Brier score")
    found = f"{best.loss} has the {superlative} mean {name} ({value_in_words(best.estimate.mean, metric)})"
    ended = [(s.loss, [t for t in s.troubles if t.status != MISSING]) for s in others]
    notes = [f"{loss} has {_in_words(troubles)}" for loss, troubles in ended if troubles]
    waiting = sum(s.count(MISSING) for s in others)
    if waiting:
        notes.append(f"{waiting} {'run' if waiting == 1 else 'runs'} of the other losses not run yet")
    note = f" Note: {'; '.join(notes)}." if notes else ""
    if obstacles:
        return Verdict(None, best.loss, f"{found}, but {'; and '.join(obstacles)}.{note}", differences)
    n = min(len(d.seeds) for d in differences)
    against = f"each of the {len(others)} other losses" if len(others) > 1 else others[0].loss
    reason = (
        f"{found}, and the {percent(strict)} interval of its difference to {against}, taken seed by seed "
        f"over {'at least ' if n < best.n else ''}{n} seeds, lies wholly {'above' if sign > 0 else 'below'} 0."
    )
    return Verdict(best.loss, best.loss, reason + note, differences)


def _excludes_zero(difference: Difference, sign: int) -> bool:
    interval = difference.estimate.interval
    return interval is not None and min(sign * interval[0], sign * interval[1]) > 0


def _in_words(troubles: Sequence[Trouble]) -> str:
    parts = []
    for status in (DIVERGED, FAILED, MISSING):
        seeds = [str(t.seed) for t in troubles if t.status == status]
        if seeds:
            runs = "run" if len(seeds) == 1 else "runs"
            parts.append(f"{len(seeds)} {status} {runs} (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)})")
    return ", ".join(parts)


def value_in_words(value: float, metric: str) -> str:
    """An accuracy in per cent, anything else as it is."""
    return f"{100 * value:.2f}%" if metric.endswith("accuracy") else f"{value:.4f}"


def difference_in_words(estimate: Estimate, metric: str) -> str:
    """A difference of accuracies in points (of a per cent), with its interval."""
    scale, unit, digits = (100, " points", 2) if metric.endswith("accuracy") else (1, "", 4)
    text = f"{signed(scale * estimate.mean, digits)}{unit}"
    if estimate.interval is None:
        return text
    low, high = (signed(scale * end, digits) for end in estimate.interval)
    return f"{text}, {percent(estimate.level)} interval {low} to {high}"


def signed(value: float, digits: int) -> str:
    """With + or a minus sign, except for what rounds to 0."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def percent(level: float) -> str:
    return f"{100 * level:.4g}%"
