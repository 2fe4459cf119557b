"""Divides a data set into train, val and test, class by class, the same way for the same seed.

What the data set itself states is kept whole. What is missing is drawn from its training part (from all
samples if it states nothing): of n samples of a class, round(fraction * n) go into the part, but at least one
into each part and one into train. Both fractions are of the samples drawn from, before either is taken. So
with fractions 0.2 and 0.2 and nothing stated, 20 % are tested, 20 % validate, 60 % train.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from adma.bench.data.checks import TEST, TRAIN, UNSTATED, VAL, show
from adma.bench.data.dataset import Dataset, Split
from adma.bench.errors import BenchError


def make_split(
    dataset: Dataset, *, seed: int, train_size: int | None, val_fraction: float, test_fraction: float
) -> Split:
    """A stratified split; indices are int64 and ascending, and no index stands in two parts.

    For one seed, the test samples depend on neither `val_fraction` nor `train_size`.

    Args:
        dataset: with or without parts of its own; samples whose part is not stated count as train.
        seed: of the draw, a non-negative integer.
        train_size: how many samples to train on, drawn from the training part in its proportions with at
            least one of each class; None takes all.
        val_fraction: in (0, 1); unused if the data set has a val part.
        test_fraction: in (0, 1); unused if the data set has a test part.

    Raises:
        BenchError: an argument out of its range, or a class too small to be in every part that is drawn.
    """
    seed = _whole("--seed", seed, 0)
    fractions = {
        TEST: _fraction("--test-fraction", test_fraction),
        VAL: _fraction("--val-fraction", val_fraction),
    }
    parts = np.full(len(dataset), TRAIN) if dataset.parts is None else dataset.parts
    chosen = {part: [np.flatnonzero(parts == part)] for part in (TEST, VAL)}
    drawn = [part for part in (TEST, VAL) if not len(chosen[part][0])]
    if sum(fractions[part] for part in drawn) >= 1:
        raise BenchError(
            f"--val-fraction {val_fraction} and --test-fraction {test_fraction} leave nothing to train on; "
            "their "
            "sum must be below 1"
        )
    pool = np.flatnonzero((parts == TRAIN) | (parts == UNSTATED))
    counts = np.bincount(dataset.y[pool], minlength=dataset.num_classes)
    _check_counts(dataset, counts, drawn)

    rng = np.random.Generator(np.random.PCG64(seed))
    rests = []
    for label in range(dataset.num_classes):
        order = rng.permutation(pool[dataset.y[pool] == label])
        for part, take in zip(drawn, _takes(len(order), [fractions[p] for p in drawn]), strict=True):
            chosen[part].append(order[:take])
            order = order[take:]
        rests.append(order)
    if train_size is not None:
        sizes = np.array([len(rest) for rest in rests])
        quota = _apportion(sizes, _train_size(dataset, train_size, int(sizes.sum())))
        rests = [rest[:take] for rest, take in zip(rests, quota, strict=True)]
    return Split(train=_ascending(rests), val=_ascending(chosen[VAL]), test=_ascending(chosen[TEST]))


def _ascending(pieces: list[np.ndarray]) -> np.ndarray:
    return np.sort(np.concatenate(pieces)).astype(np.int64)


def _takes(count: int, fractions: list[float]) -> list[int]:
    """How many of a class's samples go into each part that is drawn."""
    takes: list[int] = []
    for fraction in fractions:
        others = len(fractions) - len(takes)  # parts still to be served, train among them: one sample each
        most = count - sum(takes) - others
        takes.append(min(max(1, int(np.floor(fraction * count + 0.5))), most))
    return takes


def _apportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """`total` shared out in proportion to `sizes`, at least one each: largest remainders win, then first."""
    ideal = sizes * (total / sizes.sum())
    quota = np.maximum(1, np.floor(ideal)).astype(np.int64)
    while quota.sum() < total:
        quota[np.argmax(np.where(quota < sizes, ideal - quota, -np.inf))] += 1
    while quota.sum() > total:
        quota[np.argmax(np.where(quota > 1, quota - ideal, -np.inf))] -= 1
    return quota


def _check_counts(dataset: Dataset, counts: np.ndarray, drawn: list[str]) -> None:
    needed = 1 + len(drawn)
    small = np.flatnonzero(counts < needed)
    if len(small):
        named = ", ".join(f"'{show(dataset.class_names[i])}' has {counts[i]}" for i in small[:5])
        more = f", and {len(small) - 5} more such classes" if len(small) > 5 else ""
        raise BenchError(
            f"{show(dataset.name)}: a class needs at least {needed} samples to be divided into "
            f"{', '.join([TRAIN, *reversed(drawn)])}, but {named}{more}; add samples, or drop these classes"
        )


def _train_size(dataset: Dataset, value: Any, available: int) -> int:
    size = _whole("--train-size", value, 1)
    if not dataset.num_classes <= size <= available:
        raise BenchError(
            f"--train-size must be between {dataset.num_classes} (one sample of each class) and "
            f"{available} (all "
            f"training samples), got {size}"
        )
    return size


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise BenchError(f"{name} must be a whole number of at least {low}, got {value!r}")
    return int(value)


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        raise BenchError(f"{name} must be a number above 0 and below 1, got {value!r}")
    return float(value)
