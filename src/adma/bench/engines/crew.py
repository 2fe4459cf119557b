"""The processes that train one cell together: a worker and those that follow it, each on a device of its own.

The worker is the first of a torch process group. It says which cell is next, all train it in step (`bench.parallel`),
and what the others measure reaches it in the course of that; so only the worker speaks to the engine, writes
checkpoints and has a result. A process that fails ends, which the others notice in their next exchange: the crew is
given up then, and another one formed for the next try. Under torchrun its other processes start those that follow
(`torchrun`); else the worker starts them itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any

import torch
import torch.distributed as dist

from adma.bench.checkpoint import Keeper
from adma.bench.data import Dataset
from adma.bench.engines import torchrun
from adma.bench.engines.processes import die_with
from adma.bench.engines.work import Load, LostError, out_of_memory, words
from adma.bench.parallel import Group
from adma.bench.result import CellResult
from adma.bench.study import Cell
from adma.bench.train import StoppedError, train

_EVER = timedelta(days=365)  # an engine notices what hangs, by its own clock
_PREFIX = "crew"
_GRACE = 10.0  # seconds in which a process ends by itself, or is seen to have ended
_LOOK = 0.05  # seconds between two looks at whether a process is there
_FOLLOW = "import sys; from adma.bench.engines.crew import follow; follow(*sys.argv[1:])"


@dataclass(frozen=True)
class _Order:
    """What the worker tells the others to train."""

    cell: Cell
    load: Load
    threads: int
    pieces: int


_NOTHING: _Order | None = None


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
            server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_EVER)
            self._store = dist.PrefixStore(_PREFIX, server)
            for rank in range(1, size):
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115  # as long as the crew is
                self._processes.append(
                    start(rank, size, "127.0.0.1", server.port, _PREFIX, device, rank, self._errors[-1])
                )
        self._wait_for_all()
        _join(self._store, 0, size, device, 0)
        self._group = Group()

    def train(
        self,
        cell: Cell,
        dataset: Dataset,
        load: Load,
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
            self._group.from_first(_Order(cell, load, self._threads, pieces))
            return train(
                cell, dataset, device=_of(self._device, 0), on_epoch=on_epoch, pulse=pulse, keeper=keeper,
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
            self._group.from_first(_NOTHING)
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
                how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended (exit code {code})"
                return f"the process of device {rank} {how}" + "".join(f": {line}" for line in last)
        return ""

    def _what_happened(self, error: BaseException) -> Exception | None:
        """What broke the exchange that failed here; None if the error is this process's own."""
        if not _is_of_exchange(error):
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


def start(
    rank: int,
    size: int,
    host: str,
    port: int,
    prefix: str,
    device: str,
    local_rank: int,
    errors: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that follows; it ends with this one.

    Args:
        rank, size: in the group.
        host, port, prefix: of the store where the group meets.
        device: "cpu" or "cuda".
        local_rank: which GPU of its machine it has.
        errors: a file for what it writes there; None: as this process's.
    """
    arguments = [str(v) for v in (rank, size, host, port, prefix, device, local_rank, os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-c", _FOLLOW, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for the one who leads
    )


def follow(*arguments: str) -> None:
    """The life of a process that follows: train what the first one says, until it says nothing more.

    Args:
        arguments: what `start` makes of its own.
    """
    host, prefix, device = arguments[2], arguments[4], arguments[5]
    rank, size, port, local_rank, parent = (int(arguments[k]) for k in (0, 1, 3, 6, 7))
    die_with(parent)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's condition for deterministic cuBLAS
    store = dist.PrefixStore(prefix, dist.TCPStore(host, port, is_master=False, timeout=_EVER))
    store.set(f"here/{rank}", "")
    _join(store, rank, size, device, local_rank)
    group = Group()
    dataset: Dataset | None = None
    while True:
        try:
            order = group.from_first(_NOTHING)
        except RuntimeError:
            sys.exit(1)  # the first one is gone
        if order is None:
            dist.destroy_process_group()
            return
        loading = True
        try:
            torch.set_num_threads(order.threads)
            if dataset is None or dataset.fingerprint != order.cell.setting.data_hash:
                dataset = None  # frees the memory first
                dataset = order.load(order.cell)
            loading = False
            train(order.cell, dataset, device=_of(device, local_rank), pieces=order.pieces, parallel=group)
        except StoppedError:
            continue
        except BaseException as error:
            if loading or not _is_of_exchange(error):
                store.set(f"said/{rank}", json.dumps({"words": words(error), "memory": out_of_memory(error)}))
            os._exit(1)  # at once, so that the others notice


def _join(store: dist.Store, rank: int, size: int, device: str, local_rank: int) -> None:
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    if device != "cpu":
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=size, timeout=_EVER
    )  # fmt: skip


def _of(device: str, local_rank: int) -> str:
    return device if device == "cpu" else f"{device}:{local_rank}"


def _is_of_exchange(error: BaseException) -> bool:
    """Whether an error says that another process of the group did not answer."""
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl", "connection"))
