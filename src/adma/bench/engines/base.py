"""What every engine does: cells in, events out."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

from adma.bench.store import CellResult
from adma.bench.study import Cell


@dataclass(frozen=True)
class Began:
    """A cell's training has started."""

    cell: Cell


@dataclass(frozen=True)
class Reached:
    """A cell has done this many epochs."""

    cell: Cell
    epoch: int


@dataclass(frozen=True)
class Finished:
    """A cell has ended, well or not."""

    result: CellResult


Event = Began | Reached | Finished


class Engine(Protocol):
    """Trains cells somewhere."""

    jobs: int

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Train the cells; closing the iterator stops what still runs.

        Args:
            cells: pulled one by one as there is room to train them, so that the next ones may depend on results.
                None means "nothing now, ask again after the next event".

        Raises:
            RuntimeError: None while nothing runs, so that no event would ever come.
        """
        ...
