"""Data sets as arrays: `catalog` finds and reads them, `splits` divides them, `augment` varies batches."""

from adma.bench.data.dataset import Dataset, Split

__all__ = ["Dataset", "Split"]
