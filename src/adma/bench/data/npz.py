"""A data set in a NumPy .npz file; `arrays` says what must be in it. Pickled objects are never loaded."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from adma.bench.data.arrays import KEYS, from_mapping
from adma.bench.data.checks import check_memory, show
from adma.bench.data.dataset import Dataset
from adma.bench.errors import BenchError


def read_npz(path: Path) -> Dataset:
    """Read x, y and, if there, class_names, parts (or split), layout and groups.

    Raises:
        BenchError: not an .npz file, damaged, an array of Python objects, or contents that `arrays` refuses.
    """
    what = f"DATA {show(str(path))}"
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(i.file_size for i in archive.infolist() if i.filename.removesuffix(".npy") in KEYS)
            check_memory(what, total, "give fewer samples or a smaller dtype")
        with np.load(path, allow_pickle=False) as file:
            # A key that is not read may hold anything.
            data = {key: _array(what, file, key) if key in KEYS else None for key in file.files}
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise BenchError(f"{what}: cannot be read as an .npz file ({error}); write it with numpy.savez") from error
    return from_mapping(what, path.stem, data)


def _array(what: str, file: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        array = file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error) and "Object arrays" not in str(error):
            raise
        raise BenchError(
            f"{what}: {key} is an array of Python objects, which is never loaded; save numbers or strings "
            f"(such as numpy.array({key}, dtype=str))"
        ) from error
    if not isinstance(array, np.ndarray):
        raise BenchError(f"{what}: {key} is no NumPy array")
    return array
