"""Known data sets by the `datasets` library, which downloads a pinned revision once and keeps it in its cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from adma.bench.data.checks import check_memory, listed, show
from adma.bench.data.dataset import Dataset
from adma.bench.data.idx import FOLDERS
from adma.bench.data.images import pixels
from adma.bench.data.known import Hub, Known
from adma.bench.data.published import Reading, compare_counts, with_groups
from adma.bench.errors import BenchError


def download(known: Known, *, image_size: tuple[int, int] | None = None) -> Reading:
    """Download it (or take it from the library's cache), and check what came.

    Args:
        known: what it should be, with `hub`.
        image_size: (height, width); None for the paper's.

    Raises:
        BenchError: the library is not installed, the download fails, or something else came.
    """
    hub, size = known.hub, image_size or known.image_size
    assert hub is not None
    what = f"DATA {known.name}: {hub.repository}"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise BenchError(
            f"DATA {known.name}: not found on this machine, and downloading needs the package 'datasets'; "
            f"pip install 'adma[download]', or {by_hand(known)}"
        ) from error
    try:
        splits = {
            split: load_dataset(hub.repository, name=hub.config, revision=hub.revision, split=split)
            for split in hub.rows
        }
        dataset, checks = _dataset(what, known, hub, splits, size)
    except BenchError as error:
        raise BenchError(f"{error}; clear its cache and try again, or {by_hand(known)}") from error
    except Exception as error:  # network, disk, cache, the service: each has its own exceptions
        raise BenchError(
            f"DATA {known.name}: downloading {hub.repository} failed ({type(error).__name__}: "
            f"{show(str(error))}); "
            f"try again with a network connection, or {by_hand(known)}"
        ) from error
    return Reading(dataset, hub.repository, tuple(checks))


def by_hand(known: Known) -> str:
    """How to get the data set without the library."""
    if known.name in FOLDERS:
        files = f"the original IDX files into DIR/{FOLDERS[known.name]}/raw"
    else:
        layout = "train|test/CLASS/IMAGE" if len(known.counts) > 1 else "CLASS/IMAGE"
        files = f"{known.name}.tar, {known.name}.zip or a folder {known.name} of {layout} into DIR"
        if known.grouping is not None and known.grouping.needed:
            files += f", with a manifest.csv of the columns file and {known.grouping.column},"
    return f"put {files} and name DIR by --data-dir or the environment variable ADMA_DATA"


def _dataset(
    what: str, known: Known, hub: Hub, splits: dict[str, Any], size: tuple[int, int]
) -> tuple[Dataset, list[str]]:
    """The data set, and what was checked.

    Raises:
        BenchError: rows, classes or counts that are not the expected ones.
    """
    checks = []
    for split, expected in hub.rows.items():
        if expected is not None and len(splits[split]) != expected:
            raise BenchError(f"{what} gave {len(splits[split]):,} rows for the {split} split, expected {expected:,}")
        if expected is not None:
            checks.append(f"the {split} split has its {expected:,} rows")
    checks.append(f"revision {hub.revision}" if hub.revision else "no revision is pinned")

    rows = [(split, n) for split in hub.rows for n in range(len(splits[split]))]
    labels = np.concatenate([_labels(what, known, hub, splits[split]) for split in hub.rows])
    missing = [name for n, name in enumerate(known.classes) if not (labels == n).any()]
    if missing:
        raise BenchError(f"{what} lacks classes of {known.name}: {listed(missing, 10)}")
    column = None if known.grouping is None else known.grouping.column
    values = _column(splits, column)
    notes = [f"downloaded from {hub.repository}"]
    if hub.unique is not None:
        keep = _first_of_each(_column(splits, hub.unique) or rows)
        if len(keep) < len(rows):
            notes.append(f"{len(rows) - len(keep):,} of {len(rows):,} rows repeat a picture and were left out")
        rows, labels = [rows[n] for n in keep], labels[keep]
        values = None if values is None else [values[n] for n in keep]

    digests: list[bytes] | None = [] if known.grouping is not None and known.grouping.same_bytes else None
    x = _images(what, known, rows, lambda split, n: splits[split][n][hub.image], size, digests)
    parts = np.array([hub.parts[split] for split, _ in rows], dtype="U5") if hub.parts else None
    dataset = Dataset(known.name, x, labels, known.classes, parts, tuple(notes))
    more_notes, counts = compare_counts(what, known, dataset)
    checks.append(f"the {len(known.classes)} classes have the published names")
    checks.append(counts)
    dataset, groups = with_groups(known, replace(dataset, notes=(*notes, *more_notes)), values, digests)
    return dataset, [*checks, *([groups] if groups else [])]


def _column(splits: dict[str, Any], name: str | None) -> list[Hashable] | None:
    """All splits' values, None if a split lacks the column."""
    if name is None or any(name not in split.features for split in splits.values()):
        return None
    return [value for split in splits.values() for value in split[name]]


def _first_of_each(values: list[Any]) -> list[int]:
    first: dict[Hashable, int] = {}
    for n, value in enumerate(values):
        first.setdefault(value, n)
    return sorted(first.values())


def _labels(what: str, known: Known, hub: Hub, split: Any) -> np.ndarray:
    """Class indices, int64, from a column of class numbers with names or of names."""
    values = np.asarray(list(split[hub.label]))
    names = getattr(split.features[hub.label], "names", None)
    if values.dtype.kind in "iu" and names is not None:
        found, inverse = np.unique(values, return_inverse=True)
        texts = [str(names[n]) if 0 <= n < len(names) else str(n) for n in found]
    else:
        found, inverse = np.unique(values.astype(str), return_inverse=True)
        texts = [str(text) for text in found]
    index = {_plain(name): n for n, name in enumerate(known.classes)}
    ours = [_plain(hub.classes.get(text, text)) for text in texts]
    unknown = [text for text, plain in zip(texts, ours, strict=True) if plain not in index]
    if unknown:
        raise BenchError(f"{what} has classes that {known.name} has not: {listed(unknown, 10)}")
    return np.array([index[plain] for plain in ours], dtype=np.int64)[inverse.reshape(-1)]


def _plain(name: str) -> str:
    """A class name without case and punctuation: "T - shirt / top" is T-shirt/top."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _images(
    what: str,
    known: Known,
    rows: list[tuple[str, int]],
    image: Callable[[str, int], Any],
    size: tuple[int, int],
    digests: list[bytes] | None,
) -> np.ndarray:
    """(N, C, H, W) uint8, one picture decoded at a time: photographs are large before they are resized."""
    mode = "L" if known.channels == 1 else "RGB"
    shape = (len(rows), *size, known.channels)
    check_memory(what, 2 * int(np.prod(shape, dtype=np.int64)), "choose a smaller --image-size")
    x = np.empty(shape, dtype=np.uint8)
    for n, (split, row) in enumerate(rows):
        picture = image(split, row)
        if digests is not None:
            digests.append(hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).digest())
        x[n] = pixels(picture, size, mode).reshape(shape[1:])
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
