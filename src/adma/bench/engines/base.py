"""What every engine does: cells in, events out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from adma.bench.result import CellResult
from adma.bench.study import Cell


@dataclass(frozen=True)
class Began:
    """A cell's training has started; `worker` says where, for whoever looks. Again after `Retried`, elsewhere."""

    cell: Cell
    worker: str = ""


@dataclass(frozen=True)
class Reached:
    """A cell has done this many epochs; `row` is what the last one measured."""

    cell: Cell
    epoch: int
    row: Mapping[str, float]


@dataclass(frozen=True)
class Retried:
    """A cell was lost and is trained again, from its checkpoint if it has one; why."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Stopped:
    """A cell was given up, after a checkpoint if it had begun; it has no result."""

    cell: Cell


@dataclass(frozen=True)
class Finished:
    """A cell has ended, well or not."""

    result: CellResult


@dataclass(frozen=True)
class Waited:
    """Nothing happened for a moment; whoever listens may look at the clock."""


Event = Began | Reached | Retried | Stopped | Finished | Waited


class Pull:
    """A supply of cells, as an engine pulls it."""

    def __init__(self, cells: Iterable[Cell | None]) -> None:
        self._cells = iter(cells)
        self.exhausted = False

    def next(self) -> Cell | None:
        """The next cell; None if there is none now, or, once it is `exhausted`, none any more."""
        try:
            return None if self.exhausted else next(self._cells)
        except StopIteration:
            self.exhausted = True
            return None


class Engine(Protocol):
    """Trains cells somewhere."""

    jobs: int

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Train the cells; closing the iterator stops at once what still runs.

        Each cell that is taken ends with exactly one `Finished` or `Stopped`.

        Args:
            cells: pulled one by one as there is room to train them, so that the next ones may depend on results, of
                this run or of another process. None means "nothing now, ask again after the next event".
        """
        ...

    def stop(self) -> None:
        """Take no more cells; let those that run write a checkpoint and stop, and then end. Called between events."""
        ...

    def cancel(self, cell: Cell) -> None:
        """Let one cell stop, as `stop` does for all."""
        ...
