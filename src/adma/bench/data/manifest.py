"""The manifest.csv of a data set: a row a picture, with its path in the column "file" and what is known of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from adma.bench.data.checks import listed, show
from adma.bench.data.sources import Entry, Source
from adma.bench.errors import BenchError

NAME = "manifest.csv"
FILE = "file"


@dataclass(frozen=True)
class Manifest:
    """What it says.

    path: of the manifest itself, to be shown.
    folder: the folders around it.
    rows: a file's path below that folder -> its row.
    """

    path: str
    folder: tuple[str, ...]
    columns: tuple[str, ...]
    rows: dict[str, dict[str, str]]

    def file(self, entry: Entry) -> str:
        """The path of a source's entry as the manifest writes it."""
        inside = entry.parts[: len(self.folder)] == self.folder
        return "/".join(entry.parts[len(self.folder) :] if inside else ("..", *entry.parts))

    def check_missing(self, what: str, entries: Sequence[Entry]) -> None:
        """Check that the manifest's files are all there.

        Raises:
            BenchError: one is missing (half downloaded).
        """
        there = {self.file(entry) for entry in entries}
        missing = [file for file in self.rows if file not in there]
        if missing:
            raise BenchError(
                f"{what}: half downloaded: {len(missing):,} of {len(self.rows):,} files of {self.path} are missing, "
                f"e.g. {listed(missing, 3)}; fetch the data set again"
            )

    def check_files(self, what: str, entries: Sequence[Entry]) -> None:
        """Check that the files are just those of the manifest.

        Raises:
            BenchError: one is missing, or one is there that the manifest does not name.
        """
        self.check_missing(what, entries)
        extra = sorted({self.file(entry) for entry in entries} - set(self.rows))
        if extra:
            raise BenchError(
                f"{what}: {len(extra):,} files are not in {self.path}, e.g. {listed(extra, 3)}; remove them, or the "
                "manifest if it belongs to other files"
            )

    def column(self, name: str, entries: Sequence[Entry]) -> list[str | None] | None:
        """The column's value for each file, None where it is empty; None if there is no such column."""
        if name not in self.columns:
            return None
        return [self.rows[self.file(entry)][name].strip() or None for entry in entries]


def find_manifest(entries: Sequence[Entry]) -> Entry | None:
    """The manifest that lies highest, if there is one."""
    found = [e for e in entries if not e.is_dir and e.parts[-1].lower() == NAME]
    return min(found, key=lambda e: (len(e.parts), e.parts), default=None)


def read_manifest(what: str, source: Source, entry: Entry) -> Manifest:
    """Read it.

    Raises:
        BenchError: it cannot be read, is no table of text, has no column "file", names a file twice, or has a row
            with too few or too many cells.
    """
    # Within the loop, as a source's stream is closed after its turn.
    (content,) = [s if isinstance(s, str) else s.read() for _, s in source.files([entry])]
    if isinstance(content, str):
        raise BenchError(f"{what}: cannot read {entry.path}: {show(content)}")
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        table = list(reader)
        columns = tuple(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"{what}: {entry.path} is no table of text ({error}); fetch the data set again") from error
    if FILE not in columns:
        raise BenchError(
            f"{what}: {entry.path} has no column '{FILE}' with the paths of the pictures, only "
            f"{listed(columns, 10) or 'nothing'}; add it, or remove the manifest"
        )
    rows: dict[str, dict[str, str]] = {}
    for number, row in enumerate(table, start=2):
        if None in row or None in row.values():
            raise BenchError(f"{what}: row {number} of {entry.path} has not {len(columns)} cells; fetch it again")
        if row[FILE] in rows:
            raise BenchError(f"{what}: {entry.path} names the file {show(row[FILE])} twice; mend it")
        rows[row[FILE]] = row
    return Manifest(entry.path, entry.parts[:-1], columns, rows)
