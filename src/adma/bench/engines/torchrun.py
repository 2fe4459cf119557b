"""A command under torchrun: its first process is the command, the others train with it.

torchrun starts the same command several times and gives all of them one store of keys. The first process runs it as
ever; its worker begins crews, numbered in the store. Each of the other processes starts one that follows for every
crew, ends it when the crew has failed, and itself ends when the command does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from adma.bench.errors import BenchError

if TYPE_CHECKING:
    import torch.distributed as dist

_LOOK = 0.1  # seconds between two looks at the store
_GRACE = 10.0  # seconds that a process has to end by itself when the command has
_OVER = "adma/over"


def size() -> int:
    """How many processes torchrun has started for one training; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def run(command: Callable[[], int], device: Callable[[], str]) -> int:
    """The command in the first process, and what serves it in the others.

    Args:
        command: gives the exit code.
        device: gives the kind of device, "cpu" or "cuda".
    """
    if size() == 1:
        return command()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise BenchError("torchrun: its agent keeps no store for the processes; start it with --standalone")
    if int(os.environ["RANK"]):
        return _serve(device())
    try:
        return command()
    finally:
        _store().set(_OVER, "")


def begin() -> tuple[int, dist.Store]:
    """Begin a crew, in the first process's worker: its number, and the store where it meets."""
    import torch.distributed as dist

    base = _store()
    number = base.add("adma/crews", 1)
    base.set(f"adma/{number}/begun", "")
    return number, dist.PrefixStore(f"adma/{number}", base)


def end(number: int) -> None:
    """A crew has failed: what still follows it is ended."""
    _store().set(f"adma/{number}/failed", "")


def _serve(device: str) -> int:
    from adma.bench.engines.follower import start

    for which in (signal.SIGINT, signal.SIGTERM):  # what is asked of all is the first one's to decide
        signal.signal(which, signal.SIG_IGN)
    store = _store()
    for number in count(1):
        while not store.check([f"adma/{number}/begun"]):
            if store.check([_OVER]):
                return 0
            time.sleep(_LOOK)
        process = start(
            int(os.environ["RANK"]), size(), _host(), _port(), f"adma/{number}", device, int(os.environ["LOCAL_RANK"])
        )
        while process.poll() is None:
            if store.check([_OVER]):
                try:
                    process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
            elif store.check([f"adma/{number}/failed"]) or store.check([f"adma/{number + 1}/begun"]):
                process.kill()
            time.sleep(_LOOK)
    raise AssertionError("unreachable")


def _store() -> dist.Store:
    import torch.distributed as dist

    return dist.TCPStore(_host(), _port(), is_master=False)


def _host() -> str:
    return os.environ["MASTER_ADDR"]


def _port() -> int:
    return int(os.environ["MASTER_PORT"])
