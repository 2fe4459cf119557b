"""The cells that are missing -> an engine -> the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from adma.bench.engines import Began, Engine, Finished, Reached
from adma.bench.progress import Display
from adma.bench.store import DIVERGED, DONE, CellResult, Store
from adma.bench.study import Cell


def run_cells(cells: Sequence[Cell], store: Store, engine: Engine, display: Display) -> None:
    """Train what the store does not hold.

    A cell that is done or diverged is never run again; one that failed is, since its cause may be gone. On
    Ctrl-C (or any error) the workers are stopped; what is finished stays, and the same call goes on from there.
    """
    todo = missing(cells, store)
    display.start(todo, len(cells) - len(todo), engine.jobs)
    drive(todo, store, engine, display)


def drive(
    cells: Iterable[Cell | None],
    store: Store,
    engine: Engine,
    display: Display,
    on_result: Callable[[CellResult], None] | None = None,
) -> None:
    """Train the cells as they come, as `Engine.run` takes them, and keep every result.

    Args:
        on_result: told each result after the store holds it, before the next cell is asked for.
    """
    try:
        with closing(engine.run(cells)) as events:
            for event in events:
                if isinstance(event, Began):
                    display.begin(event.cell)
                elif isinstance(event, Reached):
                    display.epoch(event.cell, event.epoch)
                elif isinstance(event, Finished):
                    store.write(event.result)
                    display.end(event.result)
                    if on_result is not None:
                        on_result(event.result)
    finally:
        display.close()


def missing(cells: Sequence[Cell], store: Store) -> list[Cell]:
    """The cells that have to run: those without a result, and those that failed."""
    return [cell for cell in cells if store.read(cell).status not in (DONE, DIVERGED)]
