"""What a study comes to in numbers: each loss over its seeds, the differences, the verdicts. `summary` makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from adma.bench.result import MISSING
from adma.bench.statistics.estimates import Estimate
from adma.bench.statistics.paired import Paired, compare_pairs
from adma.bench.statistics.sequential import Watched
from adma.bench.statistics.verdicts import Judgement
from adma.bench.statistics.words import HIGHER_IS_BETTER


def direction(metric: str) -> int:
    """1 for a metric of which more is better, -1 for one of which less is."""
    return 1 if metric.endswith(HIGHER_IS_BETTER) else -1


@dataclass(frozen=True)
class Trouble:
    """A cell that gives no number: its seed, "diverged", "failed" or "missing", and why."""

    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """`loss` minus `other`, seed by seed, over the seeds that both finished.

    Of a study that grew until it was decided, the estimate's interval is the confidence sequence at its level.
    """

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
    judgement: better, worse, equivalent or undecided against the baseline, by the seeds as a number fixed in advance.
    watched: the same where the seeds were added until it was decided; then it is the verdict that stands, and the
        judgement is not valid. Both None for the baseline itself.
    """

    loss: str
    values: Mapping[int, float]
    estimate: Estimate
    secondary: Mapping[str, float]
    troubles: tuple[Trouble, ...]
    to_baseline: Difference | None
    judgement: Judgement | None = None
    watched: Watched | None = None
    _pairs: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    _higher: bool = True

    @property
    def n(self) -> int:
        """How many seeds are done."""
        return len(self.values)

    @property
    def stands(self) -> Judgement | Watched | None:
        """The verdict against the baseline that is valid for how the seeds came about."""
        return self.watched or self.judgement

    @cached_property
    def paired(self) -> Paired | None:
        """Tests, effect size and P(improvement) against the baseline; None for the baseline itself."""
        if self.to_baseline is None:
            return None
        return compare_pairs(*self._pairs, higher_is_better=self._higher, level=self.estimate.level)

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
class Growth:
    """How a study's seeds came about under --until-decided: from `start` in steps, at most `max_seeds`."""

    start: int
    step: int
    max_seeds: int
    seeds: int

    @property
    def looks(self) -> int:
        """How often the verdict was looked at."""
        return 1 + max(0, -(-(self.seeds - self.start) // self.step))


@dataclass(frozen=True)
class Comparison:
    """A study in numbers.

    losses: in the study's order.
    shared: seed -> hash name -> hash of what all losses of that seed had in common.
    rope: half the width of the region of practical equivalence, in the metric's unit.
    growth: None where the number of seeds was fixed in advance; else the verdicts are those of `sequential`.
    """

    metric: str
    level: float
    baseline: str
    seeds: tuple[int, ...]
    losses: tuple[LossSummary, ...]
    verdict: Verdict
    shared: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    rope: float = math.nan
    growth: Growth | None = None

    @property
    def ranked(self) -> list[LossSummary]:
        """The losses from best mean to worst; those without a finished run last."""
        return sorted(self.losses, key=lambda s: -direction(self.metric) * s.estimate.mean if s.n else math.inf)

    @property
    def missing(self) -> int:
        """How many cells have not run: more than 0 means that the study is partial."""
        return sum(s.count(MISSING) for s in self.losses)

    @property
    def winner(self) -> str | None:
        return self.verdict.winner
