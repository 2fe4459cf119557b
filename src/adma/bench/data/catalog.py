"""Finds the data set that a user's word stands for: a known name, a path, or a function."""

from __future__ import annotations

import importlib.util
import numbers
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adma._check import nearest
from adma.bench.data import hub, idx, local
from adma.bench.data.checks import TEST, TRAIN, check_memory, show
from adma.bench.data.dataset import Dataset
from adma.bench.data.folder import read_folder
from adma.bench.data.images import resize_arrays
from adma.bench.data.imported import call_function
from adma.bench.data.known import KNOWN, Known
from adma.bench.data.masks import holds_masks, read_masked
from adma.bench.data.npz import read_npz
from adma.bench.data.published import Reading, compare_counts
from adma.bench.data.sources import TAR_ENDINGS, ZIP_ENDINGS, open_source
from adma.bench.errors import BenchError
from adma.bench.importing import import_modules, is_function_name

__all__ = ["ACCEPTED", "BUNDLED", "KNOWN", "data_folder", "load", "locate", "read_known"]
BUNDLED = "digits"
ACCEPTED = (
    "a known name, a folder, .tar, .tar.gz, .tgz or .zip of images (CLASS/IMAGE or "
    "train|val|test/CLASS/IMAGE, or images/ beside masks/), "
    "an .npz file with x and y, or package.module:function"
)


def load(
    data: str,
    *,
    data_dir: Path | None = None,
    image_size: tuple[int, int] | None = None,
    skip_bad: bool = False,
    modules: Sequence[str] = (),
) -> Dataset:
    """The data set called `data`.

    Args:
        data: a name in KNOWN (which wins over a path of that name; write ./NAME for the path), a path, or
            `package.module:function` (a path that exists wins over it).
        data_dir: where known data sets may lie, as MNIST/raw and FashionMNIST/raw or as NAME.tar, NAME.zip or a folder
            NAME; the environment variable ADMA_DATA if None. What is not there is downloaded.
        image_size: (height, width) in pixels that images are resized to. None takes the paper's size for known data
            sets, and keeps others as they are, but see `folder`.
        skip_bad: leave out (and name in the notes) files of a folder that are no readable images.
        modules: the user's own, imported first: they may register losses, or hold what `data` names.

    Raises:
        BenchError: whatever keeps the data set from being read, with what to do.
    """
    import_modules(modules)
    image_size = _checked_size(image_size)
    if not data.strip():
        raise BenchError(f"DATA is empty; give {ACCEPTED}")
    path = _expanded(data)
    if data in KNOWN:
        return read_known(data, data_dir=data_dir, image_size=image_size, skip_bad=skip_bad).dataset
    if _exists(path):
        if path.is_dir() or path.name.lower().endswith((*TAR_ENDINGS, *ZIP_ENDINGS)):
            source = open_source(path)
            opened = source, source.entries()
            read = read_masked if holds_masks(opened[1]) else read_folder
            return read(path, image_size=image_size, skip_bad=skip_bad, opened=opened)
        if path.suffix.lower() != ".npz":
            hint = "; save x and y together with numpy.savez" if path.suffix.lower() in (".npy", ".pt", ".csv") else ""
            raise BenchError(f"DATA {show(data)}: a file of this kind cannot be read; give {ACCEPTED}{hint}")
        dataset = read_npz(path)
    elif is_function_name(data):
        dataset = call_function(data)
    else:
        raise BenchError(
            f"DATA '{show(data)}' is neither known nor an existing path{nearest(data, KNOWN)}; known: "
            f"{', '.join(KNOWN)}; give {ACCEPTED}"
        )
    return _resized(dataset, image_size)


def read_known(
    name: str, *, data_dir: Path | None = None, image_size: tuple[int, int] | None = None, skip_bad: bool = False
) -> Reading:
    """A known data set, with where it was found and what was checked; arguments and errors as for `load`."""
    known, image_size = KNOWN[name], _checked_size(image_size)
    if name == BUNDLED:
        return _resized_reading(_digits(known), image_size)
    found = locate(name, data_dir=data_dir)
    if not found:
        return hub.download(known, image_size=image_size)
    if name in idx.FOLDERS:
        return _resized_reading(_mnist(known, found[0]), image_size)
    reading = local.read(known, found[0], image_size=image_size, skip_bad=skip_bad)
    if len(found) > 1:
        note = f"not read, as {show(found[0].name)} was: {', '.join(show(path.name) for path in found[1:])}"
        return replace(reading, dataset=replace(reading.dataset, notes=(*reading.dataset.notes, note)))
    return reading


def locate(name: str, *, data_dir: Path | None = None) -> list[Path]:
    """Where a known data set lies on this machine, what will be read first; empty if it is bundled or not there.

    Raises:
        BenchError: `data_dir` is no folder.
    """
    folder = data_folder(data_dir)
    if folder is None or name == BUNDLED:
        return []
    if name in idx.FOLDERS:
        raw = idx.find_raw(folder, name)
        return [] if raw is None else [raw]
    return local.find(folder, name)


def _expanded(data: str | Path) -> Path:
    try:
        return Path(data).expanduser()
    except RuntimeError:  # "~name" of no user
        return Path(data)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a null character
        return False


def _checked_size(image_size: tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    wrong = BenchError(f"--image-size must be a height and a width of at least 1 pixel, got {image_size!r}")
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        raise wrong
    if not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) and n >= 1 for n in image_size):
        raise wrong
    return int(image_size[0]), int(image_size[1])


def data_folder(data_dir: Path | None) -> Path | None:
    """The folder of known data sets: the one named, else that of the environment variable ADMA_DATA, else None.

    Raises:
        BenchError: it is no folder; a typing error should not end in a download.
    """
    argument, value = "--data-dir", data_dir
    if value is None and os.environ.get("ADMA_DATA", "").strip():
        argument, value = "the environment variable ADMA_DATA", Path(os.environ["ADMA_DATA"])
    if value is None:
        return None
    value = _expanded(value)
    if not value.is_dir():
        raise BenchError(f"{argument} names {show(str(value))}, which is no folder")
    return value


def _resized(dataset: Dataset, image_size: tuple[int, int] | None) -> Dataset:
    if image_size is None or dataset.x.shape[2:] == image_size:
        return dataset
    if dataset.x.ndim != 4:
        raise BenchError(f"--image-size {image_size}: {show(dataset.name)} holds vectors, not images")
    if dataset.kind.dense:
        raise BenchError(
            f"--image-size {image_size}: {show(dataset.name)} has a label for each pixel, which would have to be "
            "resized too; give x and y at the size that is wanted"
        )
    samples, channels = dataset.x.shape[:2]
    size = samples * channels * image_size[0] * image_size[1] * dataset.x.itemsize
    check_memory(f"DATA {show(dataset.name)}", size, "choose a smaller --image-size")
    note = f"images were resized from {dataset.x.shape[2:]} to {image_size} as asked"
    return replace(dataset, x=resize_arrays(dataset.x, image_size), notes=(*dataset.notes, note))


def _resized_reading(reading: Reading, image_size: tuple[int, int] | None) -> Reading:
    return replace(reading, dataset=_resized(reading.dataset, image_size))


def _digits(known: Known) -> Reading:
    table = _digits_table()
    x = np.rint(table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    dataset = Dataset(known.name, x, table[:, -1].astype(np.int64), known.classes, None, ())
    notes, counts = compare_counts(f"DATA {known.name}", known, dataset)
    return Reading(replace(dataset, notes=notes), "scikit-learn", (counts,))


def _digits_table() -> np.ndarray[Any, Any]:
    """Scikit-learn's digits, 64 pixels and the class in a row, from its file: importing it takes two seconds."""
    found = importlib.util.find_spec("sklearn")
    for place in found.submodule_search_locations or () if found is not None else ():
        file = Path(place, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # where a release keeps it elsewhere

    x, y = load_digits(return_X_y=True)
    return np.column_stack([x, y])


def _mnist(known: Known, raw: Path) -> Reading:
    arrays = idx.read_raw(raw, known.name)
    x = np.concatenate([arrays["train", "x"], arrays["test", "x"]])[:, None]
    y = np.concatenate([arrays["train", "y"], arrays["test", "y"]]).astype(np.int64)
    parts = np.repeat(np.array([TRAIN, TEST], dtype="U5"), [len(arrays[p, "y"]) for p in ("train", "test")])
    dataset = Dataset(known.name, x, y, known.classes, parts, ("read from the original files",))
    notes, counts = compare_counts(f"DATA {known.name}: {show(str(raw))}", known, dataset)
    checks = (f"the MD5 sums of the {len(idx.FILES)} files are the published ones", counts)
    return Reading(replace(dataset, notes=(*dataset.notes, *notes)), str(raw), checks)
