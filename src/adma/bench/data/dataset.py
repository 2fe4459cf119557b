"""A data set in memory, and a division of it: the only two things that the rest of the bench sees of data."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

IGNORED = -100  # torch's ignore_index: a position with this label is neither trained on nor measured
ACCURACY, MEAN_IOU = "accuracy", "mean_iou"


@dataclass(frozen=True)
class Kind:
    """What a network takes and gives, beside the shape of a sample and the number of classes.

    target_shape: () for one label a sample; (H, W) for one a pixel, (T,) for one a token: such targets are *dense*.
    vocabulary: of token ids, one more than the largest; 0 where the inputs are numbers.
    """

    target_shape: tuple[int, ...] = ()
    vocabulary: int = 0

    @property
    def dense(self) -> bool:
        return bool(self.target_shape)

    @property
    def segments(self) -> bool:
        """Whether images are divided: a label for each pixel."""
        return len(self.target_shape) == 2

    @property
    def measure(self) -> str:
        """What losses are compared by unless the user says otherwise: "mean_iou" of images, else "accuracy"."""
        return MEAN_IOU if self.segments else ACCURACY

    @property
    def positions(self) -> int:
        """Labels a sample."""
        return math.prod(self.target_shape)


PLAIN = Kind()


@dataclass(frozen=True)
class Dataset:
    """Samples, labels and what is known about them.

    x: images (N, C, H, W) as uint8, any features (N, ...) as float32, or token ids (N, T) as int64.
    y: class indices (N,), int64, in [0, num_classes); or dense ones, (N, H, W) of images and (N, T) of tokens, where
        IGNORED stands for "not to be counted". Each sample has a label that counts.
    class_names: one a class, in the order of the indices (text from the user's disk: escape it in HTML).
    parts: the data set's own division, for each sample "train", "val", "test" or "" (not stated), or None
        if it states nothing.
    notes: what a reader of the report should know (what was skipped, where it came from).
    groups: (N,) int64 or None; samples with the same number show the same thing, such as one lesion, and should
        not be parted between training and test.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    parts: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    @cached_property
    def kind(self) -> Kind:
        return Kind(tuple(self.y.shape[1:]), int(self.x.max()) + 1 if self.x.dtype == np.int64 and self.x.size else 0)

    @cached_property
    def strata(self) -> np.ndarray:
        """What a split keeps the proportions of, (N,) int64: the class; one stratum for all where targets are dense."""
        return np.zeros(len(self.y), dtype=np.int64) if self.kind.dense else self.y

    @property
    def num_strata(self) -> int:
        return 1 if self.kind.dense else self.num_classes

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the content, order included."""
        h = hashlib.sha256()
        arrays = [self.x, self.y] + ([] if self.parts is None else [self.parts.astype("U5")])
        for array in arrays:
            h.update(f"{array.dtype.str}{array.shape}".encode())
            h.update(np.ascontiguousarray(array).tobytes())
        h.update("\0".join(self.class_names).encode())
        if self.groups is not None:  # only then, so that data sets without groups keep their fingerprints
            h.update(b"\0groups" + np.ascontiguousarray(self.groups, dtype="<i8").tobytes())
        return h.hexdigest()[:16]


def class_counts(y: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels of each class that count, (C,) int64, whatever the shape of `y`."""
    return np.bincount(y[y != IGNORED] if y.ndim > 1 else y, minlength=num_classes)


@dataclass(frozen=True)
class Split:
    """Indices into a data set; no index stands in two parts."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def fingerprint(self) -> str:
        h = hashlib.sha256()
        for part in (self.train, self.val, self.test):
            h.update(np.ascontiguousarray(part, dtype="<i8").tobytes() + b"|")
        return h.hexdigest()[:16]
