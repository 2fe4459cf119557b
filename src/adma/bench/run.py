"""The cells that are missing -> an engine -> the store."""

from __future__ import annotations

from contextlib import closing

from adma.bench.engines import Began, Engine, Finished, Reached
from adma.bench.progress import Display
from adma.bench.store import DIVERGED, DONE, Results, Store
from adma.bench.study import Study


def run_study(study: Study, store: Store, engine: Engine, display: Display) -> Results:
    """Train what the store does not hold, and give back all of the study's results.

    A cell that is done or diverged is never run again; one that failed is, since its cause may be gone. On
    Ctrl-C (or any error) the workers are stopped; what is finished stays, and the same call goes on from there.
    """
    cells = study.cells()
    todo = [cell for cell in cells if store.read(cell).status not in (DONE, DIVERGED)]
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
    return store.results()
