"""Checks that every source of data shares, and how a name from the user's disk is shown in a message."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from adma._check import nearest
from adma.bench.errors import BenchError

TRAIN, VAL, TEST, UNSTATED = "train", "val", "test", ""
# What a folder or a `parts` value may be called (compared without case) -> what it means here.
PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
}


def show(text: str) -> str:
    """A name as one line of printable text: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def listed(names: Iterable[str], limit: int = 5) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    tail = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(show, names[:limit])) + tail


def share_between(name: str, value: Any) -> float:
    """The value, if it is a number above 0 and below 1.

    Raises:
        BenchError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        raise BenchError(f"{name} must be a number above 0 and below 1, got {value!r}")
    return float(value)


def part_codes(what: str, values: Sequence[str] | np.ndarray) -> np.ndarray | None:
    """Stated parts as "train", "val", "test" or "", dtype U5; None if nothing is stated.

    Raises:
        BenchError: a value is none of the known names.
    """
    known, inverse = np.unique(np.asarray(values), return_inverse=True)
    codes = []
    for value in map(str, known):
        name = value.strip().casefold()
        if name and name not in PART_NAMES:
            raise BenchError(
                f"{what}: '{show(value)}' is no part of a data set{nearest(name, PART_NAMES)}; "
                "say 'train', 'val', 'test', or '' for samples whose part is not stated"
            )
        codes.append(PART_NAMES.get(name, UNSTATED))
    return np.array(codes, dtype="U5")[inverse.reshape(-1)] if any(codes) else None


def check_classes(what: str, y: np.ndarray, class_names: Sequence[str], parts: np.ndarray | None) -> list[str]:
    """Check that there is something to learn; return notes on what is lawful but odd.

    Raises:
        BenchError: fewer than two classes, a class with no sample, parts without "train", or a class that
            stands in "val" or "test" but not in "train".
    """
    if len(class_names) < 2:
        raise BenchError(
            f"{what}: at least 2 classes are needed, got {len(class_names)} ({listed(class_names) or 'none'})"
        )
    absent = np.flatnonzero(np.bincount(y, minlength=len(class_names)) == 0)
    if len(absent):
        raise BenchError(f"{what}: no sample of class {listed(class_names[int(i)] for i in absent)}")
    if parts is None:
        return []
    in_train = np.bincount(y[(parts == TRAIN) | (parts == UNSTATED)], minlength=len(class_names)) > 0
    if not in_train.any():
        stated = ", ".join(sorted({str(p) for p in np.unique(parts)}))
        raise BenchError(f"{what}: no sample is stated as 'train' (only {stated}); add a train part")
    notes = []
    for part in (VAL, TEST):
        if not (parts == part).any():
            continue
        in_part = np.bincount(y[parts == part], minlength=len(class_names)) > 0
        untaught = np.flatnonzero(in_part & ~in_train)
        if len(untaught):
            raise BenchError(
                f"{what}: class {listed(class_names[int(i)] for i in untaught)} is in the {part} part but "
                "not in train; a class must be trained on to be tested"
            )
        untested = np.flatnonzero(in_train & ~in_part)
        if len(untested):
            notes.append(f"the {part} part has no sample of class {listed(class_names[int(i)] for i in untested)}")
    return notes


def check_memory(what: str, num_bytes: int, remedy: str) -> None:
    """Refuse data that would not fit beside a training, before the machine starts to swap.

    Raises:
        BenchError: `num_bytes` is more than half of the machine's memory.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # a system that does not say
        return
    if num_bytes > memory / 2:
        raise BenchError(
            f"{what}: needs {num_bytes / 2**30:.1f} GiB, more than half of this machine's "
            f"{memory / 2**30:.1f} GiB of memory; {remedy}"
        )
