"""MNIST and Fashion-MNIST by the `datasets` library, which downloads once and keeps them in its cache."""

from __future__ import annotations

import numpy as np

from adma.bench.data.checks import show
from adma.bench.data.idx import FOLDERS, Arrays
from adma.bench.errors import BenchError

REPOSITORIES = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist"}
_SIZES = {"train": 60_000, "test": 10_000}


def download(name: str) -> Arrays:
    """(part, "x" or "y") -> uint8 array: images (N, 28, 28), labels (N,), as `idx.read_raw` gives them.

    Raises:
        BenchError: the library is not installed, the download fails, or something else came.
    """
    by_hand = (
        f"put the original IDX files into DIR/{FOLDERS[name]}/raw and name DIR by --data-dir or the "
        "environment "
        "variable ADMA_DATA"
    )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise BenchError(
            f"DATA {name}: not found on this machine, and downloading needs the package 'datasets'; "
            f"pip install 'adma[download]', or {by_hand}"
        ) from error
    try:
        parts = load_dataset(REPOSITORIES[name])
        arrays = {}
        for part in _SIZES:
            arrays[part, "x"] = np.stack([np.asarray(image, dtype=np.uint8) for image in parts[part]["image"]])
            arrays[part, "y"] = np.asarray(parts[part]["label"], dtype=np.uint8)
    except Exception as error:  # network, disk, cache, the service: each has its own exceptions
        raise BenchError(
            f"DATA {name}: downloading {REPOSITORIES[name]} failed ({type(error).__name__}: "
            f"{show(str(error))}); "
            f"try again with a network connection, or {by_hand}"
        ) from error
    for part, size in _SIZES.items():
        shapes = arrays[part, "x"].shape, arrays[part, "y"].shape
        if shapes != ((size, 28, 28), (size,)):
            raise BenchError(
                f"DATA {name}: {REPOSITORIES[name]} gave shapes {shapes} for the {part} part, expected "
                f"{size} images of 28 x 28; clear its cache and try again, or {by_hand}"
            )
    return arrays
