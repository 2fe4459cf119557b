"""Processes on this machine: each trains one cell at a time, and loads data when the next cell needs other.

Cells are pulled as workers become free, so what is trained next may depend on what came out before. On GPUs as many
train at once as `packing` admits.
A worker (`processes` says how one is begun) that dies, or that gives no sign of life for too long, is replaced, and its
cell trained once more, from its checkpoint if it has one.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Generator, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from adma.bench.engines import processes
from adma.bench.engines.base import Began, Event, Finished, Pull, Reached, Retried, Stopped, Waited
from adma.bench.engines.packing import Meter, Packing
from adma.bench.engines.troubles import NoMemoryError, UnheardError, out_of_memory, with_faults, words
from adma.bench.engines.work import HANG_SECONDS, Worker
from adma.bench.loss_specs import learns
from adma.bench.result import FAILED, CellResult
from adma.bench.study import Cell

_TRIES = 2  # of a cell whose process is lost
_LOOK = 1.0  # seconds between two looks at the clock, and between two signs of life
WORKER = "adma worker"  # the name of each process
_STOP = "stop"
_ALIVE, _EPOCH, _RESULT, _MEMORY = "alive", "epoch", "result", "memory"  # what a worker says; the last: it ran out


@dataclass
class _Busy:
    """A worker with a cell, where it trains, and when it was last heard of; unwanted: it was told to stop."""

    process: BaseProcess
    cell: Cell
    device: str
    heard: float
    unwanted: bool = False


@dataclass
class _Idle:
    """A worker without a cell; held: bytes that its allocator keeps of its device."""

    process: BaseProcess
    device: str
    held: int


@dataclass
class _Past:
    """What happened to a cell in this run, and how often its process was lost."""

    faults: list[str] = field(default_factory=list)
    lost: int = 0


@dataclass(frozen=True)
class _Task:
    """A cell as a worker gets it; half: why it takes half the batch at a time."""

    cell: Cell
    half: str = ""


class LocalEngine:
    """Trains cells in processes on this machine.

    Args:
        worker: what trains in each process; it has to be picklable.
        jobs: how many cells train at once, at most.
        hang_after: seconds without a sign of life (a batch, in training or measuring) after which a process is killed.
        packing: says on which device the next one may start; None: on the worker's, whatever is there.
    """

    def __init__(
        self, worker: Worker, *, jobs: int, hang_after: float = HANG_SECONDS, packing: Packing | None = None
    ) -> None:
        self.jobs = jobs
        self._worker, self._hang_after, self._packing = worker, hang_after, packing
        self._busy: dict[Connection, _Busy] = {}
        self._idle: dict[Connection, _Idle] = {}
        self._waiting: deque[Cell] = deque()  # pulled, or lost, and not begun
        self._dropped: list[Cell] = []  # of those, what is not wanted any more
        self._past: dict[str, _Past] = {}  # by key
        self._stopping = False

    def stop(self) -> None:
        """As `Engine.stop`."""
        self._stopping = True
        self._dropped += self._waiting
        self._waiting.clear()
        for connection, busy in self._busy.items():
            busy.unwanted = True
            _tell(connection, _STOP)

    def cancel(self, cell: Cell) -> None:
        """As `Engine.cancel`."""
        if cell in self._waiting:
            self._waiting.remove(cell)
            self._dropped.append(cell)
        for connection, busy in self._busy.items():
            if busy.cell == cell:
                busy.unwanted = True
                _tell(connection, _STOP)

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Train the cells, in order as workers become free; closing the iterator stops the workers.

        Workers stay alive, with their data, while the cells are not exhausted.
        """
        supply = Pull(cells)
        self._stopping, self._past = False, {}
        with tempfile.TemporaryDirectory(prefix="adma-") as self._dumps:
            try:
                while True:
                    yield from self._fill(supply)
                    while self._dropped:
                        yield Stopped(self._dropped.pop())
                    no_more = (supply.exhausted or self._stopping) and not self._waiting
                    if no_more:
                        self._dismiss_idle()
                    if self._busy:
                        yield from self._listen()
                    elif no_more:
                        return
                    elif not self._waiting:  # what the supply waits for happens elsewhere
                        time.sleep(_LOOK)
                        yield Waited()
            finally:
                self._end_all()

    def _fill(self, supply: Pull) -> Generator[Event, None, None]:
        """Begin cells, one after the other, while there is room for the next."""
        while not self._stopping and len(self._busy) < self.jobs:
            if not self._waiting:
                cell = supply.next()
                if cell is None:
                    return
                self._waiting.append(cell)
            device = self._place(self._waiting[0])
            if device is None:
                self._dismiss_idle(but_one=True)  # their contexts take room, too
                return
            cell = self._waiting.popleft()
            process = self._hand_over(cell, device)
            yield Began(cell, f"process {process.pid}{f' on {device}' if self._packing is not None else ''}")

    def _place(self, cell: Cell) -> str | None:
        if self._packing is None:
            return self._worker.device
        held = {idle.device: idle.held for idle in self._idle.values()}
        return self._packing.admit(cell.key, memory_kind(cell), held)

    # -- what workers say -----------------------------------------------------------------------------------

    def _listen(self) -> Generator[Event, None, None]:
        ready = [c for c in wait(list(self._busy), timeout=_LOOK) if isinstance(c, Connection)]
        for connection in ready:
            busy = self._busy[connection]
            busy.heard = time.monotonic()
            try:
                kind, value, reading = connection.recv()
            except (EOFError, ConnectionResetError):
                busy.process.join()
                yield from self._lost(connection, _death(busy.process.exitcode))
                continue
            if self._packing is not None and reading is not None and kind in (_ALIVE, _EPOCH):
                self._packing.told(busy.cell.key, reading, whole=kind == _EPOCH)
            if kind == _EPOCH:
                yield Reached(busy.cell, *value)
            elif kind == _MEMORY:
                yield from self._short_of_memory(connection, value)
            elif kind == _RESULT:
                self._leave(connection)
                self._idle[connection] = _Idle(busy.process, busy.device, 0 if reading is None else reading.now)
                past = self._past.pop(busy.cell.key, _Past())
                yield Stopped(busy.cell) if value is None else Finished(with_faults(value, past.faults))
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

    def _leave(self, connection: Connection) -> _Busy:
        """The cell of a worker is no longer under way there."""
        busy = self._busy.pop(connection)
        if self._packing is not None:
            self._packing.ended(busy.cell.key)
        return busy

    def _lost(self, connection: Connection, reason: str) -> Generator[Event, None, None]:
        """Begin a cell whose process is gone again, once."""
        busy = self._leave(connection)
        cell = busy.cell
        connection.close()
        past = self._past.setdefault(cell.key, _Past())
        past.faults.append(reason)
        past.lost += 1
        if busy.unwanted:
            yield Stopped(cell)
        elif past.lost < _TRIES:
            self._waiting.appendleft(cell)  # first, as who hears of it may call `stop` or `cancel`
            yield Retried(cell, reason)
        else:
            del self._past[cell.key]
            yield Finished(with_faults(CellResult(cell, FAILED, f"{reason}; the second time"), past.faults[:-1]))

    def _short_of_memory(self, connection: Connection, reason: str) -> Generator[Event, None, None]:
        """Memory ran out: half the batch where the cell was without others, else it waits until some have ended."""
        busy = self._busy[connection]
        assert self._packing is not None
        device, others = self._packing.others(busy.cell.key)
        if self._packing.out_of_memory(busy.cell.key):
            if not busy.unwanted:
                _tell(connection, _Task(busy.cell, half=reason))
                return
            self._packing.ended(busy.cell.key, well=False)
        del self._busy[connection]
        connection.close()  # ends the process, which gives back all that it held
        busy.process.join()
        beside = f"{others} other training{'s' * (others > 1)}" if others else "others that have ended since"
        reason = f"{reason}, on {device} beside {beside}: it waits until there is room"
        self._past.setdefault(busy.cell.key, _Past()).faults.append(reason)
        if busy.unwanted:
            yield Stopped(busy.cell)
        else:
            self._waiting.append(busy.cell)  # first, as in `_lost`
            yield Retried(busy.cell, reason)

    def _stack_of(self, process: BaseProcess) -> str:
        """Where a worker's threads are, as it writes them down when asked."""
        if process.pid is None or not hasattr(signal, "SIGUSR1"):
            return "(unknown)"
        with suppress(ProcessLookupError):  # it has ended at this moment
            os.kill(process.pid, signal.SIGUSR1)
        time.sleep(_LOOK)
        try:
            return (Path(self._dumps) / str(process.pid)).read_text().strip() or "(unknown)"
        except OSError:
            return "(unknown)"

    # -- workers ---------------------------------------------------------------------------------------------

    def _hand_over(self, cell: Cell, device: str) -> BaseProcess:
        """Give the cell to an idle worker of the device, or to a new one."""
        for connection in [c for c, idle in self._idle.items() if idle.device == device]:
            process = self._idle.pop(connection).process
            if _tell(connection, _Task(cell)):
                break
            process.join()  # it was killed while it had nothing to do
        else:
            connection, process = self._start(device)
            _tell(connection, _Task(cell))
        self._busy[connection] = _Busy(process, cell, device, time.monotonic())
        return process

    def _start(self, device: str) -> tuple[Connection, BaseProcess]:
        meter = None if self._packing is None else self._packing.meter
        return processes.begin(
            device, _work, self._worker.on(device), device, meter, self._dumps, processes.environ(), name=WORKER
        )

    def _dismiss_idle(self, *, but_one: bool = False) -> None:
        """End workers without a cell; `but_one`: all but one on each device."""
        kept: set[str] = set()
        for connection, idle in list(self._idle.items()):
            if but_one and idle.device not in kept:
                kept.add(idle.device)
                continue
            del self._idle[connection]
            connection.close()  # ends the worker
            idle.process.join()

    def _end_all(self) -> None:
        workers = {connection: idle.process for connection, idle in self._idle.items()}
        workers |= {connection: busy.process for connection, busy in self._busy.items()}
        for connection, process in workers.items():
            process.kill()
            connection.close()
        for process in workers.values():
            process.join()
        for connection in list(self._busy):
            self._leave(connection)
        self._idle.clear()
        self._waiting.clear()


def memory_kind(cell: Cell) -> Hashable:
    """What trainings have in common that need the same memory on a GPU."""
    alike = replace(
        cell.setting, epochs=1, lr=1.0, lr_schedule="constant", weight_decay=0.0, label_noise="none", noisy_val=False
    )  # fmt: skip
    return alike, learns(cell.loss)


def _tell(connection: Connection, message: _Task | str) -> bool:
    try:
        connection.send(message)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


# -- in the worker -----------------------------------------------------------------------------------------------


class _Line:
    """A worker's connection: signs of life out, with what it holds of its device; the word to stop in."""

    def __init__(self, connection: Connection, device: str, meter: Meter | None) -> None:
        self._connection, self._device, self._meter = connection, device, meter
        self._next = 0.0
        self._stop = False

    def begin(self) -> None:
        self._next, self._stop = time.monotonic() + _LOOK, False

    def say(self, kind: str, value: object = None) -> None:
        meter = None if kind == _MEMORY else self._meter  # a device without memory may not answer
        reading = None if meter is None else meter.read(self._device)
        try:
            self._connection.send((kind, value, reading))
        except (BrokenPipeError, ConnectionResetError) as error:  # told from one that a user's function raises
            raise UnheardError from error

    def epoch(self, number: int, row: object) -> None:
        self.say(_EPOCH, (number, row))

    def pulse(self) -> bool:
        """Whether to stop; also where nobody listens any more."""
        now = time.monotonic()
        if now < self._next:
            return self._stop
        self._next = now + _LOOK / 4
        try:
            self.say(_ALIVE)
            while self._connection.poll():
                self._stop |= self._connection.recv() == _STOP
        except (EOFError, ConnectionResetError, UnheardError):
            self._stop = True
        return self._stop

    def clear(self) -> None:
        """Give back what is not used of the device, and measure the peak anew."""
        if self._meter is not None:
            self._meter.reset(self._device)


def _work(
    connection: Connection, worker: Worker, device: str, meter: Meter | None, dumps: str, variables: dict[str, str]
) -> None:  # fmt: skip
    """A worker's life: train what is sent until nobody sends."""
    processes.take_environ(variables)
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or a cluster sends them to all: the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    processes.die_with()
    if hasattr(signal, "SIGUSR1"):
        dump = (Path(dumps) / str(os.getpid())).open("w")
        faulthandler.register(signal.SIGUSR1, file=dump, all_threads=True)
    line = _Line(connection, device, meter)
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
            line.say(*_trained(worker, message, line, beside=meter is not None))
        except UnheardError:
            return


def _trained(worker: Worker, task: _Task, line: _Line, *, beside: bool) -> tuple[str, object]:
    """The last word about a task, which is that memory ran out where others may have had it."""
    if not beside:
        return _RESULT, worker.train(task.cell, line.epoch, line.pulse)
    try:
        line.clear()
        result = worker.train(task.cell, line.epoch, line.pulse, beside=True, half=task.half)
        line.clear()
    except NoMemoryError as error:
        return _MEMORY, str(error)
    except RuntimeError as error:  # not even a context on the device
        if not out_of_memory(error):
            raise
        return (_RESULT, CellResult(task.cell, FAILED, words(error))) if task.half else (_MEMORY, words(error))
    return _RESULT, result


def _death(code: int | None) -> str:
    killed = code == -signal.SIGKILL
    extra = ": perhaps out of memory, try --jobs 1 or a smaller --batch-size" if killed else " without a result"
    return f"its process {processes.ending(code)}{extra}"
