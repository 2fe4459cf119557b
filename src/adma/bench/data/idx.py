"""MNIST and Fashion-MNIST from the original IDX files, each checked against its published MD5 sum.

The layout is torchvision's: DATA_DIR/MNIST/raw/train-images-idx3-ubyte.gz and so on; files without .gz are
taken too.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np

from adma.bench.data.checks import show
from adma.bench.errors import BenchError

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
FILES = {
    ("train", "x"): "train-images-idx3-ubyte",
    ("train", "y"): "train-labels-idx1-ubyte",
    ("test", "x"): "t10k-images-idx3-ubyte",
    ("test", "y"): "t10k-labels-idx1-ubyte",
}
# Of each file, packed (as published, and as torchvision checks) and unpacked.
MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
Arrays = dict[tuple[str, str], np.ndarray]


def find_raw(data_dir: Path, name: str) -> Path | None:
    """The folder with the data set's IDX files below `data_dir`, or None if not one of them is there."""
    raw = data_dir / FOLDERS[name] / "raw"
    return raw if any(_file(raw, stem) is not None for stem in FILES.values()) else None


def read_raw(raw: Path, name: str) -> Arrays:
    """(part, "x" or "y") -> uint8 array: images (N, 28, 28), labels (N,).

    Raises:
        BenchError: a file is missing, or its MD5 sum is not the published one.
    """
    arrays = {}
    for key, stem in FILES.items():
        path = _file(raw, stem)
        if path is None:
            raise BenchError(
                f"--data-dir: {show(str(raw))} lacks {stem}.gz; fetch it, or remove the folder to download"
            )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BenchError(f"--data-dir: cannot read {show(str(path))}: {error.strerror}") from error
        expected, got = MD5[FOLDERS[name]][path.name], hashlib.md5(content, usedforsecurity=False).hexdigest()
        if got != expected:
            raise BenchError(
                f"--data-dir: {show(str(path))} is damaged or another file: its MD5 sum is {got}, expected "
                f"{expected}; fetch it again"
            )
        arrays[key] = parse_idx(gzip.decompress(content) if path.suffix == ".gz" else content)
    return arrays


def _file(raw: Path, stem: str) -> Path | None:
    return next((p for p in (raw / f"{stem}.gz", raw / stem) if p.is_file()), None)


def parse_idx(content: bytes) -> np.ndarray:
    """The array in an IDX file of unsigned bytes: 0, 0, 8, number of axes, their lengths (>u4), the values.

    Raises:
        BenchError: other types, or lengths that do not fit the content.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise BenchError(f"not an IDX file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    header = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:header], dtype=">u4"))
    size = int(np.prod(shape, dtype=object))
    if len(content) != header + size or len(shape) != content[3]:
        raise BenchError(f"an IDX file of shape {shape} must be {header + size} bytes long, got {len(content)}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
