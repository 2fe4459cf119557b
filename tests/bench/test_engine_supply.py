"""An engine that is fed while it works: what comes next may depend on what came out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Event, Finished, Reached, Retried, Stopped, Waited
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


LONG = Cell(replace(SETTING, epochs=3000), "cce", 0)


def events_of_a_killed_worker(engine: LocalEngine, then: Callable[[Event], None]) -> list[Event]:
    """What an engine says of a training whose worker is killed after its first epoch; it has a minute."""
    seen: list[Event] = []

    def consume() -> None:
        for event in engine.run([LONG]):
            seen.append(event)
            then(event)
            if isinstance(event, Reached) and event.epoch == 1:
                for busy in engine._busy.values():
                    busy.process.kill()

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    thread.join(60)
    ended = not thread.is_alive()
    engine._waiting.clear()  # lets it end, if it goes round and round
    assert ended
    return [event for event in seen if isinstance(event, (Retried, Stopped, Finished))]


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_who_stops_it_on_the_news_that_a_worker_is_lost_is_heard(how: str) -> None:
    """As Ctrl-C does while a hung worker is being ended."""
    engine = LocalEngine(Worker(digits), jobs=1)

    def then(event: Event) -> None:
        if isinstance(event, Retried):
            engine.stop() if how == "stop" else engine.cancel(LONG)

    events = events_of_a_killed_worker(engine, then)
    assert [type(event) for event in events] == [Retried, Stopped]


def test_a_cell_that_was_cancelled_is_not_tried_again_when_its_worker_dies() -> None:
    engine = LocalEngine(Worker(digits), jobs=1)

    def then(event: Event) -> None:
        if isinstance(event, Reached) and event.epoch == 1:
            for busy in engine._busy.values():
                assert busy.process.pid is not None
                os.kill(busy.process.pid, signal.SIGSTOP)  # it does not hear of it
            engine.cancel(LONG)

    assert events_of_a_killed_worker(engine, then) == [Stopped(LONG)]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signal asks a process there where it is")
def test_a_worker_that_ends_before_it_is_asked_where_it_hangs_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(Worker(digits), jobs=1)
    engine._dumps = "/nowhere"
    monkeypatch.setattr("adma.bench.engines.local._LOOK", 0.0)
    ended: Any = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert engine._stack_of(ended) == "(unknown)"
