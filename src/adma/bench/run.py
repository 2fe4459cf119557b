"""The cells that are missing -> an engine -> the store; and what stops that, or makes it wait."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from adma.bench.checkpoint import Keeper
from adma.bench.engines import Began, Engine, Finished, Reached, Retried, Stopped
from adma.bench.index import Index
from adma.bench.lease import Leases
from adma.bench.progress import Display
from adma.bench.remote_lease import RemoteLeases
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.sinks import Sinks
from adma.bench.store import Store
from adma.bench.study import Cell
from adma.bench.supply import Source, Supply, finished
from adma.bench.whole import DiskFullError

KEEP_BYTES = 2**31
_FULL_SECONDS = 2.0  # between two tries on a full disk


class OutOfTimeError(Exception):
    """The time that was given is over; what was under way has a checkpoint."""


@dataclass(frozen=True)
class Conduct:
    """How a run behaves.

    seconds: after which it stops by itself, None: when all is done.
    keep: whether the last states of finished trainings stay, for studies with more epochs; None: as long as those of
        the whole run take less than `KEEP_BYTES`.
    take_over: whether leases of other machines' processes are taken for a dead one's without waiting.
    log: names of `sinks.SINKS` that are told of every epoch.
    """

    seconds: float | None = None
    keep: bool | None = None
    take_over: bool = False
    log: tuple[str, ...] = ()


DEFAULT = Conduct()


def run_cells(
    cells: Sequence[Cell], store: Store, engine: Engine, display: Display, conduct: Conduct = DEFAULT
) -> None:
    """Train what the store does not hold; several processes may do so in one folder, each its share.

    A cell that is done or diverged is never run again; one that failed is, since its cause may be gone; one that
    cannot be read is set aside and runs again. The same call goes on from whatever was reached.

    Raises:
        KeyboardInterrupt: it was asked to stop, by Ctrl-C or SIGTERM: what is under way wrote a checkpoint. A second
            Ctrl-C does not wait for that.
        OutOfTimeError: the time of `conduct` is over.
    """
    known = Index(store).known(cells, checked=True)
    for line in store.set_aside_broken(cell for cell in cells if known[cell.key].status == FAILED):
        display.say(line)
    todo = [cell for cell in cells if not finished(known[cell.key])]
    display.start(todo, len(cells) - len(todo), engine.jobs)
    leases = store.leases()
    try:
        supply = Supply(
            todo, store, leases, display.say, elsewhere=display.elsewhere, take_over=conduct.take_over
        )  # fmt: skip
        drive(supply, store, engine, display, leases, conduct)
    finally:
        leases.close()


def drive(
    source: Source,
    store: Store,
    engine: Engine,
    display: Display,
    leases: Leases | RemoteLeases,
    conduct: Conduct = DEFAULT,
) -> None:
    """Train the cells as they come and keep every result.

    Args:
        source: of the cells, which has their leases; it is told each result after the store holds it, before the next
            cell is asked for.
        leases: of the store's folder; a cell that another process took over is given up.

    Raises:
        KeyboardInterrupt, OutOfTimeError: as `run_cells`.
    """
    started = time.monotonic()
    stopping = out_of_time = told = False
    given_up: set[str] = set()
    begun: set[str] = set()  # a cell that was lost begins again, and is one run to a sink
    index = Index(store)
    with (
        closing(display),
        closing(Sinks(conduct.log, store.root, display.say)) as sinks,
        _Interrupts() as asked,
        closing(engine.run(source.cells())) as events,
    ):
        for event in events:
            if isinstance(event, Began):
                display.begin(event.cell)
                if event.cell.key not in begun:
                    begun.add(event.cell.key)
                    sinks.begin(event.cell)
            elif isinstance(event, Reached):
                display.epoch(event.cell, event.epoch)
                sinks.epoch(event.cell, event.epoch, event.row)
                leases.note(event.cell, epoch=event.epoch, epochs=event.cell.setting.epochs)
            elif isinstance(event, Retried):
                display.say(f"{display.name(event.cell)}: {event.reason.splitlines()[0]}; it is trained once more")
            elif isinstance(event, Stopped):
                display.stopped(event.cell)
                leases.release(event.cell)
                given_up.discard(event.cell.key)  # it may be taken back, and lost again
                source.back(event.cell)
            elif isinstance(event, Finished):
                if _write(event.result, store, display, asked):
                    index.add(event.result)
                _tidy(event.result, store, conduct, display)
                display.end(event.result)
                if event.result.cell.key in begun:  # else it was lost before it was anywhere
                    sinks.end(event.result)
                source.take(event.result)
                leases.release(event.result.cell)
            for cell in display.running:
                if cell.key in leases.lost - given_up:
                    given_up.add(cell.key)
                    display.say(f"{display.name(cell)}: another command took it over while this one was stopped")
                    engine.cancel(cell)
            if conduct.seconds is not None and not stopping and time.monotonic() - started > conduct.seconds:
                out_of_time = True
                display.say("the time of --budget is over: trainings write a checkpoint and stop")
            if asked.times and not told:
                told = True
                display.say("stopping: trainings write a checkpoint first; Ctrl-C again stops at once")
            if (out_of_time or asked.times) and not stopping:
                stopping = True
                engine.stop()
        if asked.times:
            raise KeyboardInterrupt
        if out_of_time:
            raise OutOfTimeError


def _tidy(result: CellResult, store: Store, conduct: Conduct, display: Display) -> None:
    """Leave of a stored cell's checkpoints what `conduct` says; a cell that failed keeps its own for the next run."""
    if result.status == FAILED:
        return
    keeper = Keeper(store.checkpoints, result.cell)
    allowed = KEEP_BYTES // max(1, display.total)
    keep = conduct.keep
    if keep is None:
        keep = keeper.size <= allowed
        if not keep:
            display.say_once(
                f"last states of {keeper.size / 2**20:.0f} MiB a training are not kept, as {display.total} of them are "
                "more than 2 GiB; --keep-checkpoints keeps them for a run with more epochs"
            )
    keeper.tidy(keep and result.status == DONE)


def _write(result: CellResult, store: Store, display: Display, asked: _Interrupts) -> bool:
    """As `Store.write`; on a full disk say so, and try again until there is room. Nothing is lost meanwhile."""
    told = False
    while True:
        try:
            mine = store.write(result)
        except DiskFullError as error:
            if asked.times:
                raise KeyboardInterrupt from error
            if not told:
                display.say(f"paused: {str(error).partition(';')[0]}; it goes on when there is room, Ctrl-C ends it")
                told = True
            time.sleep(_FULL_SECONDS)
            continue
        if told:
            display.say("there is room again: it goes on")
        return mine


class _Interrupts:
    """Counts Ctrl-C and SIGTERM: the first lets trainings write a checkpoint, the second ends them at once.

    It says nothing itself: a signal may come in the middle of a line that waits for the terminal.
    """

    def __init__(self) -> None:
        self.times = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, *_: object) -> None:
        self.times += 1
        if self.times > 1:
            raise KeyboardInterrupt
