"""The cells that are missing -> an engine -> the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from adma.bench.engines import Began, Engine, Finished, Reached
from adma.bench.progress import Display
from adma.bench.store import DIVERGED, DONE, Store
from adma.bench.study import Cell


def run_cells(cells: Sequence[Cell], store: Store, engine: Engine, display: Display) -> None:
    """Train what the store does not hold.

    A cell that is done or diverged is never run again; one that failed is, since its cause may be gone. On
    Ctrl-C (or any error) the workers are stopped; what is finished stays, and the same call goes on from there.
    """
    todo = missing(cells, store)
    display.start(todo, len(cells) - len(todo), engine.jobs)
    try:
        with closing(engine.run(todo)) as events:
            for event in events:
                if isinstance(event, Began):
                    display.begin(event.cell)
                elif isinstance(event, Reached):
                    display.epoch(event.cell, event.epoch)
                elif isinstance(event, Finished):
                    store.write(event.result)
                    display.end(event.result)
    finally:
        display.close()


def missing(cells: Sequence[Cell], store: Store) -> list[Cell]:
    """The cells that have to run: those without a result, and those that failed."""
    return [cell for cell in cells if store.read(cell).status not in (DONE, DIVERGED)]
