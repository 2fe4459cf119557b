"""From a cell to its data: the arrays that its fingerprint speaks of, and how they are divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adma.bench.data import Dataset, Split
from adma.bench.data.splits import make_split
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
    """How a cell divides its data: by its seed and the setting, the same for every loss."""
    setting = cell.setting
    return make_split(
        dataset,
        seed=cell.stream_seed("split"),
        train_size=setting.train_size,
        val_fraction=setting.val_fraction,
        test_fraction=setting.test_fraction,
        grouped=setting.grouped,
        eval_size=setting.eval_size,
    )
