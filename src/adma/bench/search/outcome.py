"""A search put together: its trials, its winners with fresh seeds, and what they say. This is what a report shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adma.bench.data.dataset import ACCURACY
from adma.bench.folder import Results, measure_of
from adma.bench.result import DIVERGED, DONE, CellResult
from adma.bench.search import analysis
from adma.bench.search.analysis import Bias, Curve, Importance, Unknown
from adma.bench.search.space import Space
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, Trial, best
from adma.bench.statistics import Comparison, Estimate, estimate, summarise
from adma.bench.store import Store
from adma.bench.study import Cell, Setting, Study


@dataclass(frozen=True)
class Found:
    """What the search of one loss came to.

    budget: how many trials it was given.
    trials: those there are, in their order.
    spec, lr: of the winner; "" and NaN if there is none.
    fresh: the winner trained with fresh seeds, in the order of the seeds.
    measure: that it was chosen by, on the validation part.
    """

    name: str
    space: Space
    budget: int
    trials: tuple[Trial, ...]
    winner: Trial | None
    spec: str
    lr: float
    fresh: tuple[CellResult, ...]
    curves: Mapping[str, Curve | Unknown]
    importance: Sequence[Importance] | Unknown
    measure: str = ACCURACY

    def count(self, state: str) -> int:
        return sum(t.state == state for t in self.trials)

    @property
    def epochs(self) -> int:
        """Of all trials' runs; one that several trials share, or that was there before, counts in each."""
        return sum(t.epochs for t in self.trials)

    @property
    def missing(self) -> int:
        """How many trials have not ended."""
        return self.budget - sum(self.count(state) for state in (COMPLETE, PRUNED, FAILED))

    @property
    def failures(self) -> list[Trial]:
        return [t for t in self.trials if t.state == FAILED]

    @property
    def running(self) -> list[Trial]:
        return [t for t in self.trials if t.state == RUNNING]

    @property
    def bias(self) -> Bias | Unknown:
        """Both sides by the search's rule: a run that diverged counts as 0."""
        if self.winner is None:
            return Unknown("no trial is complete")
        column = f"val_{self.measure}"
        fresh = [0.0 if c.status == DIVERGED else c.final(column) for c in self.fresh if c.status in (DONE, DIVERGED)]
        return analysis.selection_bias(self.winner.values, fresh)

    @property
    def test(self) -> Estimate:
        """The measure of the winner on the test part with fresh seeds; as in `comparison`, of those that are done."""
        return estimate(_finals(self.fresh, f"test_{self.measure}"), analysis.LEVEL)


@dataclass(frozen=True)
class Outcome:
    """A whole search.

    comparison: of the winners, with fresh seeds; None until there is a winner.
    results: what it was made from.
    about: of the data and the command, as the store keeps it.
    """

    setting: Setting
    seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    rope: float
    found: tuple[Found, ...]
    comparison: Comparison | None
    results: Results | None
    about: Mapping[str, Any]

    @property
    def missing(self) -> int:
        """How many trials and final runs have not ended."""
        final = sum(c.status == "missing" for f in self.found for c in f.fresh)
        return sum(f.missing for f in self.found) + final


def final_cells(setting: Setting, space: Space, trials: Iterable[Trial], seeds: Sequence[int]) -> list[Cell]:
    """The winner of one loss with fresh seeds; nothing if there is no winner."""
    winner = best(list(trials))
    if winner is None:
        return []
    spec = space.template.spec(winner.params)
    return [Cell(replace(setting, lr=space.lr_of(winner.params)), spec, seed) for seed in seeds]


def put_together(
    setting: Setting,
    searched: Sequence[tuple[Space, int, Sequence[Trial]]],
    store: Store,
    *,
    seeds: Sequence[int],
    final_seeds: Sequence[int],
    rope: float,
    seed: int,
    about: Mapping[str, Any],
) -> Outcome:
    """Judge a search from its trials and from what the store holds of the final runs.

    Args:
        searched: space, budget and trials of each loss.
    """
    found = []
    for space, budget, trials in searched:
        winner = best(list(trials))
        curves = {key: analysis.curve(trials, space.ranges, key, rope=rope, seed=seed) for key in space.template.space}
        found.append(
            Found(
                name=space.template.name,
                space=space,
                budget=budget,
                trials=tuple(trials),
                winner=winner,
                spec=space.template.spec(winner.params) if winner else "",
                lr=space.lr_of(winner.params) if winner else float("nan"),
                fresh=tuple(store.read(cell) for cell in final_cells(setting, space, trials, final_seeds)),
                curves=curves,
                importance=analysis.importance(trials, space.ranges, seed=seed),
                measure=measure_of(about),
            )
        )
    results = _winners(setting, found, final_seeds, about)
    comparison = summarise(results) if results is not None else None
    return Outcome(
        setting, tuple(seeds), tuple(final_seeds), rope, tuple(found), comparison, results, about
    )  # fmt: skip


def _winners(
    setting: Setting, found: Sequence[Found], seeds: Sequence[int], about: Mapping[str, Any]
) -> Results | None:
    """The final runs as a study of the winners, each under its own learning rate.

    All share the data, the seeds and what is drawn from them; that is what `check_fairness` holds them to.
    """
    taken = [f for f in found if f.winner is not None]
    if not taken:
        return None
    specs = [f.spec for f in taken]
    labels = [f.spec if specs.count(f.spec) == 1 else f"{f.spec} ({f.name})" for f in taken]
    cells = [
        replace(result, cell=replace(result.cell, loss=label))
        for label, f in zip(labels, taken, strict=True)
        for result in f.fresh
    ]
    return Results(Study(setting, tuple(labels), tuple(seeds)), tuple(cells), about)


def _finals(cells: Iterable[CellResult], column: str) -> list[float]:
    return [c.final(column) for c in cells if c.status == DONE]
