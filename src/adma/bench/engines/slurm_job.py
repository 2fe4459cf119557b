"""What a job of a Slurm cluster runs: one cell, and the files between it and the command."""

from __future__ import annotations

import faulthandler
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from adma.bench.data import Dataset
from adma.bench.engines.order import Line, Order, carry_out
from adma.bench.result import CellResult
from adma.bench.whole import write_whole

_GRACE = 10.0  # seconds after which a hung job that did not end itself is ended by the watch that needs no Python
_ASK = 2.0  # seconds between a job's looks whether it is to stop


def train_job(order: Order, data: Path, log: Path) -> CellResult | None:
    """As `order.carry_out`."""
    return carry_out(order, read_dataset(data), _FileLine(order, log))


class _FileLine(Line):
    """By files."""

    def __init__(self, order: Order, log: Path) -> None:
        super().__init__(order)
        self._log = log.open("a")
        self._stop = log.with_suffix(".stop")
        self._stack = log.with_suffix(".stack").open("w")
        self._next = 0.0
        self._asked = False

    def __enter__(self) -> Line:
        self._alive()
        return super().__enter__()

    def begin(self, where: str, checkpoints: bool) -> bool:
        self._say("began", (where, checkpoints))
        return self._stop.exists()

    def epoch(self, number: int, row: Any) -> None:
        self._say("epoch", (number, dict(row)))

    def hung(self, reason: str) -> None:
        self._say("hung", reason)

    def stop_asked(self) -> bool:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _ASK
            self._asked = self._asked or self._stop.exists()
            self._alive()
        return self._asked

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._log.close()
        self._stack.close()

    def _alive(self) -> None:
        """Put off the second watch, for a training that hangs with Python's lock in its hands: then no thread runs."""
        silence = self._order.hang_after + _ASK + _GRACE
        faulthandler.dump_traceback_later(silence, file=self._stack, exit=True)

    def _say(self, kind: str, value: Any) -> None:
        self._log.write(json.dumps([kind, value]) + "\n")
        self._log.flush()


def stack_of(log: Path) -> str:
    """Why a job ended that could not say it; "" if its second watch did not end it."""
    try:
        stack = log.with_suffix(".stack").read_text().strip()
    except OSError:
        return ""
    return stack and f"no sign of life: its process was ended; it was at\n{stack}"


def remove(log: Path) -> None:
    """The files of an attempt."""
    for suffix in (".log", ".stop", ".stack"):
        log.with_suffix(suffix).unlink(missing_ok=True)


# -- a data set as a file of arrays --------------------------------------------------------------------------------


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Arrays, and the rest as JSON; whole or not at all."""
    about = {"name": dataset.name, "class_names": list(dataset.class_names), "notes": list(dataset.notes)}
    arrays = {"x": dataset.x, "y": dataset.y, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    if dataset.parts is not None:
        arrays["parts"] = dataset.parts.astype("U5")
    if dataset.groups is not None:
        arrays["groups"] = dataset.groups
    with io.BytesIO() as buffer:
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())


def read_dataset(path: Path) -> Dataset:
    """The inverse of `write_dataset`."""
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        found = {name: arrays[name] for name in arrays.files}
    return Dataset(
        about["name"], found["x"], found["y"], tuple(about["class_names"]), found.get("parts"), tuple(about["notes"]),
        found.get("groups"),
    )  # fmt: skip
