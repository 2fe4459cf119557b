"""The store: a folder a cell, written whole or not at all, read back as plain arrays.

    DIR/cells/KEY/config.json     the cell
    DIR/cells/KEY/epochs.parquet  one row an epoch (result.COLUMNS)
    DIR/cells/KEY/trace.parquet   the values of a shape that changed in training, one row a step; else there is none
    DIR/cells/KEY/env.json        versions, hardware, threads, hashes of what the losses of a seed share
    DIR/cells/KEY/status.json     {"status": ..., "reason": ..., "seconds": ..., "files": the others' SHA-256}
    DIR/set-aside/                cells and checkpoints that cannot be read, kept for who wants to look
    DIR/checkpoints/              trainings that are under way, see `checkpoint`
    DIR/leases/                   who trains what, see `lease`
    DIR/index/                    all cells in a few files, see `index`; it can be made again from the folders

A cell's folder is made beside its place and renamed into it, so a reader meets a whole cell or none. What another
process left half made (killed, disk full) lies in DIR/cells/.part-* and is removed by the next run once that process
has ended. Several processes may write into one folder.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adma.bench import owner
from adma.bench.files import Root
from adma.bench.lease import Leases
from adma.bench.remote_lease import RemoteLeases
from adma.bench.result import COLUMNS, DIVERGED, DONE, FAILED, MISSING, CellResult
from adma.bench.study import Cell
from adma.bench.whole import explained, sync_folder, write_new

_OLD = 86_400.0  # seconds after which what a process of another machine left half made is taken for abandoned


class Store:
    """The cells of a results folder.

    Args:
        root: the folder; made when something is first written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.cells_dir = self.root / "cells"

    def __str__(self) -> str:
        return str(self.root)

    @property
    def checkpoints(self) -> Root:
        """Root the checkpoints of its cells are kept, as `checkpoint.Keeper` takes it."""
        return self.root

    def leases(self) -> Leases | RemoteLeases:
        """Who trains which of its cells, as this process takes and sees it."""
        return Leases(self.root)

    def publish(self) -> None:
        """Whatever was written into `root` beside the cells is to be where the store is."""

    def prepare(self) -> None:
        """Make the folder; remove what interrupted runs left half made."""
        self.cells_dir.mkdir(parents=True, exist_ok=True)
        for name in os.listdir(self.cells_dir):
            if name.startswith(".part-") and _abandoned(self.cells_dir / name):
                shutil.rmtree(self.cells_dir / name, ignore_errors=True)

    def write(self, result: CellResult) -> bool:
        """Add one cell, whole: a reader, and a run after a crash, sees all of it or nothing.

        Once this has returned, the cell lies on the disk: a power cut does not take it away.

        If another process has finished the same cell meanwhile, its result stays: it says the same.

        Returns:
            Whether it is this result that lies there now.

        Raises:
            BenchError: the folder cannot be written; `DiskFullError`: there is no room.
        """
        with explained(self.root):
            part = Path(tempfile.mkdtemp(prefix=signed(f".part-{result.cell.key}"), dir=self.cells_dir))
            try:
                files = {
                    "config.json": _json(result.cell.config()),
                    "env.json": _json(result.env),
                    "epochs.parquet": _parquet(_table(result.epochs)),
                }
                if result.trace:
                    trace = {name: pa.array(values) for name, values in result.trace.items()}
                    files["trace.parquet"] = _parquet(pa.table(trace))
                status = {"status": result.status, "reason": result.reason, "seconds": result.seconds}
                sums = {name: _sum(content) for name, content in files.items()}
                write_new(part, {**files, "status.json": _json({**status, "files": sums})})
                part.chmod(0o755)
                mine = self._put(part, result.cell)
                sync_folder(self.cells_dir)
                return mine
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def _put(self, part: Path, cell: Cell) -> bool:
        """Rename a whole cell into its place, where there may be a failed one, or another process's, which stays."""
        target = self.cells_dir / cell.key
        while True:
            try:
                os.replace(part, target)
                return True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if self.read(cell).status in (DONE, DIVERGED):
                return False
            aside = Path(tempfile.mkdtemp(prefix=signed(f".part-{cell.key}"), dir=self.cells_dir))
            try:
                os.rename(target, aside)  # takes the place of the empty folder
            except FileNotFoundError:
                pass  # another process was first
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def read(self, cell: Cell) -> CellResult:
        """What is known of a cell; a folder that cannot be read counts as failed, with the reason."""
        folder = self.cells_dir / cell.key
        if not folder.is_dir():
            return CellResult(cell, MISSING)
        try:
            return _read(cell, folder)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            return CellResult(cell, FAILED, f"{folder} cannot be read: {error}")

    def set_aside_broken(self, cells: Iterable[Cell]) -> list[str]:
        """Move folders of cells that are there but cannot be read out of the way, so that they run again.

        Returns:
            A line about each.
        """
        told = []
        for cell in cells:
            folder = self.cells_dir / cell.key
            if not folder.is_dir():
                continue
            try:
                _read(cell, folder)
            except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
                place = self.put_aside(cell)
                told.append(
                    f"the stored run of {cell.loss} seed {cell.seed} cannot be read ({error}); it was moved to {place} "
                    "and runs again"
                )
        return told

    def put_aside(self, cell: Cell) -> str:
        """Move a cell that cannot be read out of the way; where to."""
        return str(set_aside(self.root, self.cells_dir / cell.key))


def set_aside(root: Path, path: Path) -> Path:
    """Move what cannot be read into DIR/set-aside, under a name of its own."""
    with explained(root):
        (root / "set-aside").mkdir(exist_ok=True)
        number = 1
        while True:
            place = root / "set-aside" / f"{path.name}-{number}"
            number += 1
            if place.exists():
                continue
            os.rename(path, place)
            return place


def _read(cell: Cell, folder: Path) -> CellResult:
    """A cell's folder, checked against what its status says of it."""
    status = json.loads((folder / "status.json").read_bytes())
    sums: Mapping[str, str] = status.get("files", {})  # folders of earlier versions have none
    content = {name: (folder / name).read_bytes() for name in sums or ("env.json", "epochs.parquet")}
    for name, expected in sums.items():
        if _sum(content[name]) != expected:
            raise ValueError(f"{name} is not what was written: its checksum differs")
    if not sums and (folder / "trace.parquet").exists():
        content["trace.parquet"] = (folder / "trace.parquet").read_bytes()
    if status["status"] not in (DONE, DIVERGED, FAILED):
        raise ValueError(f"status.json has the status {status['status']!r}")
    trace = _columns(content["trace.parquet"]) if "trace.parquet" in content else {}
    return CellResult(
        cell, status["status"], status["reason"], status["seconds"], _columns(content["epochs.parquet"]),
        json.loads(content["env.json"]), trace,
    )  # fmt: skip


def signed(name: str) -> str:
    """The beginning of a name that says which process makes what bears it."""
    mine = owner.me()
    return f"{name}~{mine.host}~{mine.pid}~{mine.started}~"


def signer(name: str) -> owner.Owner | None:
    """The process that a `signed` name speaks of; None for another name."""
    pieces = name.split("~")
    return owner.Owner(pieces[1], int(pieces[2]), pieces[3]) if len(pieces) == 5 and pieces[2].isdigit() else None


def _abandoned(part: Path) -> bool:
    """Whether nobody will finish a half-made folder: its process has ended, or it is a day old."""
    maker = signer(part.name)
    alive = None if maker is None else maker.alive
    if alive is not None:
        return not alive
    try:
        return time.time() - part.stat().st_mtime > _OLD
    except FileNotFoundError:
        return False


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(dict(value), indent=1, sort_keys=True) + "\n").encode()


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    # what else parquet can hold is for large files, and costs more than these few numbers
    pq.write_table(table, buffer, use_dictionary=False, write_statistics=False, store_schema=False)
    return buffer.getvalue()


def _columns(content: bytes) -> dict[str, np.ndarray]:
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    return {name: table[name].to_numpy() for name in table.column_names}


def _table(epochs: Mapping[str, Sequence[float] | np.ndarray]) -> pa.Table:
    columns = {
        name: pa.array(np.asarray(epochs.get(name, []), dtype=np.int64 if name == "epoch" else np.float64))
        for name in COLUMNS
    }
    return pa.table(columns)
