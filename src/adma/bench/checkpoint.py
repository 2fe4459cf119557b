"""Trainings under way, kept so that one that was killed goes on where it was, to the bit.

    DIR/checkpoints/COURSE/KEY         the last state of a cell's training
    DIR/checkpoints/COURSE/KEY.before  the one before

A file is one line of JSON (format, versions, position, length and SHA-256 of the rest) and a state as `torch.save`
writes it. It is read with `weights_only=True`, so that it can bring numbers and nothing that runs. Trainings that
differ in their number of epochs alone are of one course, unless their course depends on that number (a cosine, a
schedule of the shape): so a study with more epochs goes on from the last state of the one with fewer.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from adma import __version__
from adma.bench.errors import BenchError
from adma.bench.files import Root, files_at
from adma.bench.loss_specs import follows_progress
from adma.bench.optimizers import depends_on_length
from adma.bench.study import Cell, digest

FORMAT = 1
EVERY_SECONDS = 60.0
_LINE = 4096  # a file's first line is shorter


def course(cell: Cell) -> str:
    """What all cells have in common whose trainings take the same way, however far they go."""
    if depends_on_length(cell.setting.lr_schedule) or follows_progress(cell.loss):
        return cell.key
    config = {name: value for name, value in cell.config().items() if name != "epochs"}
    return digest(config)


def begun(cells: Iterable[Cell], root: Root) -> bool:
    """Whether one of the cells may go on from a state that is kept; of a folder behind a URL that is not asked."""
    if not isinstance(root, Path):
        return False
    try:
        there = set(os.listdir(root / "checkpoints"))
    except OSError:
        return False
    return bool(there) and any(course(cell) in there for cell in cells)


@dataclass(frozen=True, order=True)
class Position:
    """Root a training is: `step` steps of the optimizer are done in epoch `epoch` (from 1)."""

    epoch: int
    step: int


@dataclass
class Keeper:
    """The checkpoints of one cell's training, in the process that trains it.

    Args:
        root: the results folder, or its URL.
        cell: that is trained.
        device: where; a state of another kind of device is not gone on from.
        every: seconds from one state to the next.
        keep: whether the last state is written when the cell is done, for one with more epochs.

    Attributes:
        notes: what was set aside, or could not be written, in words.
    """

    root: Root
    cell: Cell
    device: str = "cpu"
    every: float = EVERY_SECONDS
    keep: bool = True
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files = files_at(self.root)
        self._dir = f"checkpoints/{course(self.cell)}"
        self._name = f"{self._dir}/{self.cell.key}"
        self._last = time.monotonic()
        self._loaded = ""  # the file of the state that `load` gave last
        self._refused: set[str] = set()

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= self.every

    def save(self, position: Position, state: dict[str, Any]) -> None:
        """Keep a state, and the one before it; what is on the disk is whole at every moment.

        Raises:
            BenchError: it cannot be written; `DiskFullError`: there is no room. What was there stays.
        """
        with io.BytesIO() as buffer:
            torch.save(state, buffer)
            payload = buffer.getvalue()
        header = {
            **self._versions(),
            "cell": self.cell.key,
            "position": asdict(position),
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        self._files.write(f"{self._name}.new", json.dumps(header).encode() + b"\n" + payload)
        if self._files.size(self._name):
            self._files.move(self._name, f"{self._name}.before")
        self._files.move(f"{self._name}.new", self._name)
        self._last = time.monotonic()

    def try_to_save(self, position: Position, state: Callable[[], dict[str, Any]]) -> None:
        """`save`, where a training goes on without: what is wrong is noted, and tried again when the next is due."""
        try:
            self.save(position, state())
        except BenchError as error:
            self._last = time.monotonic()
            words = f"no checkpoint: {error}"
            if words not in self.notes:
                self.notes.append(words)

    def load(self) -> tuple[Position, dict[str, Any]] | None:
        """The state that is furthest on the way, whole and made by these versions; None if there is none.

        What is broken, or made by other versions, is set aside and named in `notes`.
        """
        end = Position(self.cell.setting.epochs + 1, 0)
        for _, name in sorted(self._candidates(), key=lambda found: found[0], reverse=True):
            try:
                position, state = self._read(name)
            except FileNotFoundError:
                continue  # of another process, which has gone on
            except (ValueError, KeyError, TypeError, OSError, RuntimeError, EOFError, UnpicklingError) as error:
                self._put_away(name, str(error).splitlines()[0])
                continue
            if position <= end:
                self._loaded = name
                return position, state
        return None

    def refuse(self, reason: str) -> None:
        """The state that `load` gave last cannot be gone on from: it is set aside, if it is this cell's, and not given
        again.
        """
        self._refused.add(self._loaded)
        self._put_away(self._loaded, reason)

    @property
    def size(self) -> int:
        """Bytes of the last state, 0 if there is none."""
        return self._files.size(self._name)

    def tidy(self, keep: bool) -> None:
        """The cell's result is stored: leave its last state alone, or none."""
        for suffix in (".before", ".new") if keep else (".before", ".new", ""):
            self._files.remove(self._name + suffix)

    # -- files -------------------------------------------------------------------------------------------------

    def _versions(self) -> dict[str, Any]:
        return {"format": FORMAT, "adma": __version__, "torch": torch.__version__, "device": self.device.split(":")[0]}

    def _candidates(self) -> Iterator[tuple[Position, str]]:
        """Files of this course with the position they state; the greatest if their first line cannot be read."""
        for name in self._files.names(self._dir):
            if name.startswith(".") or name.endswith(".new"):
                continue
            path = f"{self._dir}/{name}"
            if path in self._refused:
                continue
            try:
                line = self._files.read(path, _LINE).partition(b"\n")[0]
                yield Position(**json.loads(line)["position"]), path
            except (OSError, ValueError, KeyError, TypeError):
                yield Position(sys.maxsize, 0), path

    def _read(self, name: str) -> tuple[Position, dict[str, Any]]:
        line, _, payload = self._files.read(name).partition(b"\n")
        header = json.loads(line)
        wanted = self._versions()
        for name, value in wanted.items():
            if header[name] != value:
                raise ValueError(f"it was written with {name} {header[name]}, this is {value}")
        if len(payload) != header["bytes"] or hashlib.sha256(payload).hexdigest() != header["sha256"]:
            raise ValueError(f"it holds {len(payload):,} bytes that are not the {header['bytes']:,} written")
        return Position(**header["position"]), torch.load(io.BytesIO(payload), weights_only=True)

    def _put_away(self, name: str, reason: str) -> None:
        own = name.rpartition("/")[2]
        if own.partition(".")[0] != self.cell.key:
            return  # another cell's: whoever trains that one decides
        number, there = 1, set(self._files.names("set-aside"))
        while f"{own}.checkpoint-{number}" in there:
            number += 1
        try:
            self._files.move(name, f"set-aside/{own}.checkpoint-{number}")
        except FileNotFoundError:
            return
        self.notes.append(
            f"checkpoint {own} was not used ({reason}); it was moved to set-aside/{own}.checkpoint-{number}"
        )
