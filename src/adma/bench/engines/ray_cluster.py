"""A Ray cluster: connecting to it, what it has, and the code that its nodes need."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from adma.bench import environment
from adma.bench.errors import BenchError
from adma.bench.importing import current_folder_importable

_KNOCK_SECONDS = 10.0
LOCAL = "local"  # the address that starts a cluster of this machine alone


def ray_package() -> Any:
    """The package, imported when it is used.

    Raises:
        BenchError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BenchError(f"--engine ray needs Ray ({error}): pip install 'adma[ray]'") from error
    return ray


@contextmanager
def connected(address: str | None, modules: Sequence[str] = (), *, code: bool = True) -> Iterator[Any]:
    """Connected to a cluster; a connection that this process has already is used, and left as it is.

    Args:
        address: "HOST:PORT" of the cluster that this machine is part of, "ray://HOST:PORT" of one elsewhere, "local"
            to start one here; None: $RAY_ADDRESS, else the one that was started on this machine.
        modules: the user's own, which nodes need.
        code: whether the nodes need any.

    Yields:
        The package `ray`.

    Raises:
        BenchError: there is no cluster, or it is not like this machine.
    """
    ray = ray_package()
    if ray.is_initialized():
        yield ray
        return
    shipped = [str(path) for path in code_of(modules)] if code else []
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        with _own_signals():
            ray.init(
                address=address or "auto", runtime_env={"py_modules": shipped} if shipped else None,
                log_to_driver=False, logging_level="error", configure_logging=False,
                **({"include_dashboard": False} if address == LOCAL else {}),
            )  # fmt: skip
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        ray.shutdown()
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise BenchError(
            f"--engine ray: no cluster to work with at {where} ({str(error).strip()}); start one with "
            "'ray start --head', name another with --address, or start one of this machine with --address local"
        ) from error
    try:
        yield ray
    finally:
        with _own_signals():
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nobody answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def cells_at_once(address: str | None, threads: int, gpus: float | None) -> tuple[int, float]:
    """How many cells fit on a cluster at once, and the GPUs of each.

    Args:
        threads: processor cores a cell.
        gpus: GPUs a cell; None: one where the cluster has any.

    Raises:
        BenchError: none fits.
    """
    if address == LOCAL and not ray_package().is_initialized():
        nodes = [{"CPU": float(environment.cores()), "GPU": float(_gpus_here())}]
    else:
        with connected(address, code=False) as ray:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0
    room = sum(_fits(node, threads, gpus) for node in nodes)
    if not room:
        has = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise BenchError(
            f"--engine ray: no node of the cluster has room for a cell of {threads} CPUs and {gpus:g} GPUs (they have "
            f"{has}); change --cpus-per-cell or --gpus-per-cell"
        )
    return room, gpus


def _fits(node: dict[str, float], threads: int, gpus: float) -> int:
    room = int(node.get("CPU", 0) // threads)
    if gpus >= 1:
        return min(room, int(node.get("GPU", 0) // gpus))
    return min(room, int(node.get("GPU", 0)) * int(1 / gpus + 1e-9)) if gpus else room


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


# -- code ------------------------------------------------------------------------------------------------------


def code_of(modules: Sequence[str]) -> list[Path]:
    """The folders and files of this package, and of the user's modules: those named and those of the current folder.

    Of the current folder it is what was imported until now, each package whole. What is installed is not among it:
    nodes have it, or they refuse.

    Raises:
        BenchError: a module is named that is not there.
    """
    import adma

    places = {}
    with current_folder_importable():
        for name in dict.fromkeys(module.partition(".")[0] for module in modules):
            spec = importlib.util.find_spec(name)
            if spec is None:
                raise BenchError(f"--import {name}: no module of this name")
            places[name] = _place(spec)
    here = Path.cwd().resolve()
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if isinstance(spec, ModuleSpec) and "." not in name and here in _place(spec).resolve().parents:
            places.setdefault(name, _place(spec))
    places.pop("adma", None)
    own = [place for place in places.values() if (place.is_dir() or place.suffix == ".py") and not _installed(place)]
    return [Path(adma.__file__ or "").parent, *own]


def _place(spec: ModuleSpec) -> Path:
    """A package's folder, or a module's file."""
    folders = list(spec.submodule_search_locations or [])
    return Path(folders[0] if folders else spec.origin or os.devnull)


def _installed(place: Path) -> bool:
    standard = Path(sysconfig.get_path("stdlib"))
    return bool({"site-packages", "dist-packages"} & set(place.parts)) or standard in place.parents


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; it stays what it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
