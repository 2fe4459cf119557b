"""A data set from the user's own function, named `package.module:function`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np

from adma.bench.data.arrays import CHANNELS, as_array, from_mapping
from adma.bench.data.checks import show
from adma.bench.data.dataset import Dataset
from adma.bench.data.dense import TOKENS
from adma.bench.errors import BenchError
from adma.bench.importing import current_folder_importable, find_function

RETURNS = "(x, y), a dict with x and y (and class_names, parts, layout, groups), or an adma.bench.data.Dataset"


def call_function(data: str) -> Dataset:
    """Import the module (also from the current folder), call the function, check what it gives.

    Raises:
        BenchError: the module or the function is not there, raises an exception (chained), or returns
            something else than (x, y), a mapping or a Dataset in the form that `arrays` states.
    """
    what = f"DATA {show(data)}"
    with current_folder_importable():
        function = find_function(what, data)
        try:
            inspect.signature(function).bind()
        except TypeError as error:
            raise BenchError(f"{what}: must be callable without arguments ({error})") from error
        except ValueError:  # a builtin that does not tell its signature
            pass
        try:
            value = function()
        except BenchError:
            raise
        except (Exception, SystemExit) as error:
            raise BenchError(f"{what}: raised {type(error).__name__}: {show(str(error))}") from error
    if isinstance(value, Dataset):
        x = as_array(what, "x", value.x)
        fields = {
            "x": x, "y": value.y, "class_names": value.class_names, "parts": value.parts, "groups": value.groups,
            "layout": _layout_of(x),
        }  # fmt: skip
        notes = list(value.notes)
        if x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
            notes.append(
                f"x of shape {x.shape} was read as channels first (N, C, H, W), as a Dataset has it; return a dict "
                "with layout='NHWC' if it is not"
            )
        return from_mapping(what, value.name, fields, notes)
    if isinstance(value, tuple) and len(value) == 2:
        value = {"x": value[0], "y": value[1]}
    if not isinstance(value, Mapping):
        size = f" of {len(value)}" if isinstance(value, tuple) else ""
        raise BenchError(f"{what}: must return {RETURNS}, got {type(value).__name__}{size}")
    return from_mapping(what, data, value)


def _layout_of(x: np.ndarray) -> str | None:
    """How a Dataset's `x` is meant, which says it outright: images are channels first, 64-bit integers token ids."""
    if x.ndim == 4:
        return "NCHW"
    return TOKENS if x.ndim == 2 and x.dtype == np.int64 else None
