"""The compiled CPU kernel, loaded once: which instruction set it runs, on whose threads, and why not where not."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

SETS = ("baseline", "avx2", "avx512")
VARIABLE = "ADMA_NATIVE"


class Library(NamedTuple):
    """What was loaded.

    handle: the library.
    number: of the instruction set in use; `SETS` has its name.
    threads: whose threads it runs on, in words.
    """

    handle: ctypes.CDLL
    number: int
    threads: str


class UnavailableError(RuntimeError):
    """There is no compiled kernel in this process, and why."""


@lru_cache(maxsize=1)
def load() -> Library | str:
    """The library, or in words why there is none.

    The environment variable `ADMA_NATIVE` forces one: 0 (none), baseline, avx2 or avx512.

    Raises:
        ValueError: `ADMA_NATIVE` is none of these.
    """
    from adma.torch.kernels.native.build import LIBRARY, version  # here, so that it can be run as a program

    asked = os.environ.get(VARIABLE, "")
    if asked == "0":
        return f"{VARIABLE}=0 turns the compiled kernel off"
    if asked and asked not in SETS:
        raise ValueError(f"{VARIABLE} must be 0, {', '.join(SETS[:-1])} or {SETS[-1]}, got {asked!r}")
    path = Path(__file__).with_name(LIBRARY)
    if not path.exists():
        return (
            "no compiled kernel lies in this installation: there was no C++ compiler when it was installed "
            "(python -m adma.torch.kernels.native.build makes one)"
        )
    try:
        handle = _declared(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        return f"{path} cannot be loaded: {error}"
    if handle.adma_native_version() != version():
        return f"{path} was made from other sources: python -m adma.torch.kernels.native.build makes it anew"
    able = [i for i in range(len(SETS)) if handle.adma_native_sets() >> i & 1]
    if asked and SETS.index(asked) not in able:
        raise ValueError(f"{VARIABLE}={asked}: this machine has {', '.join(SETS[i] for i in able)}")
    runtime, parallel = _openmp()
    if parallel:
        handle.adma_native_threads_by(parallel)
    return Library(handle, SETS.index(asked) if asked else able[-1], runtime)


def _declared(handle: ctypes.CDLL) -> ctypes.CDLL:
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    handle.adma_native_version.restype = handle.adma_native_sets.restype = number
    handle.adma_native_threads_by.argtypes, handle.adma_native_threads_by.restype = [pointer], None
    walk = handle.adma_native_rows_and_gradient
    walk.argtypes, walk.restype = [ctypes.c_char_p, number, number, pointer], number
    reduced = handle.adma_native_reduced
    reduced.argtypes, reduced.restype = [ctypes.c_char_p, number, number, number, number, pointer], number
    values = handle.adma_native_values
    values.argtypes, values.restype = [ctypes.c_char_p, number, pointer, pointer, pointer, number], number
    survey = handle.adma_native_survey
    survey.argtypes, survey.restype = [pointer, number, number, number, pointer], number
    dense = handle.adma_native_dense_rows_and_gradient
    dense.argtypes, dense.restype = [ctypes.c_char_p, number, number, pointer], number
    return handle


def _openmp() -> tuple[str, int | None]:
    """The OpenMP that torch has loaded, and where its `GOMP_parallel` is: a second one would fight for the cores."""
    for path in _loaded():
        if re.search(r"lib(gomp|i?omp5?)\b[^/]*$", path) is None:
            continue
        try:
            found = ctypes.CDLL(path, mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_LAZY)
            return path, ctypes.cast(found.GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return "one thread: torch has loaded no OpenMP that offers GOMP_parallel", None


def _loaded() -> list[str]:
    """The libraries of this process, torch's own first."""
    if not sys.platform.startswith("linux"):
        return sorted(map(str, (Path(torch.__file__).parent / "lib").glob("lib*omp*")))
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        paths = {line.split(maxsplit=5)[-1].strip() for line in file if ".so" in line}
    home = str(Path(torch.__file__).parent)
    return sorted(paths, key=lambda path: (not path.startswith(home), path))
