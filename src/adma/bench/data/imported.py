"""A data set from the user's own function, named `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from adma._check import nearest
from adma.bench.data.arrays import from_mapping
from adma.bench.data.checks import show
from adma.bench.data.dataset import Dataset
from adma.bench.errors import BenchError

RETURNS = "(x, y), a dict with x and y (and class_names, parts, layout), or an adma.bench.data.Dataset"


def is_function_name(data: str) -> bool:
    """Whether a text has the form `package.module:function`."""
    module, colon, function = data.partition(":")
    names = [*module.split("."), *function.split(".")]
    return bool(colon) and all(name.isidentifier() for name in names)


def call_function(data: str) -> Dataset:
    """Import the module (also from the current folder), call the function, check what it gives.

    Raises:
        BenchError: the module or the function is not there, raises an exception (chained), or returns
            something else than (x, y), a mapping or a Dataset in the form that `arrays` states.
    """
    what = f"DATA {show(data)}"
    module_name, _, function_name = data.partition(":")
    with _current_folder_importable():
        function = _find(what, module_name, function_name)
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
        fields = {"x": value.x, "y": value.y, "class_names": value.class_names, "parts": value.parts}
        return from_mapping(what, value.name, fields, value.notes)
    if isinstance(value, tuple) and len(value) == 2:
        value = {"x": value[0], "y": value[1]}
    if not isinstance(value, Mapping):
        size = f" of {len(value)}" if isinstance(value, tuple) else ""
        raise BenchError(f"{what}: must return {RETURNS}, got {type(value).__name__}{size}")
    return from_mapping(what, data, value)


def _find(what: str, module_name: str, function_name: str) -> Any:
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The user's module may be there and itself import something that is not.
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise BenchError(
                f"{what}: no module named {error.name!r}, neither in the current folder "
                f"({show(os.getcwd())}) nor "
                "among the installed packages"
            ) from error
        raise BenchError(f"{what}: importing {module_name} failed: {show(str(error))}") from error
    except (Exception, SystemExit) as error:
        raise BenchError(
            f"{what}: importing {module_name} failed: {type(error).__name__}: {show(str(error))}"
        ) from error
    for name in function_name.split("."):
        if not hasattr(found, name):
            options = [n for n in dir(found) if callable(getattr(found, n, None)) and not n.startswith("_")]
            raise BenchError(f"{what}: no {name!r} in {module_name}{nearest(name, options)}")
        found = getattr(found, name)
    if not callable(found):
        raise BenchError(f"{what}: {function_name} is {type(found).__name__} and cannot be called")
    return found


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """As `python -m` has it; the function may itself import, so this holds while it runs."""
    folder = os.getcwd()
    absent = folder not in sys.path
    if absent:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    try:
        yield
    finally:
        if absent and folder in sys.path:
            sys.path.remove(folder)
