"""From a cell to its data: the arrays that its fingerprint speaks of, how they are divided, the labels it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from adma.bench.data import Dataset, Split
from adma.bench.data.conditions import parse_imbalance, parse_label_noise
from adma.bench.data.splits import draw_held_out, make_split
from adma.bench.errors import BenchError
from adma.bench.study import Cell


@dataclass(frozen=True)
class Loader:
    """Gives a cell its data set.

    sources: fingerprint -> a function that loads the data set (picklable: a `functools.partial` of `catalog.load`).
    """

    sources: Mapping[str, Callable[[], Dataset]]

    def __call__(self, cell: Cell) -> Dataset:
        """Load, and check that it is what the study was made for.

        Raises:
            BenchError: the data changed since the study began.
        """
        dataset = self.sources[cell.setting.data_hash]()
        if dataset.fingerprint != cell.setting.data_hash:
            raise BenchError(
                f"{dataset.name}: the data changed since this study began (their fingerprint is "
                f"{dataset.fingerprint}, it was {cell.setting.data_hash}); restore them, or start the command again"
            )
        return dataset


def split_of(cell: Cell, dataset: Dataset) -> Split:
    """How a cell divides its data: by its seed and the setting, the same for every loss.

    The training part is what is left of it after `train_size`, `train_fraction` and the imbalance.

    Raises:
        BenchError: see `make_split`, `Imbalance.counts`.
    """
    setting = cell.setting
    split = make_split(
        dataset,
        seed=cell.stream_seed("split"),
        train_size=setting.train_size,
        val_fraction=setting.val_fraction,
        test_fraction=setting.test_fraction,
        grouped=setting.grouped,
        eval_size=setting.eval_size,
        train_fraction=setting.train_fraction,
    )
    imbalance = parse_imbalance(setting.imbalance)
    if imbalance is None:
        return split
    kept = imbalance.keep(dataset.y[split.train], dataset.class_names, cell.stream_seed("imbalance"))
    return replace(split, train=split.train[kept])


def labels_of(cell: Cell, dataset: Dataset, split: Split) -> dict[str, np.ndarray]:
    """The labels of a cell's "train", "val" and "test" part, int64, in the order of the split's indices.

    False ones where the setting has label noise: of the training part, and of the validation part if it says so. They
    are the same for every loss; the test part's are always true.
    """
    labels = {part: dataset.y[getattr(split, part)] for part in ("train", "val", "test")}
    noise = parse_label_noise(cell.setting.label_noise)
    if noise is not None:
        for part in ("train", "val") if cell.setting.noisy_val else ("train",):
            labels[part] = noise.relabel(labels[part], dataset.num_classes, cell.stream_seed("label_noise", part))
    return labels


def held_out_of(cell: Cell, dataset: Dataset, split: Split) -> np.ndarray:
    """The samples that a loss which is learned sets aside to learn from: ascending places in `split.train`.

    They have every class, by the labels that are trained on; samples of one group stay on one side if the setting
    keeps groups whole. The same for every loss.

    Raises:
        BenchError: a class has too few samples to be on both sides.
    """
    groups = dataset.groups if cell.setting.grouped else None
    try:
        return draw_held_out(
            labels_of(cell, dataset, split)["train"],
            dataset.class_names,
            share=cell.setting.held_out,
            seed=cell.stream_seed("held_out"),
            groups=None if groups is None else groups[split.train],
        )
    except BenchError as error:
        raise BenchError(f"a loss that is learned holds out a part of the training samples: {error}") from error
