"""A process that follows a worker: it trains what that one says, in step with it (`crew` says the rest)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import IO

import torch
import torch.distributed as dist

from adma.bench.data import Dataset
from adma.bench.engines.processes import die_with
from adma.bench.engines.troubles import out_of_memory, words
from adma.bench.parallel import Group
from adma.bench.study import Cell
from adma.bench.train import StoppedError, train

EVER = timedelta(days=365)  # an engine notices what hangs, by its own clock
_FOLLOW = "import sys; from adma.bench.engines.follower import follow; follow(*sys.argv[1:])"


@dataclass(frozen=True)
class Order:
    """What the worker tells the others to train."""

    cell: Cell
    load: Callable[[Cell], Dataset]
    threads: int
    pieces: int


NOTHING: Order | None = None


def start(
    rank: int,
    size: int,
    host: str,
    port: int,
    prefix: str,
    device: str,
    local_rank: int,
    errors: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that follows; it ends with this one.

    Args:
        rank, size: in the group.
        host, port, prefix: of the store where the group meets.
        device: "cpu" or "cuda".
        local_rank: which GPU of its machine it has.
        errors: a file for what it writes there; None: as this process's.
    """
    arguments = [str(v) for v in (rank, size, host, port, prefix, device, local_rank, os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-c", _FOLLOW, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for the one who leads
    )


def follow(*arguments: str) -> None:
    """The life of a process that follows: train what the first one says, until it says nothing more.

    Args:
        arguments: what `start` makes of its own.
    """
    host, prefix, device = arguments[2], arguments[4], arguments[5]
    rank, size, port, local_rank, parent = (int(arguments[k]) for k in (0, 1, 3, 6, 7))
    die_with(parent)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's condition for deterministic cuBLAS
    store = dist.PrefixStore(prefix, dist.TCPStore(host, port, is_master=False, timeout=EVER))
    store.set(f"here/{rank}", "")
    join(store, rank, size, device, local_rank)
    group = Group()
    dataset: Dataset | None = None
    while True:
        try:
            order = group.from_first(NOTHING)
        except RuntimeError:
            sys.exit(1)  # the first one is gone
        if order is None:
            dist.destroy_process_group()
            return
        loading = True
        try:
            torch.set_num_threads(order.threads)
            if dataset is None or dataset.fingerprint != order.cell.setting.data_hash:
                dataset = None  # frees the memory first
                dataset = order.load(order.cell)
            loading = False
            train(order.cell, dataset, device=device_of(device, local_rank), pieces=order.pieces, parallel=group)
        except StoppedError:
            continue
        except BaseException as error:
            if loading or not is_of_exchange(error):
                store.set(f"said/{rank}", json.dumps({"words": words(error), "memory": out_of_memory(error)}))
            os._exit(1)  # at once, so that the others notice


def join(store: dist.Store, rank: int, size: int, device: str, local_rank: int) -> None:
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    if device != "cpu":
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=size, timeout=EVER
    )  # fmt: skip


def device_of(device: str, local_rank: int) -> str:
    return device if device == "cpu" else f"{device}:{local_rank}"


def is_of_exchange(error: BaseException) -> bool:
    """Whether an error says that another process of the group did not answer."""
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl", "connection"))
