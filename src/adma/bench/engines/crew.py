"""The processes that train one cell together: a worker and those that follow it, each on a device of its own.

The worker is the first of a torch process group. It says which cell is next, all train it in step (`bench.parallel`),
and what the others measure reaches it in the course of that; so only the worker speaks to the engine, writes
checkpoints and has a result. A process that fails ends, which the others notice in their next exchange: the crew is
given up then, and another one formed for the next try. Under torchrun its other processes start those that follow
(`torchrun`); else the worker starts them itself.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

import torch.distributed as dist

from adma.bench.checkpoint import Keeper
from adma.bench.data import Dataset
from adma.bench.engines import torchrun
from adma.bench.engines.follower import EVER, NOTHING, Order, device_of, is_of_exchange, join, start
from adma.bench.engines.processes import ending
from adma.bench.engines.troubles import LostError
from adma.bench.parallel import Group
from adma.bench.result import CellResult
from adma.bench.study import Cell
from adma.bench.train import StoppedError, train

_PREFIX = "crew"
_GRACE = 10.0  # seconds in which a process ends by itself, or is seen to have ended
_LOOK = 0.05  # seconds between two looks at whether a process is there


class Crew:
    """A worker's process group; made when it is needed, given up with `close` or by a training that fails.

    Args:
        size: how many processes.
        device: "cpu", or "cuda": the n-th process has the n-th GPU.
        threads: of each one's arithmetic.
    """

    def __init__(self, size: int, device: str, threads: int) -> None:
        self._size, self._device, self._threads = size, device, threads
        self._processes: list[subprocess.Popen[bytes]] = []
        self._errors: list[IO[bytes]] = []
        self._number: int | None = None
        self._store: dist.Store
        if torchrun.size() > 1:
            self._number, self._store = torchrun.begin()
        else:
            server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=EVER)
            self._store = dist.PrefixStore(_PREFIX, server)
            for rank in range(1, size):
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115  # as long as the crew is
                self._processes.append(
                    start(rank, size, "127.0.0.1", server.port, _PREFIX, device, rank, self._errors[-1])
                )
        self._wait_for_all()
        join(self._store, 0, size, device, 0)
        self._group = Group()

    def train(
        self,
        cell: Cell,
        dataset: Dataset,
        load: Callable[[Cell], Dataset],
        *,
        pieces: int,
        keeper: Keeper | None,
        on_epoch: Callable[[int, Any], None],
        pulse: Callable[[], bool],
    ) -> CellResult:
        """As `train.train`, by all.

        Raises:
            StoppedError: as there; the crew is ready for another cell.
            LostError, MemoryError, RuntimeError: what happened in this process or in another one; whatever is raised
                but a `StoppedError`, the crew is at an end.
        """
        try:
            self._group.from_first(Order(cell, load, self._threads, pieces))
            return train(
                cell, dataset, device=device_of(self._device, 0), on_epoch=on_epoch, pulse=pulse, keeper=keeper,
                pieces=pieces, parallel=self._group,
            )  # fmt: skip
        except StoppedError:
            raise
        except BaseException as error:
            other = self._what_happened(error)
            self._give_up()
            if other is None:
                raise
            raise other from error

    def close(self) -> None:
        """Let the others end."""
        with suppress(RuntimeError):
            self._group.from_first(NOTHING)
            dist.destroy_process_group()
        for process in self._processes:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _wait_for_all(self) -> None:
        """Raises LostError if one ends before it is there."""
        waiting = {f"here/{rank}" for rank in range(1, self._size)}
        while waiting:
            waiting = {name for name in waiting if not self._store.check([name])}
            gone = self._gone()
            if waiting and gone:
                self._give_up()
                raise LostError(gone)
            time.sleep(_LOOK)

    def _gone(self) -> str:
        """Which process ended, and how; empty if none did."""
        for rank, (process, errors) in enumerate(zip(self._processes, self._errors, strict=True), start=1):
            code = process.poll()
            if code is not None:
                errors.seek(0)
                last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
                return f"the process of device {rank} {ending(code)}" + "".join(f": {line}" for line in last)
        return ""

    def _what_happened(self, error: BaseException) -> Exception | None:
        """What broke the exchange that failed here; None if the error is this process's own."""
        if not is_of_exchange(error):
            return None
        for rank in range(1, self._size):
            with suppress(RuntimeError):
                if self._store.check([f"said/{rank}"]):
                    said = json.loads(self._store.get(f"said/{rank}"))
                    kind = MemoryError if said["memory"] else RuntimeError
                    return kind(f"device {rank}: {said['words']}")
        until = time.monotonic() + _GRACE
        while not self._gone() and self._processes and time.monotonic() < until:
            time.sleep(_LOOK)
        return LostError(self._gone() or "a process of the group was lost")

    def _give_up(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        if self._number is not None:
            torchrun.end(self._number)
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()
