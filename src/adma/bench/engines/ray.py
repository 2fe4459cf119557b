"""Nodes of a Ray cluster: each cell is a task that Ray places where there is room.

The data set is put once into Ray's object store, and nodes read it from there; the code is shipped too. A cell whose
node or process is lost is sent again, from its checkpoint if the results folder can be seen from the new node.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from adma.bench.engines.base import Began, Event, Finished, Pull, Reached, Retried, Stopped, Waited
from adma.bench.engines.order import Order, Token, versions, warn_if_blind
from adma.bench.engines.ray_cluster import connected
from adma.bench.engines.ray_node import Board, train_cell
from adma.bench.engines.troubles import with_faults, words
from adma.bench.engines.work import HANG_SECONDS, Worker
from adma.bench.errors import BenchError
from adma.bench.result import FAILED, CellResult
from adma.bench.study import Cell

_TRIES = 2  # of a cell whose process is lost while its node lives
_NODES = 5  # tries of a cell whose node is lost: not the cell's fault, if it happens rarely
_LOOK = 0.5  # seconds between two looks at the board
_GRACE = 30.0  # seconds after which a hung task that did not end itself is ended from here
_HELD = 2  # data sets in the object store at once


@dataclass
class _Sent:
    """A cell on the cluster.

    heard: when it was last heard of; None: it waits for room.
    unwanted: it was to stop before it began.
    """

    cell: Cell
    attempt: int
    heard: float | None = None
    reason: str = ""
    unwanted: bool = False


class RayEngine:
    """Trains cells on a Ray cluster.

    Args:
        worker: what trains a cell there, with as many processor cores as it has threads. Its data are loaded where the
            command runs, once for a fingerprint; the folder of its checkpoints has to be shared by the nodes.
        jobs: cells sent at once; those that find no room wait in Ray's queue, where an autoscaler sees them.
        gpus: GPUs of each, 0.25 for four on one.
        address: as `ray_cluster.connected`.
        modules: the user's own, to be imported on the nodes first.
        hang_after: seconds without a sign of life after which a cell's process is ended.

    Raises:
        BenchError: the worker trains on several devices.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        jobs: int,
        gpus: float = 0.0,
        address: str | None = None,
        modules: Iterable[str] = (),
        hang_after: float = HANG_SECONDS,
    ) -> None:
        self.jobs = jobs
        self._load, self._worker = worker.load, worker.to_send()
        self._gpus, self._address, self._modules, self._hang_after = gpus, address, tuple(modules), hang_after
        self._sent: dict[Any, _Sent] = {}  # by the reference of the task
        self._data: dict[str, Any] = {}  # fingerprint -> reference, the last used one last
        self._faults: dict[str, list[str]] = {}
        self._dead_nodes: dict[str, int] = {}  # key -> nodes lost under it
        self._blind: set[str] = set()  # nodes that do not see the results folder
        self._stopping = False

    def stop(self) -> None:
        """As `Engine.stop`."""
        self._stopping = True
        self._board.stop.remote(None)
        for reference, sent in self._sent.items():
            self._withdraw(reference, sent)

    def cancel(self, cell: Cell) -> None:
        """As `Engine.cancel`."""
        for reference, sent in self._sent.items():
            if sent.cell == cell:
                self._board.stop.remote(cell.key)
                self._withdraw(reference, sent)

    def run(self, cells: Iterable[Cell | None]) -> Generator[Event, None, None]:
        """Train the cells, in order as there is room for them; closing the iterator ends what runs.

        Raises:
            BenchError: no cluster, or a node that cannot train what this machine sends.
        """
        supply = Pull(cells)
        self._stopping, self._sent, self._data, self._faults, self._dead_nodes = False, {}, {}, {}, {}
        with connected(self._address, self._modules) as self._ray, Token(self._worker.checkpoints) as self._token:
            self._versions = versions()
            self._begin_board()
            try:
                while True:
                    while not self._stopping and len(self._sent) < self.jobs:
                        cell = supply.next()
                        if cell is None:
                            break
                        yield from self._send(cell, 0)
                    if self._sent:
                        yield from self._listen()
                    elif supply.exhausted or self._stopping:
                        return
                    else:  # what the supply waits for happens elsewhere
                        time.sleep(_LOOK)
                        yield Waited()
            finally:
                for reference in self._sent:
                    self._ray.cancel(reference, force=True)
                self._ray.kill(self._board)
                self._sent, self._data = {}, {}

    def _begin_board(self) -> None:
        here = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        self._board = self._ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._task = self._ray.remote(train_cell).options(
            num_cpus=self._worker.threads, num_gpus=self._gpus, max_retries=0, name="adma"
        )

    # -- what is sent ------------------------------------------------------------------------------------------

    def _send(self, cell: Cell, attempt: int) -> Generator[Event, None, None]:
        try:
            data = self._data_of(cell)
        except Exception as error:  # a failed cell is a result; the study goes on
            yield Began(cell)
            yield Finished(with_faults(CellResult(cell, FAILED, words(error)), self._faults.pop(cell.key, [])))
            return
        order = Order(
            cell, attempt, self._worker, self._token.name, self._hang_after, self._versions, self._modules
        )  # fmt: skip
        self._sent[self._task.remote(order, data, self._board)] = _Sent(cell, attempt)

    def _data_of(self, cell: Cell) -> Any:
        fingerprint = cell.setting.data_hash
        reference = self._data.pop(fingerprint, None)
        if reference is None:
            while len(self._data) >= _HELD:  # tasks that need it hold it
                del self._data[next(iter(self._data))]
            reference = self._ray.put(self._load(cell))
        self._data[fingerprint] = reference
        return reference

    def _withdraw(self, reference: Any, sent: _Sent) -> None:
        """End a task that has not begun; one that has is told by the board."""
        if sent.heard is None:
            sent.unwanted = True
            self._ray.cancel(reference)

    # -- what comes back ----------------------------------------------------------------------------------------

    def _listen(self) -> Generator[Event, None, None]:
        ready, _ = self._ray.wait(list(self._sent), num_returns=1, timeout=_LOOK)
        ready, _ = self._ray.wait(list(self._sent), num_returns=len(self._sent), timeout=0) if ready else ([], None)
        now = time.monotonic()
        notes, heard = self._ray.get(self._board.take.remote())
        of = {(sent.cell.key, sent.attempt): sent for sent in self._sent.values()}
        for name in heard & of.keys():
            of[name].heard = now
        for note in notes:
            sent = of.get((note.key, note.attempt))
            if sent is None:
                continue  # of a node that was taken for dead
            if note.kind == "began":
                where, sees = note.value
                warn_if_blind(self._blind, where, sees, self._worker.checkpoints)
                yield Began(sent.cell, where)
            elif note.kind == "epoch":
                yield Reached(sent.cell, *note.value)
            else:
                sent.reason = note.value
        for reference in ready:
            yield from self._ended(reference)
        for reference, sent in self._sent.items():
            if sent.heard is not None and not sent.reason and now - sent.heard > self._hang_after + _GRACE:
                sent.reason = f"no sign of life for {now - sent.heard:.0f} s: its process was ended"
                self._ray.cancel(reference, force=True)
        if not ready and not notes:
            yield Waited()

    def _ended(self, reference: Any) -> Generator[Event, None, None]:
        errors, sent = self._ray.exceptions, self._sent[reference]
        try:
            result = self._ray.get(reference)
        except errors.RayError as error:
            if not sent.unwanted:  # else it may have been ended while its process was starting
                self._refuse(error)
            yield from self._lost(reference, error)
            return
        del self._sent[reference]
        self._board.forget.remote(sent.cell.key)
        if result is None or (sent.unwanted and result.status == FAILED):
            yield Stopped(sent.cell)
        else:
            yield Finished(with_faults(result, self._faults.pop(sent.cell.key, [])))

    def _refuse(self, error: Exception) -> None:
        """Raise BenchError for what would happen to every cell; a training's own errors are results."""
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            raise BenchError(f"--engine ray: {_cause(error)}") from error
        if isinstance(error, (errors.RuntimeEnvSetupError, errors.TaskUnschedulableError)):
            raise BenchError(f"--engine ray: a cell cannot be started: {error}") from error

    def _lost(self, reference: Any, error: Exception) -> Generator[Event, None, None]:
        """Send a cell that was lost again; from its process once, from its node a few times."""
        sent = self._sent.pop(reference)
        cell, errors = sent.cell, self._ray.exceptions
        if self._stopping or sent.unwanted:
            yield Stopped(cell)
            return
        faults = self._faults.setdefault(cell.key, [])
        faults.append(sent.reason or f"{type(error).__name__}: {str(error).strip()}")
        if isinstance(error, (errors.ObjectLostError, errors.OwnerDiedError)):
            self._data.pop(cell.setting.data_hash, None)  # it is put there again
        of_node = isinstance(error, (errors.NodeDiedError, errors.ObjectLostError))
        self._dead_nodes[cell.key] = self._dead_nodes.get(cell.key, 0) + of_node
        nodes = self._dead_nodes[cell.key]
        if nodes < _NODES and len(faults) - nodes < _TRIES:
            self._sent[reference] = sent  # so that `cancel` meets it, which who hears of it may call, as well as `stop`
            yield Retried(cell, faults[-1])
            del self._sent[reference]
            if self._stopping:
                yield Stopped(cell)
            else:
                yield from self._send(cell, sent.attempt + 1)
        else:
            del self._faults[cell.key]
            reason = f"{faults[-1]}; it was lost {len(faults)} times"
            yield Finished(with_faults(CellResult(cell, FAILED, reason), faults[:-1]))


def _cause(error: Exception) -> str:
    """The last line of what a node says, or the mistake itself."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BenchError):
        return str(cause)
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"a node cannot train: {lines[-1].strip()}; it needs what pip install 'adma[bench]' brings"
