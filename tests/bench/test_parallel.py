"""Two processes that train one cell: its rows, its weights and its learned shape are those of one process."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from adma.bench.checkpoint import Keeper
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.parallel import Group
from adma.bench.result import DIVERGED, DONE, CellResult
from adma.bench.study import Cell, Setting
from adma.bench.synced import Part, synchronise
from adma.bench.train import StoppedError, train

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this build of torch has no gloo")

# the sums of float32 gradients have another order
TOLERANCE = 1e-5


@cache
def digits() -> Dataset:
    return load("digits")


def cell(loss: str = "cce", **setting: object) -> Cell:
    options = {"epochs": 2, "train_size": 203, "eval_size": 101, "model": "mlp", **setting}
    return Cell(replace(Setting("digits", digits().fingerprint), **options), loss, 0)  # type: ignore[arg-type]


CELLS = {
    "an MLP": cell("adma:a=0.26", optimizer="sgd:momentum=0.9", lr=0.05),
    "a ConvNet": cell(model="convnet:filters=4", epochs=1, optimizer="sgd", lr=0.05, augment="rotate=10,shift=0.1"),
    "plateau": cell("mse", lr_schedule="plateau", optimizer="sgd", lr=0.1),
    "a learned shape": cell("adma:a=learn", train_size=400),
    "diverges": cell(optimizer="sgd", lr=1e12, epochs=3),
    "of a user": cell(model="test_parallel:unused", epochs=1),
}


class Unused(nn.Module):
    """A network with a weight that no output depends on."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(in_channels * 64, num_classes), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x.flatten(1))


def unused(in_channels: int, num_classes: int) -> nn.Module:
    return Unused(in_channels, num_classes)


class Stop:
    """A pulse that asks to stop after so many batches."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def run(rank: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    group = Group()
    found: dict[str, Any] = {name: train(some, digits(), parallel=group) for name, some in CELLS.items()}
    some = CELLS["a learned shape"]
    first = {"keeper": Keeper(folder, some), "pulse": Stop(8)} if rank == 0 else {}
    with pytest.raises(StoppedError):
        train(some, digits(), parallel=group, **first)  # type: ignore[arg-type]
    first = {"keeper": Keeper(folder, some)} if rank == 0 else {}
    found["resumed"] = train(some, digits(), parallel=group, **first)  # type: ignore[arg-type]
    whole = cell(epochs=1, pieces=1)if False else CELLS["an MLP"]
    found["in pieces"] = train(replace(whole, setting=replace(whole.setting, model="test_parallel:unused")), digits(), parallel=group, pieces=3)
    found["rows"] = group.gathered(torch.full((group.bounds(3)[1] - group.bounds(3)[0], 2), float(rank)), 3)
    found["none"] = group.gathered(torch.zeros(group.bounds(1)[1] - group.bounds(1)[0], 2), 1)
    return found


def worker(rank: int, port: int, folder: str) -> None:
    store = dist.TCPStore("127.0.0.1", port, 2, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        torch.save(run(rank, Path(folder)), Path(folder, str(rank)))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, (port, str(folder)), nprocs=2)
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(2)]


def what_counts(result: CellResult) -> tuple[object, ...]:
    """To the last bit."""
    epochs = {name: values.tobytes() for name, values in result.epochs.items() if name != "seconds"}
    trace = {name: values.tobytes() for name, values in result.trace.items()}
    return result.status, epochs, trace, result.env["weights"], result.env["shared"]


def check(found: CellResult, alone: CellResult, tolerance: float = TOLERANCE) -> None:
    assert found.status == alone.status
    for name, values in alone.epochs.items():
        if name != "seconds":
            np.testing.assert_allclose(found.epochs[name], values, rtol=tolerance, atol=tolerance, err_msg=name)
    assert found.env["shared"] == alone.env["shared"]
    assert found.env["sizes"] == alone.env["sizes"]
    assert (found.env["devices"], alone.env["devices"]) == (2, 1)


@pytest.mark.parametrize("name", CELLS)
def test_the_rows_are_those_of_one_process(both: list[dict[str, Any]], name: str) -> None:
    alone = train(CELLS[name], digits())
    assert alone.status == (DIVERGED if name == "diverges" else DONE)
    check(both[0][name], alone)
