"""Images beside masks of the same names: a folder or archive with a class for each pixel.

    images/NAME.jpg, masks/NAME.png                    parts are not stated
    train|val|test/images/..., .../masks/...           the first folder is the part
    classes.txt beside `images`                        names of the classes 0, 1, ..., a line each

Folders below `images` must stand below `masks` too, and state no part; a single folder around all of it is stepped
into. A mask is a grey or palette image of 8 bits with the size of its image; its values are class indices, 255 is not
to be counted. Without classes.txt the classes are the values that occur. Images are brought to one size as `folder` has
it, masks likewise, by the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from adma.bench.data.arrays import from_mapping
from adma.bench.data.checks import PART_NAMES, check_memory, listed, show
from adma.bench.data.dataset import IGNORED, Dataset
from adma.bench.data.folder import NAMES_IN_NOTES, check_bad, choose_size, decode_all, read_headers
from adma.bench.data.images import Header, NotAnImage, decode_mask
from adma.bench.data.layout import Sample, is_text
from adma.bench.data.sources import Entry, Source
from adma.bench.errors import BenchError

IMAGES, MASKS, NAMES = "images", "masks", "classes.txt"
_UNCOUNTED = 255


@dataclass(frozen=True)
class _Pair:
    image: Sample
    mask: Entry


def holds_masks(entries: Sequence[Entry]) -> bool:
    """Whether there are folders `images` and `masks` beside each other, at the top or in parts."""
    folders = set(_folders(entries)) if entries else set()
    return any((*path[:-1], MASKS) in folders for path in folders if path[-1] == IMAGES)


def read_masked(
    path: Path,
    *,
    opened: tuple[Source, list[Entry]],
    image_size: tuple[int, int] | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read pairs of images and masks.

    Args:
        path: the folder or archive.
        opened: it, and what lies in it.
        image_size: (height, width) that every picture is resized to.
        skip_bad: leave out pairs of which one is not readable, instead of refusing the data set.

    Raises:
        BenchError: an image without a mask or the other way round, files that cannot be used, a mask of another size
            than its image's, a value that is no class.
    """
    what = f"DATA {show(str(path))}"
    source, entries = opened
    root = _root(entries)
    pairs, unread = _pairs(what, entries, root)
    bad: dict[Entry, str] = {}
    total = 2 * len(pairs)
    headers = read_headers(source, [p.image.entry for p in pairs], bad)
    masks = read_headers(source, [p.mask for p in pairs], bad)
    for pair in pairs:
        _check_sizes(pair, headers, masks, bad)
    check_bad(what, bad, total, skip_bad)
    good = [p for p in pairs if p.image.entry not in bad and p.mask not in bad]
    while True:  # again only if files that were skipped had a say in the size
        if not good:
            raise BenchError(f"{what}: no readable pair is left of {len(pairs)}")
        size, size_notes = choose_size([headers[p.image.entry] for p in good], image_size, "as asked")
        x, frames = decode_all(what, source, [p.image for p in good], headers, size, bad, None)
        y = _decode_masks(what, source, good, size, bad)
        check_bad(what, bad, total, skip_bad)
        good, before = [p for p in good if p.image.entry not in bad and p.mask not in bad], good
        if good and choose_size([headers[p.image.entry] for p in good], image_size, "as asked") == (size, size_notes):
            break
    kept = [n for n, p in enumerate(before) if p.image.entry not in bad and p.mask not in bad]
    x = x[kept]
    if x.shape[1] == 3 and all(headers[p.image.entry].grey for p in good):
        x = np.ascontiguousarray(x[:, :1])  # only skipped files had colour
    parts = [p.image.part for p in good]
    notes = [
        *_left_out(pairs, bad),
        *size_notes,
        *([f"{frames} images have several frames; the first one was used"] if frames else []),
        *([f"files that were not read: {listed(unread)}"] if unread else []),
        *_unread_parts(pairs, root),
    ]
    fields = {
        "x": x, "y": y[kept], "layout": "NCHW", "class_names": _names(what, source, entries, root),
        "parts": parts if any(parts) else None,
    }  # fmt: skip
    return from_mapping(what, path.resolve().name or str(path), fields, notes)


def _folders(entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    """Folders at the top, in a part, or in a single folder around it all; the last word in small letters."""
    first = {e.parts[0] for e in entries}
    roots = [(), tuple(first)] if len(first) == 1 else [()]
    for parts in sorted({e.parts[:depth] for e in entries for depth in range(1, len(e.parts) + e.is_dir)}):
        around = parts[:-1]
        if around in roots or (around and around[:-1] in roots and around[-1].casefold() in PART_NAMES):
            yield (*around, parts[-1].casefold())


def _root(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The folder around everything, or ()."""
    first = next(path[:-1] for path in _folders(entries) if path[-1] == IMAGES)
    return first[:-1] if first and first[-1].casefold() in PART_NAMES else first


def _pairs(what: str, entries: Sequence[Entry], root: tuple[str, ...]) -> tuple[list[_Pair], list[str]]:
    """Images with their masks, by path; the texts and other files that were not read."""
    found: dict[str, dict[tuple[str, ...], tuple[Entry, str]]] = {IMAGES: {}, MASKS: {}}
    unread = []
    for entry in sorted((e for e in entries if not e.is_dir), key=lambda e: e.parts):
        path = entry.parts[len(root) :] if entry.parts[: len(root)] == root else entry.parts
        part = PART_NAMES.get(path[0].casefold(), "") if len(path) > 2 else ""
        inner = path[1:] if part else path
        kind = inner[0].casefold() if len(inner) > 1 else ""
        if is_text(path[-1]) or kind not in found:
            if path != (NAMES,):
                unread.append(entry.path)
            continue
        key = (part, *inner[1:-1], PurePosixPath(inner[-1]).stem)
        if key in found[kind]:
            raise BenchError(f"{what}: {entry.path} and {found[kind][key][0].path} have one name; keep one of them")
        found[kind][key] = entry, part
    for one, other in ((IMAGES, MASKS), (MASKS, IMAGES)):
        alone = [found[one][key][0].path for key in found[one] if key not in found[other]]
        if alone:
            raise BenchError(
                f"{what}: {len(alone)} files in {one} have no file of the same name in {other}: {listed(alone)}; add "
                "or remove them"
            )
    if not found[IMAGES]:
        raise BenchError(f"{what}: no images in the folder {IMAGES}; expected {IMAGES}/NAME and {MASKS}/NAME")
    pairs = [_Pair(Sample(e, "", part), found[MASKS][key][0]) for key, (e, part) in found[IMAGES].items()]
    return pairs, unread


def _unread_parts(pairs: Sequence[_Pair], root: tuple[str, ...]) -> list[str]:
    """A warning where parts seem to be stated below `images`: a test part drawn from all would be no such part's."""
    paths = [p.image.entry.parts[len(root) :] for p in pairs if not p.image.part]
    names = sorted({path[1] for path in paths if len(path) > 2 and path[1].casefold() in PART_NAMES})
    if not names:
        return []
    return [
        f"WARNING: the folders {listed(names)} below {IMAGES} were not read as parts of the data set; to state parts, "
        f"lay it out as train|val|test/{IMAGES} and train|val|test/{MASKS}"
    ]


def _check_sizes(pair: _Pair, headers: dict[Entry, Header], masks: dict[Entry, Header], bad: dict[Entry, str]) -> None:
    image, mask = headers.get(pair.image.entry), masks.get(pair.mask)
    if image is None or mask is None:
        return
    if (image.height, image.width) != (mask.height, mask.width):
        bad[pair.mask] = (
            f"{mask.height} x {mask.width} pixels, but its image has {image.height} x {image.width}, height first"
        )


def _left_out(pairs: Sequence[_Pair], bad: Mapping[Entry, str]) -> list[str]:
    """What is said of pairs that were left out, by the files to blame."""
    count = sum(p.image.entry in bad or p.mask in bad for p in pairs)
    names = listed(sorted(e.path for e in bad), NAMES_IN_NOTES)
    return [f"left out {count} of {len(pairs)} pairs of which a file cannot be used: {names}"] if count else []


def _decode_masks(
    what: str, source: Source, pairs: Sequence[_Pair], size: tuple[int, int], bad: dict[Entry, str]
) -> np.ndarray:
    """(N, H, W) int64, 255 as IGNORED, with a row for every pair, also those added to `bad`."""
    check_memory(what, 16 * len(pairs) * size[0] * size[1], "choose a smaller --image-size")
    y = np.zeros((len(pairs), *size), dtype=np.int64)
    row = {p.mask: n for n, p in enumerate(pairs)}
    for entry, stream in source.files([p.mask for p in pairs]):
        try:
            if isinstance(stream, str):
                raise NotAnImage(stream)
            y[row[entry]] = decode_mask(stream, size)
        except NotAnImage as error:
            bad[entry] = str(error)
    y[y == _UNCOUNTED] = IGNORED
    return y


def _names(what: str, source: Source, entries: Sequence[Entry], root: tuple[str, ...]) -> list[str] | None:
    """The lines of classes.txt, None if there is none."""
    found = [e for e in entries if e.parts == (*root, NAMES) and not e.is_dir]
    for _, stream in source.files(found):
        if isinstance(stream, str):
            raise BenchError(f"{what}: {NAMES} cannot be read: {stream}")
        try:
            lines = stream.read().decode("utf-8-sig").rstrip().splitlines()
        except UnicodeDecodeError as error:
            raise BenchError(f"{what}: {NAMES} is not UTF-8 text ({error})") from error
        return [line.strip() for line in lines]
    return None
