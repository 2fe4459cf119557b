"""All cells of a store in a few files, so that a hundred thousand of them are read in seconds.

    DIR/index/    one row a cell: what its folder holds, and the folder's state when that was read; see `pieces`

The folders are what counts: the index is a copy of what was read and checked, or written, made again from them where it
is missing or cannot be read, and a row is used only while its folder is as it was. A run adds to it what it stores, and
any reader what it finds new, where that is enough to be worth a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from adma.bench.errors import BenchError
from adma.bench.pieces import Pieces, add, reading
from adma.bench.result import FAILED, MISSING, CellResult
from adma.bench.store import Store
from adma.bench.study import Cell, Setting

_LEAST = 256  # new cells that are worth a piece
_MOST = 4096  # of them in memory at once
_STATUS = ("folder", "status", "reason", "seconds")


@dataclass(frozen=True)
class Known:
    """What is known of a cell without its rows."""

    status: str
    reason: str
    seconds: float


_MISSING = Known(MISSING, "", 0.0)


class Index:
    """The cells of a store, by its index where that is true, else from their folders."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / "index"
        self._cells = f"{store.cells_dir}{os.sep}"
        self._new: list[dict[str, Any]] = []

    def known(self, cells: Iterable[Cell], *, checked: bool = False) -> dict[str, Known]:
        """Key -> what is known of each cell.

        Args:
            checked: whether the files of each folder are looked at, too, and not the folder alone: a file that was
                changed in its place is then read again, and found out by its checksum.
        """
        found: dict[str, Known] = {}

        def columns(pieces: Pieces) -> tuple[dict[str, int], list[list[Any]]]:
            return pieces.where, [pieces.column(name) for name in (*_STATUS, *(("files",) if checked else ()))]

        where, (folders, status, reason, seconds, *files) = reading(self._folder, columns)
        for cell in cells:
            key = cell.key
            touched = self._touched(key)
            if touched is None:
                found[key] = _MISSING
                continue
            row = where.get(key)
            as_it_was = row is not None and folders[row] == touched
            if row is not None and as_it_was and (not files or files[0][row] == _state(self._cells + key)):
                found[key] = Known(status[row], reason[row], seconds[row])
                continue
            result = self._read(cell, touched)
            found[key] = Known(result.status, result.reason, result.seconds)
        self._keep(_LEAST)
        return found

    def read(self, cells: Sequence[Cell]) -> list[CellResult]:
        """All that is known of the cells, in their order."""
        touched = [self._touched(cell.key) for cell in cells]
        names = (*_STATUS, "env", "epochs", "trace")

        def true_rows(pieces: Pieces) -> tuple[list[bool], dict[str, list[Any]]]:
            folders = pieces.column("folder")
            rows = [pieces.where.get(cell.key, -1) for cell in cells]
            true = [row >= 0 and folders[row] == now for row, now in zip(rows, touched, strict=True)]
            return true, pieces.rows([row for row, is_true in zip(rows, true, strict=True) if is_true], names)

        true, columns = reading(self._folder, true_rows)
        indexed = zip(*(columns[name] for name in names), strict=True)
        found = []
        for cell, now, is_true in zip(cells, touched, true, strict=True):
            if is_true:
                _, status, reason, seconds, env, epochs, trace = next(indexed)
                found.append(CellResult(cell, status, reason, seconds, _Columns(epochs), _Later(env), _Columns(trace)))
            elif now is None:
                found.append(CellResult(cell, MISSING))
            else:
                found.append(self._read(cell, now))
        self._keep(_LEAST)
        return found

    def cells(self) -> list[Cell]:
        """The cells whose folders are there, in the order of their keys; those that cannot be read are left out."""
        try:
            keys = sorted(name for name in os.listdir(self._cells) if not name.startswith("."))
        except OSError:
            return []

        def columns(pieces: Pieces) -> tuple[dict[str, int], list[list[Any]]]:
            return pieces.where, [pieces.column(name) for name in ("setting", "loss", "seed")]

        where, (settings, losses, seeds) = reading(self._folder, columns)
        found = []
        for key in keys:
            row = where.get(key)
            if row is not None:  # what a key stands for does not change
                found.append(Cell(_setting(settings[row]), losses[row], seeds[row]))
                continue
            try:
                found.append(Cell.from_config(json.loads(Path(self._cells, key, "config.json").read_bytes())))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def add(self, result: CellResult) -> None:
        """Take in a cell that this process has just stored."""
        touched = self._touched(result.cell.key)
        if touched is not None:
            self._take(result, touched)
            self._keep(_LEAST)

    def _touched(self, key: str) -> int | None:
        """The time of change of a cell's folder; None if there is none."""
        try:
            return os.stat(self._cells + key).st_mtime_ns
        except OSError:
            return None

    def _read(self, cell: Cell, touched: int) -> CellResult:
        state = _state(self._cells + cell.key)
        result = self._store.read(cell)
        self._take(result, touched, state)
        self._keep(_MOST)
        return result

    # -- what is new ---------------------------------------------------------------------------------------------

    def _take(self, result: CellResult, touched: int, state: int | None = None) -> None:
        """Note a cell for the index, with its folder's state from before it was read."""
        if result.status in (MISSING, FAILED):
            return
        cell = result.cell
        self._new.append({
            "key": cell.key, "folder": touched, "files": _state(self._cells + cell.key) if state is None else state,
            "status": result.status, "reason": result.reason, "seconds": float(result.seconds),
            "setting": _written(cell.setting), "loss": cell.loss, "seed": cell.seed,
            "env": json.dumps(dict(result.env)), "epochs": _pack(result.epochs), "trace": _pack(result.trace),
        })  # fmt: skip

    def _keep(self, least: int) -> None:
        """Write what is new, if that is enough."""
        if len(self._new) < least:
            return
        new, self._new = self._new, []
        try:
            add(self._folder, new, lambda key, touched: self._touched(key) == touched)
            (self._store.root / "index.parquet").unlink(missing_ok=True)  # what the index was before it had pieces
        except (BenchError, OSError):
            return  # a folder that may only be read, or a full disk: the folders say all


class _Later(Mapping[str, Any]):
    """A JSON object that is read when it is looked at."""

    def __init__(self, text: str) -> None:
        self._text, self._value = text, None

    def _read(self) -> dict[str, Any]:
        if self._value is None:
            self._value = json.loads(self._text)
        return self._value  # type: ignore[return-value]

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


class _Columns(Mapping[str, np.ndarray]):
    """Columns as `_pack` makes them, each read when it is looked at."""

    __slots__ = ("_content", "_layout")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._layout = _layout(content[: content.index(b"\n")])

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, length, at = self._layout[name]
        return np.frombuffer(self._content, dtype, length, at)

    def __contains__(self, name: object) -> bool:
        return name in self._layout

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)


def _pack(columns: Mapping[str, np.ndarray]) -> bytes:
    """Columns of one length: a line of names and types, then their bytes."""
    header = json.dumps([[name, values.dtype.str, len(values)] for name, values in columns.items()])
    return header.encode() + b"\n" + b"".join(np.ascontiguousarray(v).tobytes() for v in columns.values())


@lru_cache(maxsize=1024)
def _layout(header: bytes) -> dict[str, tuple[np.dtype[Any], int, int]]:
    """Name -> type, length and place of a column."""
    found, at = {}, len(header) + 1
    for name, kind, length in json.loads(header):
        dtype = np.dtype(kind)
        found[name] = (dtype, length, at)
        at += dtype.itemsize * length
    return found


def _state(folder: str) -> int:
    """A sum over the files of a folder that changes with a size or a time; new names change the folder itself."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                now = entry.stat()
                total += now.st_mtime_ns * 1_000_003 + now.st_size
    except OSError:
        return -1
    return total & 0x7FFF_FFFF_FFFF_FFFF


@lru_cache(maxsize=256)
def _written(setting: Setting) -> str:
    return json.dumps(asdict(setting))


@lru_cache(maxsize=4096)
def _setting(text: str) -> Setting:
    return Cell.from_config({**json.loads(text), "loss": "", "seed": 0}).setting
