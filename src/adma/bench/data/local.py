"""A known data set that lies in the user's data folder, as NAME.tar, NAME.zip and so on, or as a folder NAME."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adma.bench.data.checks import listed, show
from adma.bench.data.folder import Listing, list_folder, read_pictures
from adma.bench.data.known import Known
from adma.bench.data.layout import Sample
from adma.bench.data.published import Keys, Reading, check_classes_of, compare_counts, in_order_of, with_groups
from adma.bench.data.sources import TAR_ENDINGS, ZIP_ENDINGS
from adma.bench.errors import BenchError

SUM_ENDING = ".sha256"


def find(data_dir: Path, name: str) -> list[Path]:
    """What there is of the data set, the archives first: they may have a sum beside them."""
    archives = [data_dir / f"{name}{ending}" for ending in (*TAR_ENDINGS, *ZIP_ENDINGS)]
    return [path for path in archives if path.is_file()] + [p for p in [data_dir / name] if p.is_dir()]


def read(known: Known, path: Path, *, image_size: tuple[int, int] | None = None, skip_bad: bool = False) -> Reading:
    """Read it, and check what can be checked.

    Args:
        known: what it should be.
        path: the archive or folder.
        image_size: (height, width); None for the paper's.
        skip_bad: see `read_folder`.

    Raises:
        BenchError: a sum that differs, classes that are not the known ones, files that a manifest.csv names and that
            are not there or the other way round, more samples than were published, or what `read_folder` raises.
    """
    what = f"DATA {known.name}: {show(str(path))}"
    checks = []
    if path.is_file() and (sums := path.with_name(path.name + SUM_ENDING)).is_file():
        checks.append(check_sum(what, path, sums))
    listing = list_folder(path, what=what, manifest=True)
    if listing.manifest is not None:
        files = [s.entry for s in listing.layout.samples] + list(listing.layout.misplaced)
        listing.manifest.check_files(what, files)
        checks.append(f"the {len(files):,} files are those of {listing.manifest.path}")
    check_classes_of(what, known, listing.class_names)
    checks.append(f"the {len(known.classes)} classes have the published names")

    reason = "as the paper did" if image_size is None else "as asked"
    hashed = known.grouping is not None and known.grouping.same_bytes
    pictures = read_pictures(
        listing, image_size=image_size or known.image_size, reason=reason, skip_bad=skip_bad, hashed=hashed
    )
    dataset = in_order_of(known, pictures.dataset)
    notes = [*dataset.notes, f"read from {show(path.name)}"]
    if known.channels == 3 and dataset.x.shape[1] == 1:
        notes.append("the grey pictures were given three equal channels")
        dataset = replace(dataset, x=np.repeat(dataset.x, 3, axis=1))
    counts_notes, counts = compare_counts(what, known, dataset)
    checks.append(counts)
    dataset = replace(dataset, notes=(*notes, *counts_notes))
    dataset, groups = with_groups(known, dataset, _group_values(known, listing, pictures.samples), pictures.digests)
    return Reading(dataset, str(path), (*checks, *([groups] if groups else [])))


def _group_values(known: Known, listing: Listing, samples: Sequence[Sample]) -> Keys | None:
    entries = [s.entry for s in samples]
    if known.grouping is None:
        return None
    values = None if listing.manifest is None else listing.manifest.column(known.grouping.column, entries)
    if values is None and known.grouping.file_names:
        return [entry.parts[-1] for entry in entries]
    return values


def check_sum(what: str, path: Path, sums: Path) -> str:
    """Hold a file against the SHA-256 sum in a file that `sha256sum` wrote; what was checked, in words.

    Raises:
        BenchError: the sum differs, or there is none of this file.
    """
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{what}: cannot check it against {show(sums.name)}: {error}") from error
    found = [m for line in lines if (m := re.fullmatch(r"([0-9a-fA-F]{64})(?:[ ]+\*?(.*))?", line.strip()))]
    expected = {m[1].lower() for m in found if not m[2] or Path(m[2]).name == path.name}
    if len(expected) != 1:
        raise BenchError(
            f"{what}: {show(sums.name)} does not state one SHA-256 sum of {show(path.name)} (it has "
            f"{listed(sorted(expected)) or 'none'}); write it with sha256sum, or remove it"
        )
    if digest.hexdigest() not in expected:
        raise BenchError(
            f"{what}: damaged or another file: its SHA-256 sum is {digest.hexdigest()}, but {show(sums.name)} says "
            f"{expected.pop()}; fetch it again"
        )
    return f"the SHA-256 sum is that of {show(sums.name)}"
