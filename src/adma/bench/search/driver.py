"""The search itself: a supply of cells that follows from what came out so far.

    ledger -> trials of this process -> cells -> engine -> results -> ledger

A trial's seeds are trained in order. Where trials are pruned, no more seeds of a trial are begun than its next
decision needs, so that none is trained in vain and nothing depends on how many train at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from adma.bench.errors import BenchError
from adma.bench.lease import Leases
from adma.bench.remote_lease import RemoteLeases
from adma.bench.result import DIVERGED, DONE, CellResult
from adma.bench.result import FAILED as CELL_FAILED
from adma.bench.search import propose
from adma.bench.search.ledger import Ledger
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, Trial
from adma.bench.store import Store
from adma.bench.study import Cell, Setting
from adma.bench.supply import finished


@dataclass(eq=False)
class _Open:
    """A trial that this process runs.

    waiting: its cells that are not begun yet, in the order of the seeds.
    """

    trial: Trial
    ledger: Ledger
    waiting: list[Cell]
    values: dict[int, float] = field(default_factory=dict)
    diverged: list[int] = field(default_factory=list)
    epochs: int = 0

    @property
    def begun(self) -> int:
        return len(self.ledger.rules.seeds) - len(self.waiting)

    @property
    def room(self) -> bool:
        """Whether its next seed may begin: all that the next decision needs, or the one after the last decision."""
        return bool(self.waiting) and self.begun < self._allowed

    @property
    def _allowed(self) -> int:
        first = propose.first_decision(self.ledger.pruner)
        return len(self.ledger.rules.seeds) if not first else max(first, len(self.values) + 1)


class Driver:
    """Runs the searches of several losses side by side.

    Args:
        ledgers: one a loss.
        setting: of every cell, but for the learning rate.
        store: where cells are looked up; what it holds is not trained again.
        leases: of the store's folder; a cell that another process trains is waited for.
        say: told once what is waited for, and what was left alone.
        metric: what a trial is judged by, after the last epoch; better high, a fraction.
    """

    def __init__(
        self,
        ledgers: Sequence[Ledger],
        setting: Setting,
        store: Store,
        leases: Leases | RemoteLeases,
        say: Callable[[str], None] = print,
        metric: str = "val_accuracy",
    ) -> None:
        self._ledgers, self._setting, self._store, self._leases, self._say = ledgers, setting, store, leases, say
        self._metric = metric
        self._open: list[_Open] = []
        self._flying: dict[str, list[_Open]] = {}  # key -> the trials that wait for this cell
        self._said: set[str] = set()

    def cells(self) -> Iterator[Cell | None]:
        """What to train next, as an engine takes it; ends when every loss has its trials."""
        while True:
            cell = self._next()
            if cell is not None:
                yield cell
            elif not self._flying and all(ledger.done for ledger in self._ledgers):
                return
            else:
                if not self._flying:
                    self._name_the_awaited()
                yield None

    def take(self, result: CellResult) -> None:
        """A cell has ended and lies in the store."""
        for opened in self._flying.pop(result.cell.key, ()):
            self._absorb(opened, result)

    def back(self, cell: Cell) -> None:
        """A cell was given up without a result."""
        for opened in self._flying.pop(cell.key, ()):
            opened.waiting.insert(0, cell)

    def leave(self) -> None:
        """Give up what this process was running, so that any other one may go on with it at once."""
        for opened in self._open:
            with suppress(BenchError):  # the storage may be gone: who comes next sees that this search is, too
                opened.ledger.abandon(opened.trial)
        self._open.clear()

    @property
    def waiting(self) -> int:
        """How many cells are still to come, as far as can be seen."""
        ahead = sum((ledger.budget - ledger.settled()) * len(ledger.rules.seeds) for ledger in self._ledgers) - sum(
            opened.begun for opened in self._open
        )
        return max(0, ahead)

    # -- choosing --------------------------------------------------------------------------------------

    def _next(self) -> Cell | None:
        while True:
            found = self._of_open_trials()
            if found is not None:
                return found
            if not self._claim():
                return None

    def _of_open_trials(self) -> Cell | None:
        """A cell of the trials that are under way; what the store holds is taken from there."""
        for opened in list(self._open):
            while opened in self._open and opened.room:
                cell = opened.waiting.pop(0)
                if cell.key in self._flying:  # another trial trains just this
                    self._flying[cell.key].append(opened)
                    continue
                result = self._store.read(cell)
                if not finished(result) and self._leases.take(cell) is not None:
                    opened.waiting.insert(0, cell)  # until the other process has its result
                    break
                if not finished(result):
                    self._flying[cell.key] = [opened]
                    return cell
                self._absorb(opened, result)
        return None

    def _claim(self) -> bool:
        """Begin a trial of the loss that is behind the others."""
        for ledger in sorted(self._ledgers, key=lambda one: len(one.trials())):
            trial = ledger.claim()
            if trial is not None:
                setting = replace(self._setting, lr=ledger.space.lr_of(trial.params))
                spec = ledger.space.template.spec(trial.params)
                cells = [Cell(setting, spec, seed) for seed in ledger.rules.seeds]
                self._open.append(_Open(trial, ledger, cells))
                return True
        return False

    # -- what came out -----------------------------------------------------------------------------------

    def _absorb(self, opened: _Open, result: CellResult) -> None:
        if opened not in self._open:
            return  # it has failed by another seed
        seed = result.cell.seed
        if result.status == CELL_FAILED:
            self._end(opened, FAILED, f"seed {seed}: {result.reason}")
            return
        opened.epochs += len(result.epochs.get("epoch", ()))
        if result.status == DIVERGED:
            opened.diverged.append(seed)
        opened.values[seed] = result.final(self._metric) if result.status == DONE else 0.0
        opened.ledger.report(opened.trial, seed, opened.values[seed])
        self._judge(opened)

    def _judge(self, opened: _Open) -> None:
        """End the trial if it has all its seeds, or if those it has, in order, give it up."""
        seeds = opened.ledger.rules.seeds
        first = propose.first_decision(opened.ledger.pruner)
        if first and first <= len(opened.values) < len(seeds):
            history = opened.ledger.history(opened.trial.index)
            if propose.gives_up(opened.ledger.pruner, opened.ledger.space.ranges, history, opened.values):
                self._end(opened, PRUNED, "")
        elif len(opened.values) == len(seeds):
            self._end(opened, COMPLETE, "")

    def _end(self, opened: _Open, state: str, reason: str) -> None:
        self._open.remove(opened)
        opened.ledger.complete(
            replace(
                opened.trial,
                state=state,
                reason=reason,
                values=dict(sorted(opened.values.items())),
                diverged=tuple(sorted(opened.diverged)),
                epochs=opened.epochs,
            )
        )

    def _name_the_awaited(self) -> None:
        for ledger in self._ledgers:
            for trial in ledger.trials().values():
                words = f"{ledger.space.template.name}, trial {trial.index}: run by {trial.owner}"
                if trial.state == RUNNING and words not in self._said:
                    self._said.add(words)
                    self._say(f"waiting for {words}; if that process is gone, its trial is free in a minute")
