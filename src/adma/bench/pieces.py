"""The files of an index: rows of cells, in pieces that are written once and never changed.

    DIR/index/NAME.parquet    rows of some cells, in groups of a thousand, so that those of a few are found quickly

What is new becomes a piece of its own, and small pieces are merged when there are many, so an index of n cells is
written about log n times and never anew as a whole. A merged piece is there before those it was made of go, and open
files outlive their names, so readers and writers need not know of each other. A cell may have rows in several pieces:
the one of its folder's last state counts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adma.bench.whole import explained, whole

_VERSION = b"2"
_MOST = 16  # pieces, before small ones are merged
_GROUP = 1024  # rows that are read together
_OLD = 86_400.0  # seconds after which what was left half written is removed
_TRIES = 5  # to open the pieces, while others merge them
_REPEATED: Any = ["status", "setting", "loss"]  # columns with few different values
_FIELDS: list[tuple[str, pa.DataType]] = [
    ("key", pa.string()),
    ("folder", pa.int64()),  # its time of change in nanoseconds
    ("files", pa.int64()),  # a sum over the sizes and times of what is in it
    ("status", pa.string()),
    ("reason", pa.string()),
    ("seconds", pa.float64()),
    ("setting", pa.string()),
    ("loss", pa.string()),
    ("seed", pa.int64()),
    ("env", pa.string()),
    ("epochs", pa.binary()),
    ("trace", pa.binary()),
]
_SCHEMA = pa.schema(_FIELDS, metadata={b"adma_index": _VERSION})
_HOW: Any = {"compression": "zstd", "use_dictionary": _REPEATED, "write_statistics": False, "write_page_checksum": True}
_Read = TypeVar("_Read")


class DamagedError(Exception):
    """A piece does not hold what was written into it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


def reading(folder: Path, use: Callable[[Pieces], _Read]) -> _Read:
    """What `use` makes of the pieces of an index; once more without those that it finds damaged, which are removed.

    Args:
        folder: DIR/index.
    """
    damaged: set[Path] = set()
    while True:
        try:
            with Pieces(folder, without=damaged) as pieces:
                return use(pieces)
        except DamagedError as error:
            damaged.add(error.path)
            with suppress(OSError):  # it can only be read there
                error.path.unlink()


class Pieces:
    """The pieces of an index, open for reading; as a context.

    What is no piece, or one of another version, counts for nothing: it is made again from the folders.

    Args:
        folder: DIR/index.
        without: pieces that count for nothing either.

    Raises:
        DamagedError: by whatever reads, that a piece is not as it was written.
    """

    def __init__(self, folder: Path, without: Container[Path] = ()) -> None:
        self._folder, self._without = folder, without
        self._files: list[tuple[Path, pq.ParquetFile]] = []
        self.where: dict[str, int] = {}  # key -> number of its row

    def __enter__(self) -> Pieces:
        for _ in range(_TRIES):
            try:
                self._open()
                break
            except FileNotFoundError:  # merged into another one meanwhile
                self._close()
        try:
            self._find()
        except DamagedError:
            self._close()  # a context that is not entered is not left
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def column(self, name: str) -> list[Any]:
        """A column of all rows."""
        found: list[Any] = []
        for path, file in self._files:
            with _whole_or_damaged(path):
                found += file.read(columns=[name])[name].to_pylist()
        return found

    def rows(self, numbers: Sequence[int], columns: Sequence[str]) -> dict[str, list[Any]]:
        """Some columns of some rows; read are the groups of rows that hold them."""
        found: dict[str, list[Any]] = {name: [None] * len(numbers) for name in columns}
        wanted = np.asarray(numbers, np.int64)
        start = 0
        for path, file in self._files:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                at = np.flatnonzero((wanted >= start) & (wanted < end))
                if len(at):
                    with _whole_or_damaged(path):
                        table = file.read_row_group(group, columns=list(columns)).take(wanted[at] - start)
                    for name in columns:
                        for place, value in zip(at, table[name].to_pylist(), strict=True):
                            found[name][place] = value
                start = end
        return found

    def _open(self) -> None:
        for path in _paths(self._folder):
            if path in self._without:
                continue
            try:
                file = _opened(path)
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException):
                continue
            if not _ours(file):
                file.close()
                continue
            self._files.append((path, file))

    def _find(self) -> None:
        keys = self.column("key")
        self.where = dict(zip(keys, range(len(keys)), strict=True))
        if len(self.where) < len(keys):
            folders = self.column("folder")
            for number, key in enumerate(keys):
                if folders[number] > folders[self.where[key]]:
                    self.where[key] = number

    def _close(self) -> None:
        for _, file in self._files:
            file.close()
        self._files = []


def add(folder: Path, rows: Sequence[Mapping[str, Any]], is_true: Callable[[str, int], bool]) -> None:
    """Write rows as a piece, and merge pieces if there are many.

    Args:
        rows: with the columns of `_FIELDS`.
        is_true: whether the row of a key and its folder's time is still worth keeping.

    Raises:
        BenchError: the folder cannot be written.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write(folder, [pa.Table.from_pylist(list(rows), schema=_SCHEMA)])
    paths = _paths(folder)
    if len(paths) <= _MOST:
        return
    _merge(folder, paths, is_true)
    for leftover in folder.glob(".*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _OLD:
                leftover.unlink()


def to_merge(sizes: Sequence[int]) -> list[int]:
    """Which pieces are made one: from the smallest up, as long as the next is no larger than those before together.

    Args:
        sizes: of the pieces, in rows.

    Returns:
        Their numbers, none if there is nothing to gain.
    """
    order = sorted(range(len(sizes)), key=lambda n: sizes[n])
    chosen, total = order[:1], sizes[order[0]] if order else 0
    for number in order[1:]:
        if sizes[number] > total and len(chosen) > 1:
            break
        chosen.append(number)
        total += sizes[number]
    return chosen if len(chosen) > 1 else []


def _merge(folder: Path, paths: Sequence[Path], is_true: Callable[[str, int], bool]) -> None:
    whole_ones: list[tuple[Path, pq.ParquetFile]] = []
    try:
        for path in paths:
            try:
                file = _opened(path)
            except FileNotFoundError:
                return  # another process merges them
            except (OSError, pa.ArrowException):
                with suppress(OSError):
                    path.unlink()  # it was cut short or changed
                continue
            if _ours(file):
                whole_ones.append((path, file))
            else:
                file.close()
        chosen = [whole_ones[n] for n in to_merge([file.metadata.num_rows for _, file in whole_ones])]
        if chosen:
            _write(folder, _true_rows(chosen, is_true))
            for path, _ in chosen:
                path.unlink(missing_ok=True)
    except DamagedError as error:  # the others are merged another time
        with suppress(OSError):
            error.path.unlink()
    finally:
        for _, file in whole_ones:
            file.close()


def _true_rows(files: Iterable[tuple[Path, pq.ParquetFile]], is_true: Callable[[str, int], bool]) -> Iterable[pa.Table]:
    """The rows of some pieces that still say what a folder says, each key once; a few pieces' worth at a time."""
    seen: set[str] = set()
    held: list[pa.Table] = []
    for path, file in files:
        for group in range(file.num_row_groups):
            with _whole_or_damaged(path):
                table = file.read_row_group(group)
            rows: list[tuple[Any, Any]] = list(zip(table["key"].to_pylist(), table["folder"].to_pylist(), strict=True))
            keep = []
            for key, touched in rows:
                keep.append(key not in seen and is_true(key, touched))
                if keep[-1]:
                    seen.add(key)
            held.append(table.filter(pa.array(keep, pa.bool_())))
            if sum(map(len, held)) >= _GROUP:
                yield pa.concat_tables(held)
                held = []
    if held:
        yield pa.concat_tables(held)


def _write(folder: Path, tables: Iterable[pa.Table]) -> None:
    with (
        whole(folder / f"{secrets.token_hex(8)}.parquet") as file,
        pq.ParquetWriter(file, _SCHEMA, **_HOW) as writer,
    ):
        for table in tables:
            writer.write_table(table, row_group_size=_GROUP)


def _paths(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".parquet" and path.name[0] != ".")
    except OSError:
        return []


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


@contextmanager
def _whole_or_damaged(path: Path) -> Iterator[None]:
    """Turns what a piece's checksums, or what stands in the place of its pages, raise into a word about the piece."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(path) from error


def _ours(file: pq.ParquetFile) -> bool:
    there = file.schema_arrow
    return (there.metadata or {}).get(b"adma_index") == _VERSION and there.equals(_SCHEMA)  # by names and types
