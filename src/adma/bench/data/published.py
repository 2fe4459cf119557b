"""What was found of a known data set, held against what was published: its classes, its counts, its groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from adma.bench.data.checks import TEST, TRAIN, UNSTATED, VAL, listed
from adma.bench.data.dataset import Dataset
from adma.bench.data.groups import joined
from adma.bench.data.known import Grouping, Known
from adma.bench.errors import BenchError

Keys = Sequence[Hashable | None]


@dataclass(frozen=True)
class Reading:
    """A known data set as it was read, where from, and what was checked on the way (a sentence each)."""

    dataset: Dataset
    source: str
    checks: tuple[str, ...]


def check_classes_of(what: str, known: Known, found: Sequence[str]) -> None:
    """Check that the classes are those of the known data set, whatever their order.

    Raises:
        BenchError: one is unknown or missing.
    """
    unknown = sorted(set(found) - set(known.classes))
    missing = [name for name in known.classes if name not in found]
    if unknown or missing:
        raise BenchError(
            f"{what}: its classes are not those of {known.name}: unknown: {listed(unknown, 10) or 'none'}; missing: "
            f"{listed(missing, 10) or 'none'}; rename or fetch the folders, or give the path in the place of "
            f"{known.name!r} if it is a data set of your own"
        )


def in_order_of(known: Known, dataset: Dataset) -> Dataset:
    """With the known data set's name, and its classes in their order."""
    to = np.array([known.classes.index(name) for name in dataset.class_names], dtype=np.int64)
    return replace(dataset, name=known.name, y=to[dataset.y], class_names=known.classes)


def compare_counts(what: str, known: Known, dataset: Dataset) -> tuple[tuple[str, ...], str]:
    """Notes for the data set's reader, and what was checked, in words.

    Raises:
        BenchError: more samples of a class than were published.
    """
    published = {part: np.array(counts) for part, counts in known.counts.items()}
    official = set(published) != {UNSTATED}
    notes = []
    if official and (dataset.parts is None or not (dataset.parts == TEST).any()):
        official = False
        notes.append("the official test part is not here: one is drawn from what is")
    if not official:
        published = {UNSTATED: np.sum(list(published.values()), axis=0)}
        here = {UNSTATED: np.bincount(dataset.y, minlength=len(known.classes))}
    else:
        assert dataset.parts is not None
        # What a user took for validation is of the published training part.
        part = np.where(np.isin(dataset.parts, (VAL, UNSTATED)), TRAIN, dataset.parts)
        here = {p: np.bincount(dataset.y[part == p], minlength=len(known.classes)) for p in published}
    for part_name, counts in here.items():
        more = np.flatnonzero(counts > published[part_name])
        if len(more):
            n = int(more[0])
            raise BenchError(
                f"{what}: {counts[n]:,} samples of class {known.classes[n]}{_of(part_name)}, but {known.name} has only "
                f"{published[part_name][n]:,}; fetch the data set again, or give the path in the place of "
                f"{known.name!r} if it is another one"
            )
    if all((counts == published[p]).all() for p, counts in here.items()):
        return tuple(notes), f"all {known.size:,} samples are there, class by class"
    share = f"{len(dataset):,} of the {known.size:,} published samples"
    if official:
        share += f" ({', '.join(f'{p} {c.sum():,} of {published[p].sum():,}' for p, c in here.items())})"
    return (share, *notes), f"a subset: {share}"


def _of(part: str) -> str:
    return f" in the {part} part" if part else ""


def with_groups(
    known: Known, dataset: Dataset, values: Keys | None, digests: Sequence[bytes] | None
) -> tuple[Dataset, str]:
    """The data set with the groups that can be told; and what was found, in words.

    Args:
        known: the data set's description.
        dataset: as read.
        values: of `known.grouping.column`, None if it is not there.
        digests: of the samples' content, None if they were not made.
    """
    grouping = known.grouping
    if grouping is None:
        return dataset, ""
    keys: list[Keys] = []
    if values is not None:
        keys.append([_matching(grouping, value) for value in values])
    if digests:
        keys.append(digests)
    if values is None and grouping.needed:
        note = (
            f"WARNING: there is no manifest.csv with the column {grouping.column!r}, so samples of one {grouping.noun} "
            f"stand in training and in test: a split by {grouping.noun} is not possible, and accuracies are too high"
        )
        return replace(dataset, notes=(*dataset.notes, note)), note
    if not keys:
        return dataset, ""
    groups = joined(len(dataset), *keys)
    number = int(groups.max()) + 1
    note = f"{len(dataset):,} samples show {number:,} {grouping.noun}s"
    return replace(dataset, groups=groups, notes=(*dataset.notes, note)), note


def _matching(grouping: Grouping, value: Hashable | None) -> str | None:
    match = None if value is None else grouping.pattern.match(str(value))
    return match.group() if match else None
