"""New processes that train: how they are begun, and a single call in one.

Importing torch and what trains takes a process seconds. So on Linux a server imports it once, before any thread or GPU
is touched, and forks a process whenever one is wanted. A process that will use a GPU is spawned instead, as its driver
does not survive a fork and libraries may touch it when they are imported; so are all on other systems, whose own
libraries do not survive one, and where the temporary folder's name is too long for the server's socket in it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from adma.bench.errors import BenchError

_PRELOAD = ["adma.bench.engines.preload"]
_GPUS = ("/dev/nvidiactl", "/dev/kfd")  # what Linux has where a driver of NVIDIA or AMD is at work
_TRIES = 3  # to begin a process whose server is killed meanwhile
_DYING = 0.2  # seconds until a server that is killed is sure to be gone
_LONGEST = 70  # bytes of the temporary folder's name: the server's socket lies in it, and its whole name has 107
_Result = TypeVar("_Result")


class EndedError(BenchError):
    """A process is gone, and gave no reason."""


def context(device: str) -> ForkServerContext | SpawnContext:
    """How processes that train on a device are begun."""
    if not _forked(device):
        return multiprocessing.get_context("spawn")
    served = multiprocessing.get_context("forkserver")
    served.set_forkserver_preload(_PRELOAD)
    return served


def begin(device: str, target: Callable[..., None], *arguments: Any, name: str) -> tuple[Connection, BaseProcess]:
    """Start a process that ends with this one, joined by a pipe.

    Args:
        device: that it uses.
        target: called there with its end of the pipe and the arguments.
        name: of the process.

    Returns:
        This process's end of the pipe, and the process.

    Raises:
        EndedError: the server was killed again and again.
    """
    made = context(device)
    for _ in range(_TRIES):
        ours, theirs = made.Pipe()  # anew: whatever was forked for a server that is gone has the other one
        process = made.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
        try:
            if _forked(device):
                _have_server()
            process.start()
        except (EOFError, ConnectionError):  # the server was killed at this moment; the next start begins another one
            ours.close()
            time.sleep(_DYING)
            continue
        finally:
            theirs.close()
        return ours, process
    raise EndedError(f"the process that forks others was killed {_TRIES} times, as often as it was begun")


def expect(engine: str, device: str) -> None:
    """Let the server begin its imports while the command goes on, if trainings on the CPU are likely to come.

    Args:
        engine, device: as a command was told, "auto" included.
    """
    gpu = any(Path(place).exists() for place in _GPUS)  # torch would say it, when it is imported
    if engine == "local" and (device == "cpu" or (device == "auto" and not gpu)) and _forked("cpu"):
        context("cpu")
        _have_server()


def environ() -> dict[str, str]:
    """What `take_environ` is to be given: a forked process has the server's environment, which may be an old one."""
    return dict(os.environ)


def take_environ(variables: dict[str, str]) -> None:
    """In a new process: have these environment variables and no others."""
    if variables != os.environ:
        os.environ.clear()
        os.environ.update(variables)


def call(device: str, function: Callable[..., _Result], /, *arguments: Any, **options: Any) -> _Result:
    """What a function returns in a process of its own, where that is one with its imports done; else in this one.

    Args:
        device: that the function uses.
        function, arguments, options: picklable.

    Raises:
        Exception: what the function raises. Its warnings are given here.
        EndedError: the process ended without a word.
    """
    if not _forked(device):
        return function(*arguments, **options)
    ours, process = begin(device, _answer, environ(), function, arguments, options, name=f"adma {function.__name__}")
    try:
        result, error, warned = ours.recv()
    except EOFError:
        process.join()
        raise EndedError(f"its process {ending(process.exitcode)}") from None
    finally:
        ours.close()
        process.kill()
        process.join()
    for message, category in warned:
        warnings.warn(message, category, stacklevel=2)
    if error is not None:
        raise error
    return result


def die_with(parent: int | None = None) -> None:
    """Let the system kill this process when its parent ends, however that ends: what it trains is another's then.

    Args:
        parent: its id; None: this is a process of `context`, whose server ends with the one that asked for it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        asked = multiprocessing.parent_process()
        if os.getppid() != parent if parent is not None else asked is not None and not asked.is_alive():
            os._exit(1)


def ending(code: int | None) -> str:
    """How a process ended, in words: `was killed (SIGKILL)`."""
    return (
        f"was killed ({signal.Signals(-code).name})" if code is not None and code < 0 else f"ended (exit code {code})"
    )


def _have_server() -> None:
    """Begin the server if it is not there, deaf to what a terminal or a cluster tells all processes of a command.

    Its command decides what becomes of it; so it is with all that it forks.
    """
    resource_tracker.ensure_running()  # which would make them heard again
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # it inherits this
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _forked(device: str) -> bool:
    reachable = len(os.fsencode(tempfile.gettempdir())) <= _LONGEST
    return sys.platform == "linux" and device.startswith("cpu") and reachable


def _answer(
    connection: Connection, variables: dict[str, str], function: Callable[..., Any], arguments: Any, options: Any
) -> None:  # fmt: skip
    take_environ(variables)
    die_with()
    result, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        try:
            result = function(*arguments, **options)
        except Exception as raised:  # its cause stays here: not every exception can be sent
            error = raised
    connection.send((result, error, [(str(one.message), one.category) for one in caught]))
