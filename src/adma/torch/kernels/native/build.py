"""Compile the CPU kernel: `python -m adma.torch.kernels.native.build`, and what the package's own build calls.

One C++ source is compiled once for each instruction set, and all of it linked into one library beside this file, with
a plain C interface: it depends on neither Python's nor torch's version. This module imports nothing of the package, so
that it can be run before the package is there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("call.hpp", "simd.hpp", "math.hpp", "dense.hpp", "dense_rows.hpp", "dense_lanes.hpp", "kernel.cpp",
           "entry.cpp")  # fmt: skip
LIBRARY = "libadma_native" + (".dylib" if sys.platform == "darwin" else ".so")

# no contraction: where a product and a sum are to be fused, the source says so
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
          "-fno-trapping-math", "-fno-exceptions", "-fno-rtti", "-w")  # fmt: skip
_SETS: Mapping[str, tuple[str, ...]] = {
    "baseline": (),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c",
               "-mprefer-vector-width=512"),
}  # fmt: skip


class BuildError(RuntimeError):
    """There is no library, and why."""


def sets() -> dict[str, tuple[str, ...]]:
    """The instruction sets of this machine's architecture, each with its compiler options."""
    return dict(_SETS) if platform.machine().lower() in ("x86_64", "amd64") else {"baseline": ()}


def version() -> int:
    """Of the sources: what a library must have been made from to go with the Python beside it."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).digest()
    return int.from_bytes(digest[:7], "big")


def fingerprint() -> str:
    """Of the sources, the options and the compiler's name: what decides whether the library is up to date."""
    return hashlib.sha256(repr((version(), _FLAGS, sets(), compiler())).encode()).hexdigest()


def compiler() -> list[str]:
    """The C++ compiler: `CXX`, or `c++`."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def build(folder: Path = HERE, *, force: bool = False) -> Path:
    """Compile, unless what lies in `folder` is up to date.

    Returns:
        The library's path; beside it lies its fingerprint.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    library, stamp, wanted = folder / LIBRARY, folder / (LIBRARY + ".stamp"), fingerprint()
    if not force and library.exists() and stamp.exists() and stamp.read_text() == wanted:
        return library
    if sys.platform == "win32":
        raise BuildError("the CPU kernel is written for GCC and Clang on Linux and macOS")
    with tempfile.TemporaryDirectory() as scratch:
        objects = [Path(scratch) / f"{name}.o" for name in sets()]
        said = [f"-DADMA_VERSION={version()}", *(["-DADMA_X86"] if len(sets()) > 1 else [])]
        jobs = [
            [*compiler(), *_FLAGS, *options, f"-DADMA_SET=adma_{name}", "-c", str(HERE / "kernel.cpp"), "-o", str(file)]
            for (name, options), file in zip(sets().items(), objects, strict=True)
        ]
        with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
            list(pool.map(_run, jobs))
        made = Path(scratch) / LIBRARY
        linked = [str(HERE / "entry.cpp"), *map(str, objects)]
        _run([*compiler(), *_FLAGS, *said, "-shared", *linked, "-o", str(made), "-lm"])
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{LIBRARY}.{os.getpid()}"
        beside.write_bytes(made.read_bytes())
        beside.chmod(0o755)
        beside.replace(library)  # whole or not at all: a process that has the old one loaded keeps it
    stamp.write_text(wanted)
    return library


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"no C++ compiler ({command[0]}: {error.strerror}); CXX names another") from error
    if done.returncode:
        raise BuildError(f"{shlex.join(command)} failed with status {done.returncode}:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    try:
        print(build(force="--force" in sys.argv))
    except BuildError as error:
        sys.exit(f"adma: the CPU kernel was not built: {error}")
