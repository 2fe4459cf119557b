"""All cells of a store in one file, so that a hundred thousand of them are read in seconds.

    DIR/index.parquet    one row a cell: what its folder holds, and the folder's state when that was read

The folders are what counts: the index is a copy of what was read and checked, made again from them where it is missing
or cannot be read, and a row is used only while its folder is as it was. Any reader that finds enough new cells writes
it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adma.bench.errors import BenchError
from adma.bench.result import FAILED, MISSING, CellResult
from adma.bench.store import Store
from adma.bench.study import Cell
from adma.bench.whole import write_whole

_VERSION = b"1"
_LEAST, _SHARE = 256, 0.1  # new cells that are worth another index, in number and of those there
_STATUS = ("key", "folder", "files", "status", "reason", "seconds")
_FIELDS: list[tuple[str, pa.DataType]] = [
    ("key", pa.string()),
    ("folder", pa.int64()),  # its time of change in nanoseconds
    ("files", pa.string()),  # a hash of the names, sizes and times of what is in it
    ("status", pa.string()),
    ("reason", pa.string()),
    ("seconds", pa.float64()),
    ("env", pa.string()),
    ("epochs", pa.binary()),
    ("trace", pa.binary()),
]
_SCHEMA = pa.schema(_FIELDS, metadata={b"adma_index": _VERSION})


@dataclass(frozen=True)
class Known:
    """What is known of a cell without its rows."""

    status: str
    reason: str
    seconds: float


class Index:
    """The cells of a store, by its index where that is true, else from their folders."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.root / "index.parquet"

    def known(self, cells: Iterable[Cell], *, checked: bool = False) -> dict[str, Known]:
        """Key -> what is known of each cell.

        Args:
            checked: whether the files of each folder are looked at, too, and not the folder alone: a file that was
                changed in its place is then read again, and found out by its checksum.
        """
        rows = self._rows(_STATUS)
        there = self._folders()
        found: dict[str, Known] = {}
        new: list[CellResult] = []
        for cell in cells:
            key = cell.key
            if key not in there:
                found[key] = Known(MISSING, "", 0.0)
                continue
            row = rows.get(key)
            if row is not None and self._true(row, there[key], checked):
                found[key] = Known(row["status"], row["reason"], row["seconds"])
                continue
            result = self._store.read(cell)
            new.append(result)
            found[key] = Known(result.status, result.reason, result.seconds)
        self._grow(new, len(rows))
        return found

    def read(self, cells: Sequence[Cell]) -> list[CellResult]:
        """All that is known of the cells, in their order."""
        rows = self._rows(_SCHEMA.names)
        there = self._folders()
        found: list[CellResult] = []
        new: list[CellResult] = []
        for cell in cells:
            key = cell.key
            row = rows.get(key)
            if key not in there:
                found.append(CellResult(cell, MISSING))
            elif row is not None and self._true(row, there[key], False):
                epochs, trace = _unpacked(row["epochs"]), _unpacked(row["trace"])
                env = _Later(row["env"])
                found.append(CellResult(cell, row["status"], row["reason"], row["seconds"], epochs, env, trace))
            else:
                found.append(self._store.read(cell))
                new.append(found[-1])
        self._grow(new, len(rows))
        return found

    # -- the file ----------------------------------------------------------------------------------------------

    def _rows(self, columns: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Key -> row; nothing where there is no index, or none that can be read."""
        try:
            table = pq.read_table(self._path, columns=list(columns))
        except (OSError, pa.ArrowException, KeyError):
            return {}
        if (table.schema.metadata or {}).get(b"adma_index") != _VERSION:
            return {}
        lists = {name: table[name].to_pylist() for name in columns}
        return {
            row[0]: dict(zip(columns, row, strict=True)) for row in zip(*(lists[name] for name in columns), strict=True)
        }

    def _folders(self) -> dict[str, int]:
        """Key -> the time of change of its folder."""
        try:
            with os.scandir(self._store.cells_dir) as entries:
                return {e.name: e.stat().st_mtime_ns for e in entries if not e.name.startswith(".")}
        except OSError:
            return {}

    def _true(self, row: Mapping[str, Any], touched: int, checked: bool) -> bool:
        if row["folder"] != touched:
            return False
        return not checked or row["files"] == _state(self._store.cells_dir / row["key"])

    def _grow(self, new: Sequence[CellResult], indexed: int) -> None:
        """Write the index again with what is new, if that is enough to be worth it."""
        whole = [result for result in new if result.status not in (MISSING, FAILED)]
        if len(whole) < max(_LEAST, _SHARE * indexed):
            return
        before = self._rows(_SCHEMA.names)
        there = self._folders()
        rows = {key: row for key, row in before.items() if key in there}
        rows |= {row["key"]: row for row in self._packed(whole, there)}
        table = pa.Table.from_pylist(list(rows.values()), schema=_SCHEMA)
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        try:
            write_whole(self._path, buffer.getvalue().to_pybytes())
        except BenchError:
            return  # a folder that may only be read, or a full disk: the folders say all

    def _packed(self, results: Sequence[CellResult], there: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        for result in results:
            key = result.cell.key
            if key in there:
                yield {
                    "key": key, "folder": there[key], "files": _state(self._store.cells_dir / key),
                    "status": result.status, "reason": result.reason, "seconds": result.seconds,
                    "env": json.dumps(dict(result.env)), "epochs": _pack(result.epochs), "trace": _pack(result.trace),
                }  # fmt: skip


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


def _state(folder: Path) -> str:
    try:
        with os.scandir(folder) as entries:
            files = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
    except OSError:
        return ""
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def _pack(columns: Mapping[str, np.ndarray]) -> bytes:
    """Columns of one length: a line of names and types, then their bytes."""
    header = json.dumps([[name, values.dtype.str, len(values)] for name, values in columns.items()])
    return header.encode() + b"\n" + b"".join(np.ascontiguousarray(v).tobytes() for v in columns.values())


def _unpacked(content: bytes) -> dict[str, np.ndarray]:
    header, _, rest = content.partition(b"\n")
    found, at = {}, 0
    for name, kind, length in json.loads(header):
        dtype = np.dtype(kind)
        found[name] = np.frombuffer(rest, dtype, length, at)
        at += dtype.itemsize * length
    return found
