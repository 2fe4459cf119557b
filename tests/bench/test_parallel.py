"""Two processes that train one cell: its rows, its weights and its learned shape are those of one process."""

from __future__ import annotations

import socket
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


# trainings of one process that hardly feel a change of 6e-8 in every initial weight (a fiftieth of the tolerance): what
# two processes add up in another order shows no more than that, and a batch divided wrongly far more
CELLS = {
    "an MLP": cell("adma:a=0.26", optimizer="sgd:momentum=0.9", lr=0.05),
    "a ConvNet": cell(model="convnet:filters=4", epochs=1, optimizer="sgd", lr=0.01, augment="rotate=10,shift=0.1"),
    "whole batches": cell("adma:a=0.26", train_size=192, optimizer="sgd:momentum=0.9", lr=0.05),
    "plateau": cell("mse", lr_schedule="plateau", optimizer="sgd", lr=0.1),
    "a learned shape": cell("adma:a=learn", train_size=400, batch_size=16, optimizer="sgd", lr=0.01),
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
    found |= {f"{name}, in pieces": train(CELLS[name], digits(), parallel=group, pieces=3) for name in IN_PIECES}
    some = CELLS["a learned shape"]
    first = {"keeper": Keeper(folder, some), "pulse": Stop(30)} if rank == 0 else {}
    with pytest.raises(StoppedError):
        train(some, digits(), parallel=group, **first)  # type: ignore[arg-type]
    first = {"keeper": Keeper(folder, some, keep=False)} if rank == 0 else {}
    found["resumed"] = train(some, digits(), parallel=group, **first)  # type: ignore[arg-type]
    start, stop = group.bounds(3)
    found["gathered"] = group.gathered(torch.tensor([[np.nan, 2.0], [-np.inf, 3.0], [4.0, 5.0]])[start:stop], 3)
    start, stop = group.bounds(1)
    found["fewer than processes"] = group.gathered(torch.ones(1, 2)[start:stop], 1)
    found["normalised"] = normalised(group)
    return found


# batches that are small already would be normalised over three samples, which makes much of every rounding
IN_PIECES = ("whole batches", "a ConvNet")


def normalised(group: Group | None) -> list[tuple[str, Tensor]]:
    """Layers in float64 on 7 samples, none of them the second process's: what is the same, stacked or added up."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for layer, shape in (
        (nn.BatchNorm1d(3), (7, 3)),
        (nn.BatchNorm1d(3, affine=False), (7, 3, 2)),
        (nn.BatchNorm2d(3, momentum=None), (7, 3, 2, 2)),
        (nn.Sequential(nn.BatchNorm3d(3), nn.Dropout3d(0.5), nn.Dropout(0.3)), (7, 3, 2, 1, 2)),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Dropout2d(0.5)), (7, 3, 2, 2)),
        (nn.Sequential(nn.Dropout1d(0.5), nn.Dropout(1.0)), (7, 3, 2)),
    ):
        layer = layer.double()
        torch.manual_seed(1)
        part = Part(7, 0, 7)
        if group is not None:
            part = Part(7, *((0, 7), (7, 7))[group.rank])
            synchronise(layer, part)
        for _ in range(2):
            x, pull = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
            x.requires_grad_()
            y = layer(x[part.start : part.stop])
            y.backward(pull[part.start : part.stop])
        assert x.grad is not None
        found += [("stacked", y.detach()), ("added", x.grad)]
        found += [("added", p.grad) for p in layer.parameters() if p.grad is not None]
        found += [("same", buffer) for buffer in layer.buffers()]
        found += [("same", torch.rand(1)), ("same", layer.eval()(x).detach())]  # the random state, and evaluation
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
    return [torch.load(folder / str(rank), weights_only=False) | {"folder": folder} for rank in range(2)]


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
    assert both[0][name].reason == alone.reason


@pytest.mark.parametrize("name", IN_PIECES)
def test_also_where_the_batch_is_taken_in_pieces(both: list[dict[str, Any]], name: str) -> None:
    check(both[0][f"{name}, in pieces"], train(CELLS[name], digits(), pieces=3))


@pytest.mark.parametrize("name", [*CELLS, "resumed"])
def test_both_processes_have_the_same_to_the_last_bit(both: list[dict[str, Any]], name: str) -> None:
    first, second = (found[name] for found in both)
    assert what_counts(first) == what_counts(second)


def test_a_learned_shape_is_that_of_one_process(both: list[dict[str, Any]]) -> None:
    trace, alone = both[0]["a learned shape"].trace, train(CELLS["a learned shape"], digits()).trace
    assert list(trace["step"]) == list(alone["step"])
    assert len(set(alone["a"])) > 1
    np.testing.assert_allclose(trace["a"], alone["a"], rtol=TOLERANCE)


def test_what_was_stopped_goes_on_to_the_same_end(both: list[dict[str, Any]]) -> None:
    assert both[0]["resumed"].env["resumed_at"] == [2, 6]
    assert what_counts(both[0]["resumed"]) == what_counts(both[0]["a learned shape"])


def test_one_process_goes_on_from_what_two_began(both: list[dict[str, Any]]) -> None:
    some = CELLS["a learned shape"]
    found = train(some, digits(), keeper=Keeper(both[0]["folder"], some, keep=False))
    assert found.env["resumed_at"] == [2, 6]
    check(both[0]["a learned shape"], found)
    np.testing.assert_allclose(found.trace["a"], both[0]["a learned shape"].trace["a"], rtol=TOLERANCE)


def test_every_sample_is_measured_once(both: list[dict[str, Any]]) -> None:
    for found in both:
        assert torch.equal(
            found["gathered"].nan_to_num(7.0), torch.tensor([[7.0, 2.0], [-np.inf, 3.0], [4.0, 5.0]]).nan_to_num(7.0)
        )
        assert torch.equal(found["fewer than processes"], torch.ones(1, 2))


def test_layers_see_the_whole_batch(both: list[dict[str, Any]]) -> None:
    pairs = zip(*(found["normalised"] for found in both), normalised(None), strict=True)
    for (kind, first), (_, second), (_, wanted) in pairs:
        if kind == "same":
            assert torch.equal(first, second)
        else:
            first = torch.cat([first, second]) if kind == "stacked" else first + second
        torch.testing.assert_close(first, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(3, track_running_stats=False), "no running statistics"),
        (type("Own", (nn.BatchNorm2d,), {})(3), "is a Own"),
    ],
)
def test_a_layer_whose_batch_is_not_known_is_refused(layer: nn.Module, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        synchronise(nn.Sequential(nn.Linear(2, 3), layer), Part())


def test_the_key_of_a_cell_says_nothing_of_devices() -> None:
    assert "devices" not in cell().config()
