"""`--until-decided`: seeds are added in steps until every loss is told from the baseline, or called as good as it.

A look after each step; the verdict is `statistics.sequential`'s, whose error rate holds over all looks. All losses run
all seeds, the decided ones too: a loss that stopped early would be compared over other seeds than the rest, and the
best could not be held against all others. A loss that has no finished run in common with the baseline after a look
(every one diverged or failed) is named and not waited for: more seeds of it would tell nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adma.bench.engines import Engine
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.progress import Display
from adma.bench.report.cells import estimate_cell
from adma.bench.result import FAILED
from adma.bench.run import Conduct, OutOfTimeError, run_cells
from adma.bench.statistics import MIN_SEEDS, Comparison, summarise
from adma.bench.study import Study
from adma.bench.supply import missing

STEP, MAX_SEEDS = 2, 30


@dataclass(frozen=True)
class Steps:
    """How many seeds to start with, to add at a look, and to run at most.

    Raises:
        BenchError: at making, numbers that cannot be.
    """

    start: int
    step: int = STEP
    max_seeds: int = MAX_SEEDS

    def __post_init__(self) -> None:
        if self.max_seeds < self.start:
            raise BenchError(f"--max-seeds {self.max_seeds}: is below the {self.start} seeds of --seeds to start with")
        if self.max_seeds < MIN_SEEDS:
            raise BenchError(f"--max-seeds {self.max_seeds}: nothing is decided below {MIN_SEEDS} seeds")

    def counts(self) -> Iterator[int]:
        """The number of seeds at each look."""
        count = self.start
        while count < self.max_seeds:
            yield count
            count += self.step
        yield self.max_seeds


@dataclass(frozen=True)
class Look:
    """What one look saw: `waiting` are the losses that are undecided, `hopeless` those that are not waited for."""

    number: int
    comparison: Comparison
    waiting: tuple[str, ...]
    hopeless: tuple[str, ...]

    @property
    def words(self) -> str:
        """The look in a line."""
        parts = []
        for summary in self.comparison.losses:
            watched = summary.watched
            if watched is None:
                continue
            if summary.loss in self.hopeless:
                parts.append(f"{summary.loss} has no finished run to compare and is not waited for")
            else:
                at = "" if watched.decided_at is None else f" at {watched.decided_at} seeds"
                difference = estimate_cell(watched.estimate, self.comparison.metric)
                parts.append(f"{summary.loss} {watched.verdict}{at} ({difference})")
        return f"look {self.number}, {len(self.comparison.seeds)} seeds: {'; '.join(parts)}"


def run_until_decided(
    study: Study,
    steps: Steps,
    store: Folder,
    engine: Engine,
    *,
    about: Mapping[str, Any],
    baseline: str,
    rope: float | None,
    display: Callable[[], Display],
    conduct: Conduct,
    looked: Callable[[Look], None],
) -> None:
    """Run and look until nothing is waited for.

    The course of the looks is a function of the stored results alone, so the same call after an interruption looks
    again at what is there and goes on.

    Args:
        study: with all `max_seeds` seeds; each look takes the first so many of them.
        display: makes what shows the runs of one step.
        conduct: of all steps together.
        looked: is told of every look.

    Raises:
        KeyboardInterrupt, OutOfTimeError: as `run_cells`.
    """
    started = time.monotonic()
    failed: set[str] = set()  # in this call: the next call tries them again, not the next look
    for number, count in enumerate(steps.counts(), start=1):
        grown = replace(study, seeds=study.seeds[:count])
        store.open(grown, about=about, grows=True)
        cells = [cell for cell in grown.cells() if cell.key not in failed]
        if missing(cells, store):
            run_cells(cells, store, engine, display(), _rest(conduct, started))
        results = store.results_of(grown, about)
        failed |= {c.cell.key for c in results.cells if c.status == FAILED}
        look = _look(number, summarise(results, baseline=baseline, rope=rope))
        looked(look)
        if not look.waiting:
            return


def _rest(conduct: Conduct, started: float) -> Conduct:
    """What is left of a conduct's time, which is for all steps."""
    if conduct.seconds is None:
        return conduct
    seconds = conduct.seconds - (time.monotonic() - started)
    if seconds <= 0:
        raise OutOfTimeError
    return replace(conduct, seconds=seconds)


def _look(number: int, comparison: Comparison) -> Look:
    watched = {s.loss: s.watched for s in comparison.losses if s.watched is not None}
    hopeless = tuple(loss for loss, w in watched.items() if w.estimate.n == 0)
    waiting = tuple(loss for loss, w in watched.items() if not w.decided and loss not in hopeless)
    return Look(number, comparison, waiting, hopeless)
