"""A folder or archive of pictures, read into one array of 8-bit images of one size.

The size is `image_size` if given. Otherwise pictures that are all of one size keep it, scaled down if the
longer side is over MAX_SIDE (the paper trains on 150 x 150); pictures of several sizes get the median height
and width, scaled down if the longer side is over MAX_MIXED_SIDE. Whatever was done stands in the notes. A
picture whose aspect ratio is another than the common one is stretched.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from adma.bench.data.checks import check_classes, check_memory, listed, show
from adma.bench.data.dataset import Dataset
from adma.bench.data.images import Header, NotAnImage, decode, read_header
from adma.bench.data.layout import Layout, Sample, read_layout
from adma.bench.data.manifest import Manifest, find_manifest, read_manifest
from adma.bench.data.sources import Entry, Source, open_source
from adma.bench.errors import BenchError

MAX_SIDE = 160
MAX_MIXED_SIDE = 64
NAMES_IN_NOTES = 50


@dataclass(frozen=True)
class Listing:
    """What lies in a folder or archive, before a picture is read.

    what: how messages call it.
    manifest: its manifest.csv, if it was asked for and is there.
    """

    what: str
    path: Path
    source: Source
    layout: Layout
    manifest: Manifest | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Sorted by name."""
        return tuple(sorted({s.class_name for s in self.layout.samples}))


@dataclass(frozen=True)
class Pictures:
    """A data set, and for each of its samples where it lay and the SHA-256 sum of its file (if it was asked for)."""

    dataset: Dataset
    samples: tuple[Sample, ...]
    digests: tuple[bytes, ...]


def read_folder(
    path: Path,
    *,
    image_size: tuple[int, int] | None = None,
    skip_bad: bool = False,
    opened: tuple[Source, list[Entry]] | None = None,
) -> Dataset:
    """Read a folder, .tar(.gz/.bz2/.xz), .tgz or .zip of pictures; `layout` says how it must be laid out.

    Args:
        path: the folder or archive.
        image_size: (height, width) that every picture is resized to.
        skip_bad: leave out files that are no readable pictures (they are named in the notes) instead of
            refusing the data set.
        opened: the source and its entries, if they were listed already.

    Returns:
        x uint8 (N, 1, H, W) if every picture is grey, else (N, 3, H, W). Samples are sorted by path, classes
            by name.

    Raises:
        BenchError: a layout that is not understood, an unsafe or damaged archive, files that are no readable
            pictures, a class without pictures, fewer than two classes, a class tested but not trained on.
    """
    return read_pictures(list_folder(path, opened=opened), image_size=image_size, skip_bad=skip_bad).dataset


def list_folder(
    path: Path, *, what: str | None = None, manifest: bool = False, opened: tuple[Source, list[Entry]] | None = None
) -> Listing:
    """See what is there.

    Args:
        path: the folder or archive.
        what: how messages call it.
        manifest: whether to read a manifest.csv too; the files that it names must be there.
        opened: the source and its entries, if they were listed already.

    Raises:
        BenchError: a layout or a manifest that is not understood, an unsafe or damaged archive, half a download.
    """
    what = f"DATA {show(str(path))}" if what is None else what
    if opened is None:
        source = open_source(path)
        entries = source.entries()
    else:
        source, entries = opened
    entry = find_manifest(entries) if manifest else None
    named = None if entry is None else read_manifest(what, source, entry)
    if named is not None:  # before the layout: half a download may have an empty folder, or lack a class
        named.check_missing(what, [e for e in entries if not e.is_dir])
    layout = read_layout(what, entries, [] if entry is None else [entry])
    return Listing(what, path, source, layout, named)


def read_pictures(
    listing: Listing,
    *,
    image_size: tuple[int, int] | None = None,
    reason: str = "as asked",
    skip_bad: bool = False,
    hashed: bool = False,
) -> Pictures:
    """Read what was listed, as `read_folder` says; `reason` is why they are resized, `hashed` asks for the sums."""
    what, source, layout = listing.what, listing.source, listing.layout
    bad = dict.fromkeys(layout.misplaced, "lies in no class folder")
    check_bad(what, bad, len(layout.samples) + len(bad), skip_bad)

    headers = read_headers(source, [s.entry for s in layout.samples], bad)
    check_bad(what, bad, len(layout.samples) + len(layout.misplaced), skip_bad)
    good = [s for s in layout.samples if s.entry in headers]
    while True:  # again only if files that were skipped had a say in the size
        if not good:
            raise BenchError(f"{what}: no readable image is left of {len(layout.samples)}")
        size, size_notes = choose_size([headers[s.entry] for s in good], image_size, reason)
        digests: dict[Entry, bytes] | None = {} if hashed else None
        x, frames = decode_all(what, source, good, headers, size, bad, digests)
        check_bad(what, bad, len(layout.samples) + len(layout.misplaced), skip_bad)
        good, before = [s for s in good if s.entry not in bad], good
        if good and choose_size([headers[s.entry] for s in good], image_size, reason) == (size, size_notes):
            break
    x = x[[n for n, s in enumerate(before) if s.entry not in bad]] if len(good) < len(before) else x
    if x.shape[1] == 3 and all(headers[s.entry].grey for s in good):
        x = np.ascontiguousarray(x[:, :1])  # only skipped files had colour

    class_names = listing.class_names
    index = {name: n for n, name in enumerate(class_names)}
    y = np.array([index[s.class_name] for s in good], dtype=np.int64)
    parts = np.array([s.part for s in good], dtype="U5") if layout.has_parts else None
    notes = check_classes(what, y, class_names, parts)
    if frames:
        notes.append(f"{frames} images have several frames; the first one was used")
    notes = [
        *bad_notes(bad, len(layout.samples) + len(layout.misplaced)),
        *size_notes,
        *layout.notes,
        *notes,
    ]
    dataset = Dataset(listing.path.resolve().name or str(listing.path), x, y, class_names, parts, tuple(notes))
    return Pictures(dataset, tuple(good), tuple(digests[s.entry] for s in good) if digests else ())


def check_bad(what: str, bad: Mapping[Entry, str], total: int, skip_bad: bool) -> None:
    """Raises BenchError if files cannot be used, and are not to be left out."""
    if bad and not skip_bad:
        first = [f"{e.path} ({show(why)})" for e, why in sorted(bad.items(), key=lambda item: item[0].parts)]
        raise BenchError(
            f"{what}: {len(bad)} of {total} files cannot be used as images: {listed(first, 5)}; mend or "
            "remove them, "
            "or pass --skip-bad to leave them out"
        )


def bad_notes(bad: Mapping[Entry, str], total: int) -> list[str]:
    """What is said of files that were left out."""
    if not bad:
        return []
    names = listed(sorted(e.path for e in bad), NAMES_IN_NOTES)
    return [f"left out {len(bad)} of {total} files that cannot be used as images: {names}"]


def read_headers(source: Source, entries: Sequence[Entry], bad: dict[Entry, str]) -> dict[Entry, Header]:
    """What the pictures say of themselves; those that cannot be read are put into `bad`."""
    headers = {}
    for entry, stream in source.files(entries):
        try:
            headers[entry] = read_header(_bytes(stream))
        except NotAnImage as error:
            bad[entry] = str(error)
    return headers


def _bytes(stream: BinaryIO | str) -> BinaryIO:
    if isinstance(stream, str):
        raise NotAnImage(stream)
    return stream


def choose_size(
    headers: Sequence[Header], image_size: tuple[int, int] | None, reason: str
) -> tuple[tuple[int, int], list[str]]:
    """(height, width), and what to say of it."""
    sizes = {(h.height, h.width) for h in headers}
    if image_size is not None:
        notes = [] if sizes == {image_size} else [f"images were resized to {_times(image_size)} {reason}"]
        return image_size, notes
    if len(sizes) == 1:
        own = next(iter(sizes))
        size = _cut(own, MAX_SIDE)
        if size == own:
            return own, []
        return size, [
            f"images were resized from {_times(own)} to {_times(size)} (longer side at most {MAX_SIDE}; "
            "--image-size chooses another size)"
        ]
    median = tuple(int(np.median([getattr(h, side) for h in headers])) for side in ("height", "width"))
    size = _cut((median[0], median[1]), MAX_MIXED_SIDE)
    low = (min(s[0] for s in sizes), min(s[1] for s in sizes))
    high = (max(s[0] for s in sizes), max(s[1] for s in sizes))
    return size, [
        f"images of {len(sizes)} sizes ({_times(low)} to {_times(high)} pixels, height first) were resized "
        "to "
        f"{_times(size)} (their median, longer side at most {MAX_MIXED_SIDE}; --image-size chooses another "
        "size)"
    ]


def _cut(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def decode_all(
    what: str,
    source: Source,
    samples: Sequence[Sample],
    headers: Mapping[Entry, Header],
    size: tuple[int, int],
    bad: dict[Entry, str],
    digests: dict[Entry, bytes] | None,
) -> tuple[np.ndarray, int]:
    """(N, C, H, W) with a row for every sample, also those added to `bad`; how many have more frames.

    Puts the SHA-256 sums of the files into `digests`, if that is not None.
    """
    channels = 1 if all(headers[s.entry].grey for s in samples) else 3
    shape = (len(samples), *size, channels)
    check_memory(what, 2 * int(np.prod(shape, dtype=np.int64)), "choose a smaller --image-size")
    x = np.empty(shape, dtype=np.uint8)
    row = {s.entry: n for n, s in enumerate(samples)}
    frames = 0
    for entry, stream in source.files([s.entry for s in samples]):
        try:
            stream = _bytes(stream)
            if digests is not None:
                content = stream.read()
                digests[entry] = hashlib.sha256(content).digest()
                stream = io.BytesIO(content)
            pixels, more_frames = decode(stream, size)
        except NotAnImage as error:
            bad[entry] = str(error)
            continue
        frames += more_frames
        x[row[entry]] = pixels if pixels.ndim == 3 else pixels[..., None]  # grey fills all channels
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), frames
