"""A data set in memory, and a division of it: the only two things that the rest of the bench sees of data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Samples, labels and what is known about them.

    x: images (N, C, H, W) as uint8, or any features (N, ...) as float32.
    y: class indices (N,), int64, in [0, num_classes).
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
