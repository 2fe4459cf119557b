"""A cell as it is sent to another machine, and what happens there, whatever carries the words between the two."""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from adma import __version__
from adma.bench.data import Dataset
from adma.bench.engines.work import Worker
from adma.bench.errors import BenchError
from adma.bench.files import Root, files_at
from adma.bench.importing import import_modules
from adma.bench.result import CellResult
from adma.bench.study import Cell

_LOOK = 1.0  # seconds between two looks of the watch


def versions() -> dict[str, str]:
    """What must be the same on a node as where the command runs."""
    import torch

    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "adma": __version__, "torch": torch.__version__.partition("+")[0]}


@dataclass(frozen=True)
class Order:
    """A cell as it is sent to a node.

    attempt: how often it was sent before.
    worker: what trains it, as `Worker.to_send` makes it.
    token: a file of the results folder; a node that does not see it keeps no checkpoints.
    versions: of the command; a node with others refuses.
    modules: to be imported first.
    """

    cell: Cell
    attempt: int
    worker: Worker
    token: str
    hang_after: float
    versions: Mapping[str, str]
    modules: Sequence[str]


class Token:
    """A file in the results folder by which a node sees that it is the same folder; gone in the end."""

    def __init__(self, root: Root | None) -> None:
        self.name = f"checkpoints/.seen-{token_hex(8)}"
        self._files = None if root is None else files_at(root)

    def __enter__(self) -> Token:
        if self._files is not None:
            self._files.write(self.name, b"seen")
        return self

    def __exit__(self, *_: object) -> None:
        if self._files is not None:
            self._files.remove(self.name)


def warn_if_blind(known: set[str], where: str, sees: bool, root: Root | None) -> None:
    """Say once of a node that it does not see the results folder."""
    node = where.partition(",")[0]
    if not sees and node not in known:
        known.add(node)
        warnings.warn(
            f"{node} does not see the results folder {root}: its trainings have no checkpoints, one that is lost "
            "begins anew; use a shared folder, or a URL such as s3://bucket/folder",
            stacklevel=2,
        )


class Line(ABC):
    """A training's connection to the command, which it never waits for, and the watch over its signs of life.

    As a context: the watch runs meanwhile, and at its end all that was said has arrived.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._last = time.monotonic()  # sign of life
        self._training = threading.get_ident()
        self._end = threading.Event()
        self._watch = threading.Thread(target=self._look, name="watch", daemon=True)

    @abstractmethod
    def begin(self, where: str, checkpoints: bool) -> bool:
        """Say where the training is, and whether it keeps checkpoints; whether to stop at once."""

    @abstractmethod
    def epoch(self, number: int, row: Any) -> None:
        """Say that an epoch is done."""

    @abstractmethod
    def hung(self, reason: str) -> None:
        """Say that the training is stuck, and wait until that has arrived."""

    @abstractmethod
    def stop_asked(self) -> bool:
        """Whether to stop, without waiting; a sign of life to the command."""

    @abstractmethod
    def close(self) -> None:
        """Wait until all has arrived."""

    def pulse(self) -> bool:
        """As `train.train` calls it."""
        self._last = time.monotonic()
        return self.stop_asked()

    def __enter__(self) -> Line:
        self._last = time.monotonic()  # what came before, such as importing torch, is no training
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.close()

    def _look(self) -> None:
        """Ends this process when the training gives no sign of life; says where it was."""
        while not self._end.wait(_LOOK):
            silent = time.monotonic() - self._last
            if silent > self._order.hang_after:
                frame = sys._current_frames().get(self._training)
                stack = "".join(traceback.format_stack(frame)) if frame is not None else "(unknown)"
                self.hung(f"no sign of life for {silent:.0f} s: its process was ended; it was at\n{stack}")
                os._exit(1)


def carry_out(order: Order, dataset: Dataset, line: Line) -> CellResult | None:
    """Train a cell on this node; as `Worker.train`.

    Raises:
        BenchError: the node is not like the machine of the command, or lacks a module.
    """
    where = f"node {socket.gethostname()}, process {os.getpid()}"
    mine = versions()
    differing = [f"{name} {mine[name]}, here {value}" for name, value in order.versions.items() if mine[name] != value]
    if differing:
        raise BenchError(
            f"{where} has {'; '.join(differing)}: results of both could not be compared; install the same versions on "
            "all nodes"
        )
    import_modules(order.modules)
    root = order.worker.checkpoints
    seen = root is not None and _sees(root, order.token)
    if line.begin(where, seen or root is None):
        return None
    worker = order.worker.there(dataset, sees=seen)
    with line:
        return worker.train(order.cell, line.epoch, line.pulse)


def _sees(root: Root, token: str) -> bool:
    try:
        return bool(files_at(root).size(token))
    except BenchError:
        return False
