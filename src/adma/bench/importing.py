"""The user's own functions, named `package.module:function`, also from the current folder."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from adma._check import nearest
from adma.bench.errors import BenchError


def is_function_name(text: str) -> bool:
    """Whether a text has the form `package.module:function`."""
    module, colon, function = text.partition(":")
    return bool(colon) and all(name.isidentifier() for name in [*module.split("."), *function.split(".")])


def find_function(what: str, text: str) -> Any:
    """The callable that `package.module:function` names.

    Args:
        what: the argument, for messages ("DATA 'a:b'").
        text: the name.

    Raises:
        BenchError: the module or the function is not there, its import fails, or it is not callable.
    """
    module_name, _, function_name = text.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # the user's module may be there and itself import something that is not
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise BenchError(
                f"{what}: no module named {error.name!r}, neither in the current folder ({os.getcwd()!r}) nor "
                "among the installed packages"
            ) from error
        raise BenchError(f"{what}: importing {module_name} failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise BenchError(f"{what}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    for name in function_name.split("."):
        if not hasattr(found, name):
            options = [n for n in dir(found) if callable(getattr(found, n, None)) and not n.startswith("_")]
            raise BenchError(f"{what}: no {name!r} in {module_name}{nearest(name, options)}")
        found = getattr(found, name)
    if not callable(found):
        raise BenchError(f"{what}: {function_name} is {type(found).__name__} and cannot be called")
    return found


def import_modules(modules: Iterable[str]) -> None:
    """Import the user's modules, such as those that register losses; also from the current folder.

    Raises:
        BenchError: an import fails.
    """
    with current_folder_importable():
        for module in modules:
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:
                raise BenchError(f"--import {module} failed: {type(error).__name__}: {error}") from error


@contextmanager
def current_folder_importable() -> Iterator[None]:
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
