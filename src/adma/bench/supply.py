"""The cells that are missing, divided among the processes that share a folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from adma.bench.index import Index, Known
from adma.bench.lease import Lease, Leases
from adma.bench.remote_lease import RemoteLeases
from adma.bench.result import DIVERGED, DONE, CellResult
from adma.bench.store import Store
from adma.bench.study import Cell, unique
from adma.bench.whole import DiskFullError


def finished(result: CellResult | Known) -> bool:
    """Whether a cell never runs again: it is done, or it diverged, which is a result too."""
    return result.status in (DONE, DIVERGED)


def missing(cells: Sequence[Cell], store: Store) -> list[Cell]:
    """The cells that have to run: those without a result, and those that failed."""
    known = Index(store).known(cells, checked=True)
    return [cell for cell in cells if not finished(known[cell.key])]


class Source(Protocol):
    """Where a run's cells come from, and who is told what became of them."""

    def cells(self) -> Iterator[Cell | None]:
        """As `Engine.run` takes them."""
        ...

    def take(self, result: CellResult) -> None:
        """A cell has ended and lies in the store."""
        ...

    def back(self, cell: Cell) -> None:
        """A cell was given up without a result."""
        ...


class Supply:
    """Cells for an engine, each trained by one of the processes that share the store.

    Args:
        cells: to be trained, unless the store holds them.
        store: where their results are looked up.
        leases: of the store's folder.
        say: told once which other process is waited for.
        elsewhere: told of each cell that another process has finished meanwhile.
        take_over: whether leases of other machines' processes are taken for a dead one's without waiting.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        store: Store,
        leases: Leases | RemoteLeases,
        say: Callable[[str], None] = print,
        *,
        elsewhere: Callable[[Cell], None] = lambda cell: None,
        take_over: bool = False,
    ) -> None:
        self._left = deque(missing(unique(cells), store))
        self._store, self._leases, self._say, self._take_over = store, leases, say, take_over
        self._elsewhere = elsewhere
        self._said: set[str] = set()
        self._named: set[str] = set()

    @property
    def waiting(self) -> list[Cell]:
        """The cells that are not begun here."""
        return list(self._left)

    def cells(self) -> Iterator[Cell | None]:
        """As an engine takes them: None while all that is left is trained by others, or cannot be claimed now."""
        while self._left:
            yield self._next()

    def take(self, result: CellResult) -> None:
        """A cell has ended and lies in the store."""
        self._leases.release(result.cell)

    def back(self, cell: Cell) -> None:
        """A cell was given up without a result: another process has it, or the run ends."""
        self._left.append(cell)

    def _next(self) -> Cell | None:
        others: list[Cell] = []  # are trained elsewhere now
        try:
            while self._left:
                cell = self._left.popleft()
                try:
                    holder = self._leases.take(cell, take_over=self._take_over)
                except DiskFullError as error:
                    others.append(cell)
                    self._say_once(f"paused: {str(error).partition(';')[0]}; it goes on when there is room")
                    return None
                if holder is not None:
                    others.append(cell)
                    self._name(holder, cell)
                elif finished(self._store.read(cell)):  # by another process, between two looks
                    self._leases.release(cell)
                    self._elsewhere(cell)
                else:
                    return cell
            return None
        finally:
            self._left.extendleft(reversed(others))

    def _name(self, holder: Lease, cell: Cell) -> None:
        who = f"{holder.owner.host}, process {holder.owner.pid}"
        if who not in self._named:
            self._named.add(who)
            self._say(f"another command ({who}) trains {cell.loss} seed {cell.seed} and perhaps more of this folder")

    def _say_once(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            self._say(words)
