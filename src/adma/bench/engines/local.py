"""Processes on this machine: each trains one cell at a time, and loads data when the next cell needs other.

Cells are pulled as workers become free, so what is trained next may depend on what came out before.
Workers are spawned, not forked (torch's threads and CUDA do not survive a fork). A worker that dies takes one
cell with it, which is recorded as failed, and another takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from adma.bench.data import Dataset
from adma.bench.engines.base import Began, Event, Finished, Reached
from adma.bench.store import FAILED, CellResult
from adma.bench.study import Cell

Load = Callable[[Cell], Dataset]


class LocalEngine:
    """Trains cells in processes on this machine.

    Args:
        load: gives a cell its data set (`loading.Loader`, or anything picklable); called in each worker, once for
            all cells in a row that have the same fingerprint.
        jobs: how many cells train at once.
        threads: of each worker's arithmetic.
        device: where they train.
    """

    def __init__(self, load: Load, *, jobs: int, threads: int, device: str = "cpu") -> None:
        self.jobs = jobs
        self._load, self._threads, self._device = load, threads, device
        self._context = multiprocessing.get_context("spawn")

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Train the cells, in order as workers become free; closing the iterator stops the workers.

        Workers stay alive, with their data, while the cells are not exhausted.

        Raises:
            RuntimeError: the cells gave None while nothing ran.
        """
        supply, exhausted = iter(cells), False
        busy: dict[Connection, tuple[BaseProcess, Cell]] = {}
        idle: dict[Connection, BaseProcess] = {}
        try:
            while True:
                while not exhausted and len(busy) < self.jobs:
                    try:
                        cell = next(supply)
                    except StopIteration:
                        exhausted = True
                        break
                    if cell is None:
                        break
                    connection, process = self._hand_over(cell, idle)
                    busy[connection] = (process, cell)
                    yield Began(cell)
                if exhausted:
                    _dismiss(idle)
                if not busy:
                    if exhausted:
                        return
                    raise RuntimeError("the supply of cells waits for a result, but nothing is being trained")
                for connection in [c for c in wait(list(busy)) if isinstance(c, Connection)]:
                    process, cell = busy[connection]
                    try:
                        kind, value = connection.recv()
                    except (EOFError, ConnectionResetError):
                        process.join()
                        del busy[connection]
                        yield Finished(CellResult(cell, FAILED, _death(process.exitcode)))
                        continue
                    if kind == "epoch":
                        yield Reached(cell, value)
                        continue
                    del busy[connection]
                    idle[connection] = process
                    yield Finished(value)
        finally:
            processes = [*idle.items(), *((connection, process) for connection, (process, _) in busy.items())]
            for connection, process in processes:
                process.terminate()
                connection.close()
            for _, process in processes:
                process.join(5)
                if process.is_alive():
                    process.kill()
                    process.join()

    def _hand_over(self, cell: Cell, idle: dict[Connection, BaseProcess]) -> tuple[Connection, BaseProcess]:
        """Give the cell to an idle worker, or to a new one."""
        while idle:
            connection, process = idle.popitem()
            try:
                connection.send(cell)
            except (BrokenPipeError, ConnectionResetError):  # it was killed while it had nothing to do
                process.join()
                continue
            return connection, process
        connection, process = self._start()
        connection.send(cell)
        return connection, process

    def _start(self) -> tuple[Connection, BaseProcess]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._load, self._threads, self._device), daemon=True
        )
        process.start()
        theirs.close()
        return ours, process


def _dismiss(idle: dict[Connection, BaseProcess]) -> None:
    while idle:
        connection, process = idle.popitem()
        connection.close()  # ends the worker
        process.join()


def _work(connection: Connection, load: Load, threads: int, device: str) -> None:
    """A worker's life: load the data, then train what is sent until nobody sends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's condition for deterministic cuBLAS
    dataset: Dataset | None = None
    held = ""  # its fingerprint
    while True:
        try:
            cell: Cell = connection.recv()
        except EOFError:
            return
        try:
            import torch

            from adma.bench.train import train

            torch.set_num_threads(threads)
            if dataset is None or held != cell.setting.data_hash:
                dataset, held = None, ""  # frees the memory first
                dataset = load(cell)
                held = cell.setting.data_hash
            result = train(cell, dataset, device=device, on_epoch=lambda n: connection.send(("epoch", n)))
        except (BrokenPipeError, ConnectionResetError):
            return  # nobody listens any more
        except BaseException as error:  # a failed cell is a result; the study goes on
            result = CellResult(cell, FAILED, _words(error))
        try:
            connection.send(("result", result))
        except (BrokenPipeError, ConnectionResetError):
            return


def _words(error: BaseException) -> str:
    place: Any = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(place[-1].filename)}:{place[-1].lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        extra = ": perhaps out of memory, try --jobs 1 or a smaller --batch-size" if -code == signal.SIGKILL else ""
        return f"its process was killed ({name}){extra}"
    return f"its process ended (exit code {code}) without a result"
