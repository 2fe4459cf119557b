"""Which class and which part each file of a folder or archive belongs to, from its path alone.

    class/image                          the class is the first folder; parts are not stated
    train|val|test/class/image           the first is the part (also training, valid, validation, testing)
    NAME/...                             a single folder around either is stepped into

Pictures deeper below a class folder count for that class. Never looked at: what the operating system wrote
(see `sources`) and texts (TEXT_ENDINGS, and README, LICENSE and the like without an ending). Every other file
below a class folder is taken for a picture, and it is an error if it is none; so nothing is lost in silence.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from adma.bench.data.checks import PART_NAMES, listed, show
from adma.bench.data.sources import Entry
from adma.bench.errors import BenchError

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".md", ".yaml", ".yml", ".xml", ".html")
TEXT_NAMES = {
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "authors",
    "checksums",
    "sha256sums",
    "md5sums",
}
EXPECTED = "expected CLASS/IMAGE or train|val|test/CLASS/IMAGE"


@dataclass(frozen=True)
class Sample:
    """A file that should be a picture. part: "train", "val", "test", or "" where none are stated."""

    entry: Entry
    class_name: str
    part: str


@dataclass(frozen=True)
class Layout:
    """What the paths say.

    samples: sorted by path.
    misplaced: files that lie in no class folder.
    root: the folders around the class or part folders.
    has_parts: whether the first folder states the part.
    """

    samples: tuple[Sample, ...]
    misplaced: tuple[Entry, ...]
    root: tuple[str, ...]
    has_parts: bool
    notes: tuple[str, ...]


def read_layout(what: str, entries: Sequence[Entry], read: Sequence[Entry] = ()) -> Layout:
    """Sort a source's entries into classes and parts. Texts are noted as not read, but those in `read`.

    Raises:
        BenchError: no pictures, an empty class folder, part folders beside others, two folders of one part,
            or a class name that is no text.
    """
    texts = [e for e in entries if not e.is_dir and is_text(e.parts[-1])]
    files = [e for e in entries if not e.is_dir and not is_text(e.parts[-1])]
    folders = {e.parts for e in entries if e.is_dir} | {
        e.parts[:depth] for e in entries for depth in range(1, len(e.parts))
    }
    if not files:
        raise BenchError(f"{what}: no images there ({len(folders)} folders, {len(texts)} text files); {EXPECTED}")
    root = _inner_root(files, folders)
    files = [e for e in files if e.parts[: len(root)] == root]
    folders = {f[len(root) :] for f in folders if len(f) > len(root) and f[: len(root)] == root}
    part_of = _parts_of_folders(what, [e.parts[len(root) :] for e in files], folders)
    depth = 1 if part_of else 0  # of the class's name in a path below the root

    samples, misplaced, deeper = [], [], 0
    for entry in sorted(files, key=lambda e: e.parts):
        path = entry.parts[len(root) :]
        if len(path) < depth + 2:
            misplaced.append(entry)
            continue
        deeper += len(path) > depth + 2
        samples.append(Sample(entry, class_name(what, path[depth]), part_of[path[0]] if part_of else ""))
    if not samples:
        raise BenchError(f"{what}: {listed(e.path for e in misplaced)}: no image lies in a class folder; {EXPECTED}")
    filled = {s.entry.parts[len(root) :][: depth + 1] for s in samples}
    empty = sorted(f for f in folders if len(f) == depth + 1 and f not in filled)
    if empty:
        raise BenchError(
            f"{what}: no image in the class folder {listed('/'.join(root + f) for f in empty)}; fill or remove it"
        )
    notes = []
    if deeper:
        notes.append(f"{deeper} images lie in folders below their class's folder and count for that class")
    unread = [e for e in texts if e not in read]
    if unread:
        notes.append(f"text files were not read: {listed(e.path for e in unread)}")
    return Layout(tuple(samples), tuple(misplaced), root, bool(part_of), tuple(notes))


def is_text(name: str) -> bool:
    """Whether a file is a manifest, a licence or the like."""
    return name.lower().endswith(TEXT_ENDINGS) or name.lower() in TEXT_NAMES


def class_name(what: str, folder: str) -> str:
    """A folder's name as text in one spelling (macOS writes accents as separate characters).

    Raises:
        BenchError: its bytes are no UTF-8, so that it could be written into no report.
    """
    try:
        folder.encode()
    except UnicodeEncodeError as error:
        raise BenchError(f"{what}: the folder name '{show(folder)}' is not UTF-8 text; rename it") from error
    return unicodedata.normalize("NFC", folder)


def _inner_root(files: Sequence[Entry], folders: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The path below which the class or part folders lie."""
    root: tuple[str, ...] = ()
    while True:
        depth = len(root)
        inside = {f[depth] for f in folders if len(f) > depth and f[:depth] == root}
        loose = any(len(e.parts) == depth + 1 for e in files)
        if loose or len(inside) != 1 or next(iter(inside)).casefold() in PART_NAMES:
            return root
        inner = (*root, *inside)
        if not any(len(f) > depth + 1 and f[: depth + 1] == inner for f in folders):
            return root  # the only folder is a class
        root = inner


def _parts_of_folders(what: str, paths: Sequence[tuple[str, ...]], folders: set[tuple[str, ...]]) -> dict[str, str]:
    """First folder -> part; empty if the first folders are classes (of which one may be called "train")."""
    top = sorted(f[0] for f in folders if len(f) == 1)
    part_of = {f: PART_NAMES[f.casefold()] for f in top if f.casefold() in PART_NAMES}
    holding = {f[0] for f in folders if len(f) > 1}  # those with folders in them
    if not part_of:
        return {}
    others = [f for f in top if f not in part_of]
    if others:
        if holding & set(part_of):
            raise BenchError(
                f"{what}: the folders {listed(part_of)} look like parts of a data set, but "
                f"{listed(others)} stand "
                f"beside them; {EXPECTED}, not a mixture"
            )
        return {}
    unlabelled = sorted(set(part_of) - holding)
    if unlabelled:
        count = sum(len(p) == 2 and p[0] in unlabelled for p in paths)
        raise BenchError(
            f"{what}: no class folders in {listed(unlabelled)} ({count} files lie there directly); {EXPECTED}"
        )
    for part, number in Counter(part_of.values()).items():
        if number > 1:
            same = [f for f, p in part_of.items() if p == part]
            raise BenchError(f"{what}: the folders {listed(same)} all name the {part} part; keep one of them")
    return part_of
