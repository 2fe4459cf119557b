"""Processes on this machine: each trains one cell at a time, and loads data when the next cell needs other.

Cells are pulled as workers become free, so what is trained next may depend on what came out before.
Workers are spawned, not forked (torch's threads and CUDA do not survive a fork). A worker that dies, or that gives no
sign of life for too long, is replaced, and its cell trained once more, from its checkpoint if it has one.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from adma.bench.engines.base import Began, Event, Finished, Pull, Reached, Retried, Stopped, Waited
from adma.bench.engines.work import HANG_SECONDS, Worker, with_faults
from adma.bench.result import FAILED, CellResult
from adma.bench.study import Cell

_TRIES = 2  # of a cell whose process is lost
_LOOK = 1.0  # seconds between two looks at the clock, and between two signs of life
_STOP = "stop"


@dataclass
class _Busy:
    """A worker with a cell, and when it was last heard of."""

    process: BaseProcess
    cell: Cell
    heard: float


class LocalEngine:
    """Trains cells in processes on this machine.

    Args:
        worker: what trains in each process; it has to be picklable.
        jobs: how many cells train at once.
        hang_after: seconds without a sign of life (a batch, in training or measuring) after which a process is killed.
    """

    def __init__(self, worker: Worker, *, jobs: int, hang_after: float = HANG_SECONDS) -> None:
        self.jobs = jobs
        self._worker, self._hang_after = worker, hang_after
        self._context = multiprocessing.get_context("spawn")
        self._busy: dict[Connection, _Busy] = {}
        self._idle: dict[Connection, BaseProcess] = {}
        self._faults: dict[str, list[str]] = {}  # key -> what happened to it in this run
        self._stopping = False

    def stop(self) -> None:
        """As `Engine.stop`."""
        self._stopping = True
        for connection in list(self._busy):
            _tell(connection, _STOP)

    def cancel(self, cell: Cell) -> None:
        """As `Engine.cancel`."""
        for connection, busy in self._busy.items():
            if busy.cell == cell:
                _tell(connection, _STOP)

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Train the cells, in order as workers become free; closing the iterator stops the workers.

        Workers stay alive, with their data, while the cells are not exhausted.
        """
        supply = Pull(cells)
        self._stopping, self._faults = False, {}
        with tempfile.TemporaryDirectory(prefix="adma-") as self._dumps:
            try:
                while True:
                    while not self._stopping and len(self._busy) < self.jobs:
                        cell = supply.next()
                        if cell is None:
                            break
                        process = self._hand_over(cell)
                        yield Began(cell, f"process {process.pid}")
                    if supply.exhausted or self._stopping:
                        self._dismiss_idle()
                    if self._busy:
                        yield from self._listen()
                    elif supply.exhausted or self._stopping:
                        return
                    else:  # what the supply waits for happens elsewhere
                        time.sleep(_LOOK)
                        yield Waited()
            finally:
                self._end_all()

    # -- what workers say -----------------------------------------------------------------------------------

    def _listen(self) -> Generator[Event, None, None]:
        ready = [c for c in wait(list(self._busy), timeout=_LOOK) if isinstance(c, Connection)]
        for connection in ready:
            busy = self._busy[connection]
            busy.heard = time.monotonic()
            try:
                kind, value = connection.recv()
            except (EOFError, ConnectionResetError):
                busy.process.join()
                yield from self._lost(connection, _death(busy.process.exitcode))
                continue
            if kind == "epoch":
                yield Reached(busy.cell, *value)
            elif kind == "result":
                self._idle[connection] = self._busy.pop(connection).process
                faults = self._faults.pop(busy.cell.key, [])
                yield Stopped(busy.cell) if value is None else Finished(with_faults(value, faults))
        now = time.monotonic()
        for connection, busy in list(self._busy.items()):
            if connection not in ready and now - busy.heard > self._hang_after:
                stack = self._stack_of(busy.process)
                busy.process.kill()
                busy.process.join()
                reason = f"no sign of life for {now - busy.heard:.0f} s: its process was killed; it was at\n{stack}"
                yield from self._lost(connection, reason)
        if not ready:
            yield Waited()

    def _lost(self, connection: Connection, reason: str) -> Generator[Event, None, None]:
        """Begin a cell whose process is gone again, once."""
        cell = self._busy.pop(connection).cell
        connection.close()
        faults = self._faults.setdefault(cell.key, [])
        faults.append(reason)
        if self._stopping:
            yield Stopped(cell)
        elif len(faults) < _TRIES:
            yield Retried(cell, reason)
            self._hand_over(cell)
        else:
            del self._faults[cell.key]
            yield Finished(with_faults(CellResult(cell, FAILED, f"{reason}; the second time"), faults[:-1]))

    def _stack_of(self, process: BaseProcess) -> str:
        """Where a worker's threads are, as it writes them down when asked."""
        if process.pid is None or not hasattr(signal, "SIGUSR1"):
            return "(unknown)"
        os.kill(process.pid, signal.SIGUSR1)
        time.sleep(_LOOK)
        try:
            return (Path(self._dumps) / str(process.pid)).read_text().strip() or "(unknown)"
        except OSError:
            return "(unknown)"

    # -- workers ---------------------------------------------------------------------------------------------

    def _hand_over(self, cell: Cell) -> BaseProcess:
        """Give the cell to an idle worker, or to a new one."""
        while self._idle:
            connection, process = self._idle.popitem()
            if _tell(connection, cell):
                break
            process.join()  # it was killed while it had nothing to do
        else:
            connection, process = self._start()
            _tell(connection, cell)
        self._busy[connection] = _Busy(process, cell, time.monotonic())
        return process

    def _start(self) -> tuple[Connection, BaseProcess]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._worker, self._dumps, os.getpid()), daemon=True
        )
        process.start()
        theirs.close()
        return ours, process

    def _dismiss_idle(self) -> None:
        while self._idle:
            connection, process = self._idle.popitem()
            connection.close()  # ends the worker
            process.join()

    def _end_all(self) -> None:
        processes = [*self._idle.items(), *((connection, busy.process) for connection, busy in self._busy.items())]
        for connection, process in processes:
            process.kill()
            connection.close()
        for _, process in processes:
            process.join()
        self._idle.clear()
        self._busy.clear()


def _tell(connection: Connection, message: Cell | str) -> bool:
    try:
        connection.send(message)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


# -- in the worker -----------------------------------------------------------------------------------------------


class _Line:
    """A worker's connection: signs of life out, the word to stop in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next = 0.0
        self._stop = False

    def begin(self) -> None:
        self._next, self._stop = time.monotonic() + _LOOK, False

    def epoch(self, number: int, row: object) -> None:
        self._connection.send(("epoch", (number, row)))

    def pulse(self) -> bool:
        """Whether to stop; also where nobody listens any more."""
        now = time.monotonic()
        if now < self._next:
            return self._stop
        self._next = now + _LOOK / 4
        try:
            self._connection.send(("alive", None))
            while self._connection.poll():
                self._stop |= self._connection.recv() == _STOP
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._stop = True
        return self._stop


def _work(connection: Connection, worker: Worker, dumps: str, parent: int) -> None:
    """A worker's life: train what is sent until nobody sends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or a cluster sends them to all: the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    die_with(parent)
    if hasattr(signal, "SIGUSR1"):
        dump = (Path(dumps) / str(os.getpid())).open("w")
        faulthandler.register(signal.SIGUSR1, file=dump, all_threads=True)
    line = _Line(connection)
    while True:
        try:
            message = connection.recv()
        except EOFError:
            worker.close()
            return
        if message == _STOP:
            continue  # the cell that was meant has just ended
        line.begin()
        try:
            connection.send(("result", worker.train(message, line.epoch, line.pulse)))
        except (BrokenPipeError, ConnectionResetError):
            return


def die_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, however that ends: what it trains is another's then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        extra = ": perhaps out of memory, try --jobs 1 or a smaller --batch-size" if -code == signal.SIGKILL else ""
        return f"its process was killed ({name}){extra}"
    return f"its process ended (exit code {code}) without a result"
