"""Arrays from a user's .npz file or function, checked and brought into one form.

x   (N, D) vectors -> float32; (N, H, W) grey images -> (N, 1, H, W); (N, C, H, W) or (N, H, W, C) images.
    Images of uint8 stay so, bool becomes 0 and 255, all other numbers float32 with their values unchanged.
    Four axes are channels-last if the last has length 1, 3 or 4 and the second has not, else channels-first;
    if both have, labels for each pixel decide, or else that is noted. `layout` = "NCHW" or "NHWC" says it outright.
    (N, T) token ids, whole numbers from 0, given to the network as they are: `layout` = "NT", see `dense`.
y   integers, booleans, strings, or one-hot rows. With class_names, integers are indices into them, and
    strings must be among them. Without, classes are the values that occur, ascending, named str(value).
    A class for each pixel (N, H, W) or token (N, T) too, -100 for what is not to be counted: see `dense`.
parts (also `split`)   a string for each sample: train, val, test, or "" (not stated).
groups   an integer or a string for each sample: samples with the same one show the same thing, such as one patient,
    and stay in one part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adma._check import nearest
from adma.bench.data.checks import check_classes, listed, part_codes, show
from adma.bench.data.dataset import IGNORED, Dataset
from adma.bench.data.dense import (
    TOKENS,
    check_dense,
    check_labels,
    holds_tokens,
    layout_of,
    target_of,
    token_ids,
    without_channel,
)
from adma.bench.data.groups import numbered
from adma.bench.errors import BenchError

KEYS = ("x", "y", "class_names", "parts", "split", "layout", "groups")
CHANNELS = (1, 3, 4)


def from_mapping(what: str, name: str, data: Mapping[str, Any], notes: Sequence[str] = ()) -> Dataset:
    """A data set from arrays under the names in KEYS; other keys are noted and not read.

    Args:
        what: how messages call the source, such as "DATA my.npz".
        name: the data set's name.
        data: at least "x" and "y".
        notes: what to put before the notes made here.

    Raises:
        BenchError: anything missing or not in the form that the head of this file states.
    """
    for key in ("x", "y"):
        if key not in data:
            found = listed(map(str, data), 10) or "nothing"
            hint = nearest(key, map(str, data))
            raise BenchError(f"{what}: has no {key!r}, only {found}{hint}; x and y are needed, allowed are {KEYS}")
    if data.get("parts") is not None and data.get("split") is not None:
        raise BenchError(f"{what}: has both 'parts' and 'split', which mean the same; keep one")
    unread = [str(k) for k in data if k not in KEYS]
    notes = [*notes, *([f"keys that were not read: {listed(unread, 10)}"] if unread else [])]

    x, y = (as_array(what, key, data[key]) for key in ("x", "y"))
    layout = _layout(what, data.get("layout"))
    y = without_channel(x, y)
    layout = layout or layout_of(x, y)
    tokens = holds_tokens(x, y, layout)
    x, x_notes = (token_ids(what, x), []) if tokens else _features(what, x, layout)
    target = target_of(what, x, y, tokens)
    if target is None:
        y, class_names = _classes(what, y, len(x), data.get("class_names"))
    else:
        y, class_names = _dense_classes(what, target, data.get("class_names"))
    parts = data["parts"] if data.get("parts") is not None else data.get("split")
    if parts is not None:
        parts = _strings(what, "parts", as_array(what, "parts", parts))
        if parts.shape != (len(x),):
            raise BenchError(f"{what}: parts must have shape ({len(x)},), one for each sample, got {parts.shape}")
        parts = part_codes(f"{what}: parts", parts)
    check = check_classes if target is None else check_dense
    notes = [*notes, *x_notes, *check(what, y, class_names, parts)]
    groups = _groups(what, data["groups"], len(x)) if data.get("groups") is not None else None
    return Dataset(name, x, y, class_names, parts, tuple(notes), groups)


def as_array(what: str, key: str, value: Any) -> np.ndarray:
    """A NumPy array from an array, a tensor on any device, or nested lists.

    Raises:
        BenchError: no array can be made of it.
    """
    try:
        if hasattr(value, "detach"):  # a tensor
            value = value.detach().cpu().numpy()
        return np.asarray(value)
    except Exception as error:  # whatever the user's object throws
        raise BenchError(f"{what}: {key} is {type(value).__name__} and no array ({error})") from error


def _groups(what: str, value: Any, num_samples: int) -> np.ndarray:
    groups = as_array(what, "groups", value)
    if groups.dtype.kind not in "iub":
        groups = _strings(what, "groups (if no integers)", groups)
    if groups.shape != (num_samples,):
        raise BenchError(f"{what}: groups must have shape ({num_samples},), one for each sample, got {groups.shape}")
    return numbered(groups.tolist())


def _layout(what: str, value: Any) -> str | None:
    if value is None:
        return None
    text = str(as_array(what, "layout", value)).strip().upper()
    if text not in ("NCHW", "NHWC", TOKENS):
        raise BenchError(
            f"{what}: layout must be 'NCHW' or 'NHWC', or '{TOKENS}' for token ids, got '{show(str(value))}'"
        )
    return text


def _features(what: str, x: np.ndarray, layout: str | None) -> tuple[np.ndarray, list[str]]:
    if x.dtype.kind not in "biuf":
        raise BenchError(f"{what}: x must hold real numbers, got dtype {x.dtype}")
    if x.ndim not in (2, 3, 4):
        raise BenchError(
            f"{what}: x must have shape (N, D) for vectors, or (N, H, W), (N, C, H, W) or (N, H, W, C) for "
            "images, "
            f"got {x.shape}"
        )
    if 0 in x.shape:
        raise BenchError(f"{what}: x is empty, its shape is {x.shape}")
    if layout is not None and x.ndim != 4:
        raise BenchError(f"{what}: layout {layout!r} is for x with 4 axes, got shape {x.shape}")
    notes = []
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
        if layout is None and first and last:
            notes.append(f"x of shape {x.shape} was read as channels first (N, C, H, W); say layout='NHWC' if not")
        if layout == "NHWC" or (layout is None and last and not first):
            x = x.transpose(0, 3, 1, 2)
    if x.ndim == 4 and x.dtype == np.bool_:
        x = x.astype(np.uint8) * np.uint8(255)
    if x.ndim == 2 or x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # found just below
            x = x.astype(np.float32)
        wrong = ~np.isfinite(x)
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise BenchError(
                f"{what}: x has {int(wrong.sum())} values that are NaN, infinite or too large for float32, "
                "in "
                f"{int(wrong.reshape(len(x), -1).any(1).sum())} samples, first at index {where}; mend or "
                "drop them"
            )
    return np.ascontiguousarray(x), notes


def _strings(what: str, key: str, values: np.ndarray) -> np.ndarray:
    """An array of text as dtype U; bytes are read as UTF-8, an object array is taken if all in it is text."""
    try:
        if values.dtype.kind == "S":
            return np.char.decode(values, "utf-8")
        if values.dtype.kind == "O" and all(isinstance(v, str) for v in values.ravel()):
            return values.astype(str)
    except UnicodeDecodeError as error:
        raise BenchError(f"{what}: {key} holds bytes that are not UTF-8 text ({error})") from error
    if values.dtype.kind != "U":
        raise BenchError(f"{what}: {key} must be strings, got dtype {values.dtype}")
    return values


def _class_names(what: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    array = as_array(what, "class_names", value)
    if array.ndim != 1:
        raise BenchError(f"{what}: class_names must be a list of names, got shape {array.shape}")
    if array.dtype.kind in "iu":
        array = array.astype(str)
    names = tuple(map(str, _strings(what, "class_names", array)))
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated or not all(n.strip() for n in names):
        raise BenchError(f"{what}: class_names must differ and not be empty, got {listed(repeated) or repr('')}")
    return names


def _classes(what: str, y: np.ndarray, num_samples: int, names: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    class_names = _class_names(what, names)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]  # a column
    one_hot = y.ndim == 2
    if one_hot:
        y = _from_one_hot(what, y)
    if y.shape != (num_samples,):
        raise BenchError(f"{what}: y must have one label for each of the {num_samples} samples, got shape {y.shape}")
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
        class_names = class_names or ("False", "True")
    if y.dtype.kind in "iu":
        if y.min() < 0:
            raise BenchError(
                f"{what}: y must not be negative, got {int((y < 0).sum())} such labels, first {y[y < 0][0]} "
                f"at index {int(np.argmax(y < 0))}"
            )
        if class_names is None:
            values, index = np.unique(y, return_inverse=True)
            return index.reshape(-1).astype(np.int64), tuple(str(v) for v in values)
        if y.max() >= len(class_names):
            raise BenchError(
                f"{what}: y holds the label {y.max()} (first at index "
                f"{int(np.argmax(y >= len(class_names)))}), but "
                f"class_names has {len(class_names)} names, for labels 0 to {len(class_names) - 1}"
            )
        return y.astype(np.int64), class_names
    if y.dtype.kind == "f":
        raise BenchError(
            f"{what}: y must be integers or strings, got dtype {y.dtype}; for whole numbers, y.astype(int)"
        )
    values, index = np.unique(_strings(what, "y", y), return_inverse=True)
    index = index.reshape(-1).astype(np.int64)
    if "" in values:
        raise BenchError(f"{what}: y has an empty label, first at index {int(np.argmax(y == ''))}")
    if class_names is None:
        return index, tuple(map(str, values))
    unknown = [str(v) for v in values if str(v) not in class_names]
    if unknown:
        raise BenchError(f"{what}: y holds {listed(unknown)}, not among class_names ({listed(class_names, 20)})")
    return np.array([class_names.index(str(v)) for v in values], dtype=np.int64)[index], class_names


def _dense_classes(what: str, y: np.ndarray, names: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `_classes`, of labels for each position, where IGNORED stays what it is."""
    counts = check_labels(what, y, _class_names(what, names))
    labels = np.full(y.shape, IGNORED, dtype=np.int64)
    labels[counts], class_names = _classes(what, y[counts], int(counts.sum()), names)
    return labels, class_names


def _from_one_hot(what: str, y: np.ndarray) -> np.ndarray:
    ok = y.dtype.kind in "biuf" and bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())
    if not ok:
        raise BenchError(
            f"{what}: y of shape {y.shape} is not one-hot (each row one 1, else 0); give one label a sample"
        )
    return y.argmax(1)
