"""The winners trained again with fresh seeds. Processes that share a folder divide the runs among them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from adma.bench.store import DIVERGED, DONE, CellResult, Store
from adma.bench.study import Cell, unique

_POLL_SECONDS = 0.5


class FinalRuns:
    """A supply of cells, each trained by one of the processes that share the store.

    Args:
        cells: to be trained, unless the store holds them.
        store: where processes claim cells.
        say: told once which other process is waited for.
        take_over: whether claims of other machines' processes are taken for abandoned.
    """

    def __init__(
        self, cells: Sequence[Cell], store: Store, say: Callable[[str], None] = print, *, take_over: bool = False
    ) -> None:
        self._left = [cell for cell in unique(cells) if not _finished(store, cell)]
        self._store, self._say, self._take_over = store, say, take_over
        self._mine: dict[str, Cell] = {}
        self._said: set[str] = set()

    @property
    def waiting(self) -> list[Cell]:
        """The cells that are not begun here."""
        return list(self._left)

    def cells(self) -> Iterator[Cell | None]:
        while self._left:
            cell = self._next()
            if cell is not None:
                yield cell
            elif self._mine:
                yield None
            elif self._left:
                time.sleep(_POLL_SECONDS)

    def take(self, result: CellResult) -> None:
        """A cell has ended and lies in the store."""
        self._mine.pop(result.cell.key)
        self._store.release(result.cell)

    def leave(self) -> None:
        """Give up the claims of this process."""
        for cell in self._mine.values():
            self._store.release(cell)
        self._mine.clear()

    def _next(self) -> Cell | None:
        for cell in list(self._left):
            holder = self._store.claim(cell, take_over=self._take_over)
            if holder is not None:
                if str(holder) not in self._said:
                    self._said.add(str(holder))
                    self._say(f"another process trains {cell.loss} seed {cell.seed} and perhaps more: {holder}")
                continue
            self._left.remove(cell)
            if _finished(self._store, cell):  # by another process, between two looks
                self._store.release(cell)
                continue
            self._mine[cell.key] = cell
            return cell
        return None


def _finished(store: Store, cell: Cell) -> bool:
    return store.read(cell).status in (DONE, DIVERGED)
