"""Divides a data set into train, val and test, class by class, the same way for the same seed.

What the data set itself states is kept whole. What is missing is drawn from its training part (from all
samples if it states nothing): of n samples of a class, round(fraction * n) go into the part, but at least one
into each part and one into train. Both fractions are of the samples drawn from, before either is taken. So
with fractions 0.2 and 0.2 and nothing stated, 20 % are tested, 20 % validate, 60 % train.

Samples of one group (`Dataset.groups`) stay in one part: whole groups are drawn, class by class, a group's class
being its most frequent one, until a part has as many samples as whole groups allow.

Dense targets (a class for each pixel or token) give a sample no one class: samples, or groups, are drawn as if all
were of one.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from adma.bench.data.checks import TEST, TRAIN, UNSTATED, VAL, share_between, show
from adma.bench.data.dataset import Dataset, Split
from adma.bench.data.groups import take_groups
from adma.bench.errors import BenchError

HELD_OUT = "held out"
_EVAL_STREAM = {VAL: 1, TEST: 2}  # of the draws for `eval_size`, apart from the draw of the parts


def make_split(
    dataset: Dataset,
    *,
    seed: int,
    train_size: int | None,
    val_fraction: float,
    test_fraction: float,
    grouped: bool = True,
    eval_size: int | None = None,
    train_fraction: float | None = None,
) -> Split:
    """A stratified split; indices are int64 and ascending, and no index stands in two parts.

    For one seed, the test samples depend on neither `val_fraction`, `train_size` nor `train_fraction`, and a smaller
    `train_fraction` takes a part of what a larger one takes.

    Args:
        dataset: with or without parts of its own; samples whose part is not stated count as train.
        seed: of the draw, a non-negative integer.
        train_size: how many samples to train on, drawn from the training part in its proportions with at
            least one of each class; None takes all. Single samples of a group may be taken.
        val_fraction: in (0, 1); unused if the data set has a val part.
        test_fraction: in (0, 1); unused if the data set has a test part.
        grouped: whether the samples of a group stay in one part, where the data set has groups.
        eval_size: take at most so many samples of val and of test each, also of the data set's own parts, in the
            part's proportions with at least one of each class if it reaches for that; None takes all.
        train_fraction: in (0, 1), the share to train on of each class of the training part, of what `train_size` left
            of it; at least one sample each, single samples of a group too. None takes all.

    Raises:
        BenchError: an argument out of its range, a class too small to be in every part that is drawn, or a data set
            whose own parts divide a group.
    """
    seed = _whole("--seed", seed, 0)
    eval_size = None if eval_size is None else _whole("--eval-size", eval_size, 1)
    fractions = {
        TEST: share_between("--test-fraction", test_fraction),
        VAL: share_between("--val-fraction", val_fraction),
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
    rng = np.random.Generator(np.random.PCG64(seed))
    wanted = [fractions[part] for part in drawn]
    if grouped and dataset.groups is not None:
        _check_own_parts(dataset, dataset.groups, parts)
        taken, rests = _draw_groups(dataset, dataset.groups, pool, drawn, wanted, rng)
    else:
        taken, rests = _draw_samples(dataset, pool, drawn, wanted, rng)
    for part, pieces in zip(drawn, taken, strict=True):
        chosen[part] += pieces
    if train_size is not None:
        sizes = np.array([len(rest) for rest in rests])
        quota = _apportion(sizes, _train_size(dataset, train_size, int(sizes.sum())))
        rests = [rest[:take] for rest, take in zip(rests, quota, strict=True)]
    if train_fraction is not None:
        share = share_between("--train-fraction", train_fraction)
        rests = [rest[: max(1, int(np.floor(share * len(rest) + 0.5)))] for rest in rests]
    measured = {part: _at_most(dataset.strata, _ascending(chosen[part]), eval_size, seed, part) for part in (VAL, TEST)}
    return Split(train=_ascending(rests), val=measured[VAL], test=measured[TEST])


def draw_held_out(
    y: np.ndarray, class_names: Sequence[str], *, share: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """A stratified part of the training part, for what is learned on other samples than those trained on.

    Args:
        y: (N,) int64, the labels that are trained on, false ones too; or dense ones (N, ...).
        class_names: C names.
        share: in (0, 1): of n samples of a class round(share n) are held out, but at least one, and one is left.
        seed: of the draw, a non-negative integer.
        groups: (N,) or None; groups are drawn as wholes, see `Dataset.groups`.

    Returns:
        Ascending places in `y`, int64; the others train.

    Raises:
        BenchError: a class has fewer than two samples (or groups, where there are groups).
    """
    share, rng = share_between("held_out", share), np.random.Generator(np.random.PCG64(_whole("--seed", seed, 0)))
    part = Dataset("the training part", np.empty((len(y), 0)), y, tuple(class_names))
    every = np.arange(len(y))
    if groups is None:
        (held,), _ = _draw_samples(part, every, [HELD_OUT], [share], rng)
    else:
        (held,), _ = _draw_groups(part, groups, every, [HELD_OUT], [share], rng)
    return _ascending(held)


Pieces = list[np.ndarray]


def _draw_samples(
    dataset: Dataset, pool: np.ndarray, drawn: list[str], fractions: list[float], rng: np.random.Generator
) -> tuple[list[Pieces], Pieces]:
    """For each part drawn, its samples of each class; and what is left of each class, in random order."""
    _check_counts(dataset, np.bincount(dataset.strata[pool], minlength=dataset.num_strata), drawn, "samples")
    taken: list[Pieces] = [[] for _ in drawn]
    rests = []
    for label in range(dataset.num_strata):
        order = rng.permutation(pool[dataset.strata[pool] == label])
        for pieces, take in zip(taken, _takes(len(order), fractions), strict=True):
            pieces.append(order[:take])
            order = order[take:]
        rests.append(order)
    return taken, rests


def _draw_groups(
    dataset: Dataset,
    groups: np.ndarray,
    pool: np.ndarray,
    drawn: list[str],
    fractions: list[float],
    rng: np.random.Generator,
) -> tuple[list[Pieces], Pieces]:
    """As `_draw_samples`, by whole groups; what is left is still sorted by the class of each sample."""
    _, group, sizes = np.unique(groups[pool], return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    counts = np.zeros((len(sizes), dataset.num_strata), dtype=np.int64)
    np.add.at(counts, (group, dataset.strata[pool]), 1)
    label_of = counts.argmax(1)  # of equally frequent classes the first
    _check_counts(dataset, np.bincount(label_of, minlength=dataset.num_strata), drawn, "groups")
    first = np.full(len(sizes), len(pool))
    np.minimum.at(first, group, np.arange(len(pool)))
    by_first = np.argsort(first)  # so that the draw depends on the samples' order, not on the groups' numbers

    part_of = np.full(len(sizes), len(drawn))  # train
    for label in range(dataset.num_strata):
        order = rng.permutation(by_first[label_of[by_first] == label])
        total = int(sizes[order].sum())
        for number, fraction in enumerate(fractions):
            others = len(fractions) - number  # parts still to be served, train among them: one group each
            target = max(1, int(np.floor(fraction * total + 0.5)))
            places = take_groups(sizes[order].tolist(), target, len(order) - others)
            part_of[order[places]] = number
            order = np.delete(order, places)
    part_of_sample = part_of[group]
    taken = [[pool[part_of_sample == number]] for number in range(len(drawn))]
    train = pool[part_of_sample == len(drawn)]
    return taken, [rng.permutation(train[dataset.strata[train] == label]) for label in range(dataset.num_strata)]


def _at_most(y: np.ndarray, indices: np.ndarray, size: int | None, seed: int, part: str) -> np.ndarray:
    """So many of a part's samples, drawn by class; the rest of the split has no say in which."""
    if size is None or size >= len(indices):
        return indices
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _EVAL_STREAM[part]])))
    orders = [rng.permutation(indices[y[indices] == label]) for label in np.unique(y[indices])]
    if size < len(orders):  # not even one of each class
        return _ascending([orders[n][:1] for n in rng.permutation(len(orders))[:size]])
    quota = _apportion(np.array([len(order) for order in orders]), size)
    return _ascending([order[:take] for order, take in zip(orders, quota, strict=True)])


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


def _check_own_parts(dataset: Dataset, groups: np.ndarray, parts: np.ndarray) -> None:
    part = np.where(parts == UNSTATED, TRAIN, parts)
    pairs = np.unique(np.stack([groups, np.unique(part, return_inverse=True)[1].reshape(-1)], axis=1), axis=0)
    members, times = np.unique(pairs[:, 0], return_counts=True)
    divided = members[times > 1]
    if len(divided):
        where = [f"{index} ({part[index]})" for index in np.flatnonzero(groups == divided[0])[:4]]
        raise BenchError(
            f"{show(dataset.name)}: the data set's own parts divide {len(divided)} groups of samples that show the "
            f"same thing, the first with samples {', '.join(where)}; so the test measures what was trained on: state "
            "other parts or none, or divide by sample (--by-sample) and say so"
        )


def _check_counts(dataset: Dataset, counts: np.ndarray, drawn: list[str], unit: str) -> None:
    needed = 1 + len(drawn)
    small = np.flatnonzero(counts < needed)
    if len(small) and dataset.kind.dense:
        raise BenchError(
            f"{show(dataset.name)}: at least {needed} {unit} are needed to be divided into "
            f"{', '.join([TRAIN, *reversed(drawn)])}, but there are {counts[0]}; add {unit}"
        )
    if len(small):
        named = ", ".join(f"'{show(dataset.class_names[i])}' has {counts[i]}" for i in small[:5])
        more = f", and {len(small) - 5} more such classes" if len(small) > 5 else ""
        raise BenchError(
            f"{show(dataset.name)}: a class needs at least {needed} {unit} to be divided into "
            f"{', '.join([TRAIN, *reversed(drawn)])}, but {named}{more}; add {unit}, or drop these classes"
        )


def _train_size(dataset: Dataset, value: Any, available: int) -> int:
    size = _whole("--train-size", value, 1)
    if not dataset.num_strata <= size <= available:
        least = "1" if dataset.kind.dense else f"{dataset.num_classes} (one sample of each class)"
        raise BenchError(f"--train-size must be between {least} and {available} (all training samples), got {size}")
    return size


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise BenchError(f"{name} must be a whole number of at least {low}, got {value!r}")
    return int(value)
