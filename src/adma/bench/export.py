"""`adma export`: all that a results folder holds as tables for other programs.

cells      one row a cell: key, status, reason, seconds, its setting, loss, seed, and the last epoch's measures
epochs     one row an epoch of a cell: key and `result.COLUMNS`
traces     one row a step at which a shape changed: key, step, epoch, parameter, value
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.text import Text

from adma.bench.console import console_for
from adma.bench.errors import BenchError
from adma.bench.files import Root, is_url
from adma.bench.index import Index
from adma.bench.mirror import folder_at
from adma.bench.result import COLUMNS, MISSING, CellResult
from adma.bench.status import look
from adma.bench.study import Cell, Setting
from adma.bench.whole import write_whole

FORMATS = ("csv", "parquet", "duckdb")


def export(options: argparse.Namespace) -> int:
    """Write the tables, and say where.

    Returns:
        0.

    Raises:
        BenchError: the folder is none of adma's, the format's package is not there, or nothing can be written.
    """
    if is_url(options.dir) and options.out is None:
        raise BenchError(f"{options.dir}: name a folder of this machine for the tables with --out")
    tables = tables_of(options.dir)
    out: Path = options.out or options.dir / "export"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"--out {out}: cannot be made a folder ({error.strerror}); name another one") from error
    for path in _WRITERS[options.format](tables, out):
        console_for().print(Text(str(path)), soft_wrap=True)
    return 0


def tables_of(where: Root) -> dict[str, pa.Table]:
    """The three tables of a results folder; cells that have not run are left out.

    Raises:
        BenchError: the folder is none of adma's.
    """
    folder = folder_at(where)
    cells = {cell.key: cell for part in look(where).parts for cell in part.cells}
    results = [r for r in Index(folder).read(list(cells.values())) if r.status != MISSING]
    return {"cells": _cells(results), "epochs": _epochs(results), "traces": _traces(results)}


def _cells(results: Sequence[CellResult]) -> pa.Table:
    """The columns are the same whatever has run: a cell without epochs may be the first one, or there is no cell."""
    rows = [_about(r) for r in results] or [_about(CellResult(Cell(Setting("", ""), "", 0), MISSING))]
    table = pa.Table.from_pylist(rows).slice(0, len(results))
    for name in COLUMNS:
        values = [r.epochs.get(name, np.empty(0)) for r in results]
        last = [float(v[-1]) if len(v) else None for v in values]
        table = table.append_column(f"last_{name}", pa.array(last, pa.float64()))
    return table


def _about(r: CellResult) -> dict[str, Any]:
    about = {"key": r.cell.key, "status": r.status, "reason": r.reason, "run_seconds": r.seconds}
    weights = {"weights": r.env.get("weights"), "device": r.env.get("device"), "threads": r.env.get("threads")}
    return {**about, **r.cell.config(), **weights}


def _epochs(results: Iterable[CellResult]) -> pa.Table:
    some = [r for r in results if len(r.epochs.get("epoch", ()))]
    counts = [len(r.epochs["epoch"]) for r in some]
    keys = [r.cell.key for r, n in zip(some, counts, strict=True) for _ in range(n)]
    columns: dict[str, Any] = {"key": pa.array(keys, pa.string())}
    for name in COLUMNS:
        kind = np.int64 if name == "epoch" else np.float64
        values = [np.asarray(r.epochs.get(name, np.full(n, np.nan)), kind) for r, n in zip(some, counts, strict=True)]
        columns[name] = pa.array(np.concatenate(values) if values else np.empty(0, kind))
    return pa.table(columns)


def _traces(results: Iterable[CellResult]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in ("key", "step", "epoch", "parameter", "value")}
    for r in results:
        for name, values in r.trace.items():
            if name in ("step", "epoch"):
                continue
            columns["key"] += [r.cell.key] * len(values)
            columns["step"] += r.trace["step"].astype(int).tolist()
            columns["epoch"] += r.trace["epoch"].tolist()
            columns["parameter"] += [name] * len(values)
            columns["value"] += values.tolist()
    kinds = {"key": pa.string(), "step": pa.int64(), "epoch": pa.float64(), "parameter": pa.string()}
    return pa.table({name: pa.array(values, kinds.get(name, pa.float64())) for name, values in columns.items()})


def _csv(tables: dict[str, pa.Table], out: Path) -> list[Path]:
    def text(table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, sink)
        return sink.getvalue().to_pybytes()

    return _files(tables, out, "csv", text)


def _parquet(tables: dict[str, pa.Table], out: Path) -> list[Path]:
    def content(table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return sink.getvalue().to_pybytes()

    return _files(tables, out, "parquet", content)


def _files(tables: dict[str, pa.Table], out: Path, ending: str, content: Callable[[pa.Table], bytes]) -> list[Path]:
    paths = [out / f"{name}.{ending}" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        write_whole(path, content(table))
    return paths


def _duckdb(tables: dict[str, pa.Table], out: Path) -> list[Path]:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise BenchError("--format duckdb needs DuckDB: pip install duckdb; or take --format parquet") from error
    with tempfile.TemporaryDirectory(dir=out) as folder:
        made = Path(folder) / "adma.duckdb"
        with duckdb.connect(str(made)) as database:
            for name, table in tables.items():
                database.register("given", table)
                database.execute(f"create table {name} as select * from given")
                database.unregister("given")
        path = out / "adma.duckdb"
        made.replace(path)
    return [path]


_WRITERS: dict[str, Callable[[dict[str, pa.Table], Path], list[Path]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "duckdb": _duckdb,
}
