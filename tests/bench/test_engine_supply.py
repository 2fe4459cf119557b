"""An engine that is fed while it works: what comes next may depend on what came out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Event, Finished, Retried, Waited
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.work import Worker
from adma.bench.result import DONE, FAILED
from adma.bench.study import Cell, Setting

SETTING = Setting("digits", "", model="mlp", epochs=1, train_size=40, eval_size=50)


def digits(cell: Cell) -> Dataset:
    if cell.seed == 99:
        raise RuntimeError("no such seed")
    return load("digits")


def cell(seed: int) -> Cell:
    return Cell(SETTING, "cce", seed)


def test_cells_follow_from_results_and_the_worker_stays_alive() -> None:
    done: list[int] = []
    asked: list[int] = []

    def supply() -> Iterator[Cell | None]:
        for seed in (0, 1, 2):
            while len(done) < seed:  # the last one has to end first
                yield None
            asked.append(seed)
            yield cell(seed)

    processes = set()
    engine = LocalEngine(Worker(digits), jobs=2)
    start = engine._start

    def counted(device: str) -> object:
        connection, process = start(device)
        processes.add(process)
        return connection, process

    engine._start = counted  # type: ignore[assignment,method-assign]
    order = []
    for event in engine.run(supply()):
        if isinstance(event, Began):
            order.append(("began", event.cell.seed))
        elif isinstance(event, Finished):
            assert event.result.status == DONE, event.result.reason
            order.append(("done", event.result.cell.seed))
            done.append(event.result.cell.seed)
    assert order == [(word, seed) for seed in (0, 1, 2) for word in ("began", "done")]
    assert len(processes) == 1  # it was kept, with its data
    assert not any(process.is_alive() for process in processes)


def out_of_reach(cell: Cell) -> Dataset:
    raise ConnectionResetError("the server of the data hung up")


def test_a_connection_that_a_users_function_loses_is_not_taken_for_the_engines() -> None:
    """The worker would end without a word, the cell be tried again, and nobody learn why it failed."""
    events = list(LocalEngine(Worker(out_of_reach), jobs=1).run([cell(0)]))
    assert not any(isinstance(event, Retried) for event in events)
    (result,) = [event.result for event in events if isinstance(event, Finished)]
    assert result.status == FAILED
    assert result.reason.startswith("ConnectionResetError: the server of the data hung up (test_engine_supply.py:")


def test_a_supply_that_waits_for_others_is_asked_again() -> None:
    answers = iter([None, None])
    events = list(LocalEngine(Worker(digits), jobs=1).run(answers))
    assert events == [Waited(), Waited()]


def test_an_error_of_the_supply_ends_the_workers_and_reaches_the_caller() -> None:
    def supply() -> Iterator[Cell]:
        yield cell(99)
        raise ValueError("the storage is gone")

    seen: list[Event] = []

    def consume() -> None:
        for event in LocalEngine(Worker(digits), jobs=1).run(supply()):
            seen.append(event)

    with pytest.raises(ValueError, match="the storage is gone"):
        consume()
    assert isinstance(seen[-1], Finished)
    assert seen[-1].result.status == FAILED
    assert "no such seed" in seen[-1].result.reason
