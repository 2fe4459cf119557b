"""What `adma data` does: list the known data sets, get, check and show one."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adma._check import nearest
from adma.bench.console import console_for
from adma.bench.data import Dataset, augment
from adma.bench.data.catalog import BUNDLED, KNOWN, data_folder, load, locate, read_known
from adma.bench.data.checks import show
from adma.bench.data.known import Known
from adma.bench.data.sheet import contact_sheet
from adma.bench.errors import BenchError


def data_list(options: argparse.Namespace) -> int:
    """Print the known data sets, and where each is found.

    Args:
        options: data_dir (Path or None).

    Returns:
        0.

    Raises:
        BenchError: `data_dir` is no folder.
    """
    folder = data_folder(options.data_dir)
    table = Table()
    for heading in ("name", "what", "classes", "samples", "size", "found"):
        table.add_column(heading, justify="right" if heading in ("classes", "samples", "size") else "left")
    for known in KNOWN.values():
        size = f"{known.image_size[0]} x {known.image_size[1]}{' RGB' if known.channels == 3 else ''}"
        table.add_row(
            known.name, known.description, str(len(known.classes)), f"{known.size:,}", size,
            Text(_where(known, folder), overflow="fold"),
        )  # fmt: skip
    console = console_for()
    console.print(table)
    where = (
        "name a folder with data sets by --data-dir or ADMA_DATA" if folder is None else f"found in {show(str(folder))}"
    )
    console.print(Text(f"{where}; size: height x width in pixels, as the paper used it"), soft_wrap=True)
    return 0


def data_get(options: argparse.Namespace) -> int:
    """Load a known data set, downloading it if it is not there, and print what it holds.

    Args:
        options: name, data_dir, image_size, skip_bad.

    Returns:
        0.

    Raises:
        BenchError: whatever keeps it from being read.
    """
    console = console_for()
    reading = read_known(
        _known(options.name).name, data_dir=options.data_dir, image_size=options.image_size, skip_bad=options.skip_bad
    )
    _describe(console, reading.dataset)
    console.print(Text(f"from {show(reading.source)}"), soft_wrap=True)
    return 0


def data_check(options: argparse.Namespace) -> int:
    """Hold a known data set against what was published, and print each check; a subset passes, and is stated.

    Args:
        options: name, data_dir, image_size, skip_bad.

    Returns:
        0 if nothing differs, else 1.

    Raises:
        BenchError: `name` is not known.
    """
    console = console_for()
    known = _known(options.name)
    try:
        reading = read_known(
            known.name, data_dir=options.data_dir, image_size=options.image_size, skip_bad=options.skip_bad
        )
    except BenchError as error:
        console.print(Text(f"FAILED: {error}"), soft_wrap=True)
        return 1
    _describe(console, reading.dataset)
    console.print(Text(f"from {show(reading.source)}; checked:"), soft_wrap=True)
    for check in reading.checks:
        console.print(Text(f"  {check}" if check.startswith("WARNING") else f"  ok: {check}"), soft_wrap=True)
    return 0


def data_show(options: argparse.Namespace) -> int:
    """Write a contact sheet of a data set, original and augmented.

    Args:
        options: name (or a path or function, as `adma compare` takes it), data_dir, image_size, skip_bad, modules,
            out (Path), augment (None for the paper's), seed, classes, pictures, epochs.

    Returns:
        0.

    Raises:
        BenchError: the data cannot be read or are no images, the augmentation is not known, or the sheet cannot be
            written.
    """
    known = KNOWN.get(options.name)
    spec = options.augment if options.augment is not None else (known.augment if known else augment.NONE)
    augment.parse(spec)  # before the data are read
    dataset = load(
        options.name, data_dir=options.data_dir, image_size=options.image_size, skip_bad=options.skip_bad,
        modules=tuple(options.modules),
    )  # fmt: skip
    sheet = contact_sheet(
        dataset, spec, seed=options.seed, classes=options.classes, pictures=options.pictures, epochs=options.epochs
    )
    try:
        sheet.save(options.out)
    except (OSError, ValueError) as error:  # no such folder; an ending that names no format
        raise BenchError(f"--out {show(str(options.out))}: cannot be written ({error}); name a .png file") from error
    console_for().print(Text(str(options.out)), soft_wrap=True)
    return 0


def _known(name: str) -> Known:
    if name not in KNOWN:
        raise BenchError(
            f"{show(name)!r} is no known data set{nearest(name, KNOWN)}; known: {', '.join(KNOWN)} (adma data list)"
        )
    return KNOWN[name]


def _where(known: Known, folder: Path | None) -> str:
    if known.name == BUNDLED:
        return "bundled"
    found = [] if folder is None else locate(known.name, data_dir=folder)
    if folder is not None and found:
        return show(str(found[0].relative_to(folder)))
    can_download = importlib.util.find_spec("datasets") is not None
    return "download" if can_download else "not here"


def _describe(console: Console, dataset: Dataset) -> None:
    """A table of samples by class and part, and the notes."""
    parts = np.full(len(dataset), "") if dataset.parts is None else dataset.parts
    columns = [part for part in ("train", "val", "test", "") if (parts == part).any()]
    table = Table("class")
    for part in columns:
        table.add_column(part or ("samples" if len(columns) == 1 else "not stated"), justify="right")
    counts = {part: np.bincount(dataset.y[parts == part], minlength=dataset.num_classes) for part in columns}
    for label, name in enumerate(dataset.class_names):
        table.add_row(Text(show(name)), *(f"{counts[part][label]:,}" for part in columns))
    table.add_section()
    table.add_row("all", *(f"{counts[part].sum():,}" for part in columns))
    console.print(table)
    console.print(Text(f"{show(dataset.name)}: {len(dataset):,} samples of shape {dataset.sample_shape}"))
    for note in dataset.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
