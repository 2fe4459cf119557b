"""Labels for each pixel or token: which arrays are such, and their checks.

    images (N, C, H, W) with y (N, H, W)   a class for each pixel; (N, 1, H, W) and (N, H, W, 1) are the same
    token ids (N, T) with y (N, T)         a class for each token; whole numbers of the shape of x are read as this,
                                           unless they are one-hot rows; layout = "NT" says outright that x holds ids

A label of -100 (torch's ignore_index) is not trained on and not measured. A sample without any other label is refused:
nothing of it is learned from or measured, and a part of such samples would have no accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adma.bench.data.checks import TEST, TRAIN, UNSTATED, VAL, listed
from adma.bench.data.dataset import IGNORED, class_counts
from adma.bench.errors import BenchError

TOKENS = "NT"


def holds_tokens(x: np.ndarray, y: np.ndarray, layout: str | None) -> bool:
    """Whether `x` are token ids: said outright, or whole numbers with as many labels, which are not one-hot."""
    if layout is not None or x.ndim != 2 or x.dtype.kind not in "iu" or y.shape != x.shape or y.dtype.kind not in "iuU":
        return layout == TOKENS
    return y.dtype.kind == "U" or not bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())


def without_channel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Masks (N, 1, H, W) or (N, H, W, 1) as (N, H, W); any other `y` as it is."""
    if x.ndim not in (3, 4) or y.ndim != 4 or 1 not in (y.shape[1], y.shape[3]):
        return y
    return y[:, 0] if y.shape[1] == 1 else y[..., 0]


def layout_of(x: np.ndarray, y: np.ndarray) -> str | None:
    """The layout of images whose labels for each pixel fit one layout alone."""
    if x.ndim != 4 or y.ndim != 3:
        return None
    fitting = [name for name, size in (("NCHW", x.shape[2:]), ("NHWC", x.shape[1:3])) if y.shape[1:] == size]
    return fitting[0] if len(fitting) == 1 else None


def token_ids(what: str, x: np.ndarray) -> np.ndarray:
    """Token ids (N, T) as int64.

    Raises:
        BenchError: another shape, numbers that are not whole, a negative one.
    """
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "iu":
        raise BenchError(
            f"{what}: with layout 'NT' x must hold token ids, whole numbers of shape (N, T), got {x.dtype} of shape "
            f"{x.shape}"
        )
    if x.min() < 0:
        where = tuple(int(i) for i in np.argwhere(x < 0)[0])
        raise BenchError(
            f"{what}: token ids must not be negative, got {x[where]} at index {where}; give padding an id of its own, "
            f"and {IGNORED} as its label"
        )
    return x.astype(np.int64)


def target_of(what: str, x: np.ndarray, y: np.ndarray, tokens: bool) -> np.ndarray | None:
    """`y` with the axes of dense targets, or None if it has one label a sample.

    Args:
        x: as the data set will have it: (N, C, H, W), (N, D) or token ids.
        tokens: whether they are token ids.

    Raises:
        BenchError: labels for positions that the samples do not have.
    """
    if tokens:
        if y.shape == x.shape:
            return y
        if y.ndim == 1 or y.shape[1:] == (1,):
            return None
        raise BenchError(
            f"{what}: y must have a label for each token, shape {x.shape}, or for each text, got {y.shape}"
        )
    if y.ndim < 3:
        return None
    size = x.shape[2:]
    if x.ndim == 4 and y.shape == (len(x), *size):
        return y
    wanted = f"for each pixel, shape {(len(x), *size)}" if x.ndim == 4 else f"for each of the {len(x)} samples"
    raise BenchError(f"{what}: y must have one label {wanted}, got shape {y.shape}; x was read as {x.shape}")


def check_labels(what: str, y: np.ndarray, class_names: Sequence[str] | None) -> np.ndarray:
    """Which labels count, a mask of the shape of `y`.

    Raises:
        BenchError: a label that is no class and not -100, or a sample without any that counts.
    """
    if y.dtype.kind not in "iu":
        return np.ones(y.shape, dtype=bool)  # text and booleans have no label for what is not counted
    counts: np.ndarray = y != IGNORED
    empty = np.flatnonzero(~counts.reshape(len(y), -1).any(1))
    if len(empty):
        raise BenchError(
            f"{what}: {len(empty)} samples have no label that counts (all are {IGNORED}), first at index {empty[0]}; "
            "leave them out"
        )
    for wrong, why in (
        (counts & (y < 0), f"labels are class indices, or {IGNORED} for what is not to be counted"),
        (
            counts & (y >= len(class_names) if class_names is not None else False),
            f"class_names has {len(class_names or ())} names, for labels 0 to {len(class_names or ()) - 1}",
        ),
    ):
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            hint = f"; if 255 means 'not to be counted', write {IGNORED} for it" if y[where] == 255 else ""
            raise BenchError(
                f"{what}: y holds {int(wrong.sum())} labels such as {y[where]}, first at index {where}, but {why}{hint}"
            )
    return counts


def check_dense(what: str, y: np.ndarray, class_names: Sequence[str], parts: np.ndarray | None) -> list[str]:
    """Check that there is something to learn; return notes. A class may be missing anywhere: splits do not see classes.

    Raises:
        BenchError: fewer than two classes, or parts without "train".
    """
    if len(class_names) < 2:
        raise BenchError(
            f"{what}: at least 2 classes are needed, got {len(class_names)} ({listed(class_names) or 'none'})"
        )
    ignored = float((y == IGNORED).mean())
    notes = [f"{ignored:.2%} of the labels are {IGNORED} and are not counted"] if ignored else []

    def absent(labels: np.ndarray) -> str:
        missing = np.flatnonzero(class_counts(labels, len(class_names)) == 0)
        return listed(class_names[int(i)] for i in missing)

    if absent(y):
        notes.append(f"no label of class {absent(y)}")
    if parts is None:
        return notes
    if not ((parts == TRAIN) | (parts == UNSTATED)).any():
        stated = ", ".join(sorted({str(p) for p in np.unique(parts)}))
        raise BenchError(f"{what}: no sample is stated as 'train' (only {stated}); add a train part")
    for part, words in ((TRAIN, (TRAIN, UNSTATED)), (VAL, (VAL,)), (TEST, (TEST,))):
        inside = np.isin(parts, words)
        if inside.any() and absent(y[inside]) not in ("", absent(y)):
            notes.append(f"the {part} part has no label of class {absent(y[inside])}")
    return notes
