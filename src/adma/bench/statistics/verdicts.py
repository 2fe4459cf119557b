"""Better, worse, equivalent or undecided: losses against a baseline over a number of seeds fixed in advance.

The rule, for m losses against one baseline and alpha = 1 - level:

- *Better* or *worse*: Student's t of the paired differences rejects "no difference", two-sided, by Holm's step-down
  (Holm 1979): the smallest of the m p-values is held to alpha / m, the next to alpha / (m - 1), and so on; at the first
  that is not below its bound the procedure stops, and that loss and all after it are held to that bound. The interval
  shown with a verdict has exactly the level that its loss was held to, so it excludes 0 if and only if the verdict is
  better or worse. The chance that any verdict "better" or "worse" is false is at most alpha, all losses together. (The
  intervals of rejected losses are not a joint band; Bonferroni's at alpha / m would be.)
- *Equivalent*: of the losses that are neither, two one-sided t tests (Schuirmann 1987) reject "the difference is as
  large as the rope or larger", by Holm's step-down over the m losses with p-values of their own. The chance that any
  verdict "equivalent" is false is at most alpha too. The two chances are not shared: one loss can suffer only one of
  the two errors, since its difference is either 0 or not within the rope, but several losses may bring both, with a
  chance of at most 2 alpha.
- *Undecided* otherwise, and always with fewer than MIN_SEEDS common seeds. It does not mean equal.

A difference that is shown but lies wholly within the rope is "better" or "worse" and `negligible`. Losses with too few
seeds count in m with p = 1. Where all differences are equal the t rule decides at once: nothing varied, so `constant`
says that the spread is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.statistics.estimates import Estimate, check_level, checked, estimate
from adma.bench.statistics.paired import t_p

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
MIN_SEEDS = 3  # below it nothing is decided: two differences can agree by chance
FURTHER_CAP = 200  # further seeds beyond which a projection from a few is no help
POWER = 0.8  # "would probably decide"
# The region of practical equivalence: smaller differences are of no account unless the user says otherwise. Fractions
# for accuracy, mean IoU, calibration error: 0.2 points; Brier's score lies in [0, 2]: twice that; 0.01 nats: 1% of the
# probability of the true class.
ROPES = {"accuracy": 0.002, "mean_iou": 0.002, "ece": 0.002, "brier": 0.004, "nll": 0.01}


@dataclass(frozen=True)
class Judgement:
    """The verdict on one loss against the baseline.

    verdict: BETTER, WORSE, EQUIVALENT or UNDECIDED.
    estimate: of the differences loss minus baseline in the metric's unit, with the t interval at the level that Holm's
        step gave this loss.
    p, p_holm: of "no difference"; q, q_holm: of "as large as the rope or larger"; NaN below MIN_SEEDS.
    negligible: better or worse, yet the interval lies within the rope.
    constant: all differences are equal.
    further: so many more seeds would probably (POWER) decide it, if mean and spread stayed as they are; 0 if it is
        decided, None if more than FURTHER_CAP or if nothing can be projected.
    """

    verdict: str
    estimate: Estimate
    p: float
    p_holm: float
    q: float
    q_holm: float
    rope: float
    negligible: bool
    constant: bool
    further: int | None

    @property
    def decided(self) -> bool:
        return self.verdict != UNDECIDED


@dataclass(frozen=True)
class Holm:
    """Holm's step-down over m p-values: adjusted p, the bound that each was held to, and whether it was rejected."""

    adjusted: tuple[float, ...]
    bounds: tuple[float, ...]
    rejected: tuple[bool, ...]


def holm(ps: Sequence[float], alpha: float = 0.05) -> Holm:
    """Holm 1979. A p-value equal to its bound is not rejected, as an interval that ends at 0 does not exclude it.

    Raises:
        BenchError: a p-value that is no number in [0, 1].
    """
    p = checked(ps, "p-values")
    if np.any((p < 0) | (p > 1)):
        raise BenchError(f"p-values must lie in [0, 1], got {list(map(float, p))}")
    m = len(p)
    adjusted, bounds, rejected = [0.0] * m, [0.0] * m, [False] * m
    highest, going, bound = 0.0, True, alpha
    for step, place in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, (m - step) * float(p[place])))
        if going:
            bound = alpha / (m - step)
            going = float(p[place]) < bound
        adjusted[place], bounds[place], rejected[place] = highest, bound, going
    return Holm(tuple(adjusted), tuple(bounds), tuple(rejected))


def rope_of(metric: str) -> float:
    """The default region of practical equivalence of a metric such as "test_accuracy", in its own unit.

    Raises:
        BenchError: none is known for it.
    """
    named = metric.partition("_")[2]
    measure = next((m for m in ROPES if named == m or named.startswith(f"{m}_")), named)
    if measure not in ROPES:
        raise BenchError(f"no rope is known for {metric!r}{nearest(measure, ROPES)}; give one")
    return ROPES[measure]


def judge(
    differences: Mapping[str, Sequence[float]], *, higher_is_better: bool = True, rope: float, level: float = 0.95
) -> dict[str, Judgement]:
    """The verdicts on several losses against one baseline, by the rule above.

    Args:
        differences: loss -> its metric minus the baseline's, over their common seeds; as `paired.differences` gives
            them.
        rope: half the width of the region of practical equivalence, in the metric's unit, from 0.

    Raises:
        BenchError: a value is not finite; rope or level cannot be.
    """
    check_level(level)
    check_rope(rope)
    alpha, losses = 1 - level, list(differences)
    found = {loss: estimate(list(checked(differences[loss], loss)), level) for loss in losses}
    enough = {loss: found[loss].n >= MIN_SEEDS for loss in losses}
    differ = {loss: t_p(found[loss]) if enough[loss] else math.nan for loss in losses}
    alike = {loss: equivalence_p(found[loss], rope) if enough[loss] else math.nan for loss in losses}
    by_difference = holm([1.0 if math.isnan(p) else p for p in differ.values()], alpha)
    by_rope = holm([1.0 if math.isnan(q) else q for q in alike.values()], alpha)
    judgements = {}
    for place, loss in enumerate(losses):
        bound, shown = by_difference.bounds[place], enough[loss] and by_difference.rejected[place]
        at_level = estimate(list(differences[loss]), 1 - bound)
        if shown:
            verdict = BETTER if (at_level.mean > 0) == higher_is_better else WORSE
        else:
            verdict = EQUIVALENT if enough[loss] and by_rope.rejected[place] else UNDECIDED
        judgements[loss] = Judgement(
            verdict=verdict,
            estimate=at_level,
            p=differ[loss],
            p_holm=by_difference.adjusted[place] if enough[loss] else math.nan,
            q=alike[loss],
            q_holm=by_rope.adjusted[place] if enough[loss] else math.nan,
            rope=rope,
            negligible=shown and at_level.interval is not None and max(map(abs, at_level.interval)) < rope,
            constant=enough[loss] and at_level.sd == 0,
            further=0 if verdict != UNDECIDED else further_seeds(at_level, rope, bound, by_rope.bounds[place]),
        )
    return judgements


def equivalence_p(e: Estimate, rope: float) -> float:
    """The larger p of the two one-sided t tests against -rope and +rope."""
    if e.sd == 0:
        return float(abs(e.mean) >= rope)
    return float(stats.t.sf((rope - abs(e.mean)) / (e.sd / math.sqrt(e.n)), e.n - 1))


def further_seeds(e: Estimate, rope: float, alpha: float, alpha_equivalence: float) -> int | None:
    """More seeds after which the t rule would decide with probability POWER, were mean and sd those observed.

    Power by the usual approximation: the t statistic is the true distance in standard errors plus a central t.

    Returns:
        None below 2 seeds, where there is no spread to project, and where more than FURTHER_CAP are needed.
    """
    if e.n < 2 or e.sd == 0:
        return None
    n = np.arange(max(e.n + 1, MIN_SEEDS), e.n + FURTHER_CAP + 1)
    error, df = e.sd / np.sqrt(n), n - 1
    apart = stats.t.cdf(abs(e.mean) / error - stats.t.isf(alpha / 2, df), df)
    bound = stats.t.isf(alpha_equivalence, df)
    near, far = ((rope + side * abs(e.mean)) / error - bound for side in (-1, 1))
    alike = stats.t.cdf(near, df) + stats.t.cdf(far, df) - 1
    enough = np.flatnonzero(np.maximum(apart, alike) >= POWER)
    return int(n[enough[0]]) - e.n if len(enough) else None


def check_rope(rope: float) -> None:
    """Raises BenchError for a rope that is no number from 0."""
    if not 0.0 <= rope < math.inf:
        raise BenchError(f"rope must be a number from 0, in the metric's own unit, got {rope!r}")
