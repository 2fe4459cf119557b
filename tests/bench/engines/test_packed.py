"""Several trainings on one device, for real, with a device that has so much memory: each ends once, as it would alone.

The device is a folder: each process writes into it what it holds, and a network that asks for more than is left gets
torch.OutOfMemoryError.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Event, Finished, Reached, Retried, Stopped
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.packing import Caution, Packing, Reading
from adma.bench.engines.work import Worker
from adma.bench.result import DONE, CellResult
from adma.bench.study import Cell, Setting

CONTEXT = 2
_HERE: list[tuple[FakeDevices, str]] = []  # in a worker: the devices, and which is its own


@dataclass(frozen=True)
class FakeDevices:
    """`packing.Meter` of devices with `total` units of memory each."""

    root: Path
    total: int

    def memory(self, device: str) -> tuple[int, int]:
        with self._locked():
            return self._free(device), self.total

    def read(self, device: str) -> Reading:
        with self._locked():
            return Reading(*self._mine(device), self._free(device))

    def reset(self, device: str) -> None:
        _HERE[:] = [(self, device)]
        with self._locked():
            self._write(device, 0, 0)

    def take(self, device: str, units: int) -> None:
        with self._locked():
            now, peak = self._mine(device)
            if units > self._free(device):
                (self.root / f"refused-{os.getpid()}-{units}").touch()
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {units}.")
            self._write(device, now + units, max(peak, now + units))

    def _free(self, device: str) -> int:
        used = 0
        for path in self.root.glob(f"{device}-*"):
            try:
                os.kill(int(path.name.rpartition("-")[2]), 0)
            except ProcessLookupError:
                continue  # what it held is free
            used += CONTEXT + json.loads(path.read_text())[0]
        return self.total - used

    def _mine(self, device: str) -> tuple[int, int]:
        now, peak = json.loads((self.root / f"{device}-{os.getpid()}").read_text())
        return now, peak

    def _write(self, device: str, now: int, peak: int) -> None:
        (self.root / f"{device}-{os.getpid()}").write_text(json.dumps([now, peak]))

    def _locked(self) -> FileLock:
        return FileLock(self.root / ".lock")


class Hungry(nn.Sequential):
    """Takes a part of what it needs where it is made, and the rest in its third step.

    Args:
        most: samples at a time that it has memory for.
        waits: in its second epoch, until another one was refused memory.
    """

    def __init__(self, need: int, *, most: int = 10**6, waits: bool = False) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.left, self.steps, self.most, self.waits = need - need // 3, 0, most, waits
        take(need // 3)

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        if self.training and len(x) > self.most:
            take(10**6)
        if self.steps == 3:
            take(self.left)
            self.left = 0
        if self.steps == 8 and self.waits and _HERE:
            end = time.monotonic() + 120
            while not list(_HERE[0][0].root.glob("refused-*")) and time.monotonic() < end:
                time.sleep(0.05)
        return super().forward(x)


def take(units: int) -> None:
    if _HERE:  # else it is trained without a meter
        devices, device = _HERE[0]
        devices.take(device, units)


def even(in_channels: int, num_classes: int) -> nn.Module:
    return Hungry(20)


def uneven(in_channels: int, num_classes: int) -> nn.Module:
    """Needs more or less by its seed; one that needs little is there until that was too much."""
    need = need_of(torch.initial_seed())
    return Hungry(need, waits=need == 15)


def need_of(seed: int) -> int:
    return 15 + seed % 3 * 30


def too_much(in_channels: int, num_classes: int) -> nn.Module:
    return Hungry(20, most=40)


def digits(cell: Cell) -> Dataset:
    return load("digits")


def cells(network: str, count: int, epochs: int = 2) -> list[Cell]:
    setting = Setting(
        "digits", load("digits").fingerprint, model=f"{__name__}:{network}", epochs=epochs, train_size=320,
        eval_size=100,
    )  # fmt: skip
    return [Cell(setting, "cce", seed) for seed in range(count)]


def packing(root: Path, total: int, devices: int = 1) -> Packing:
    caution = Caution(reserve=2, reserve_share=0.0, context=CONTEXT, margin=1.0, more=1.25)
    return Packing([f"cpu:{n}" for n in range(devices)], FakeDevices(root, total), caution=caution)


def results(events: list[Event]) -> dict[str, CellResult]:
    ended = [event.result for event in events if isinstance(event, Finished)]
    assert max(Counter(result.cell.key for result in ended).values()) == 1
    return {result.cell.key: result for result in ended}


def assert_as_alone(found: dict[str, CellResult], some: list[Cell]) -> None:
    """Rows and weights are those of one after the other, without a meter."""
    worker = Worker(digits, threads=1)
    assert found.keys() == {cell.key for cell in some}
    for cell in some:
        key, theirs = cell.key, worker.train(cell, lambda number, row: None)
        assert theirs is not None
        assert (found[key].status, theirs.status) == (DONE, DONE), found[key].reason
        assert found[key].env["pieces"] == 1
        assert found[key].env["weights"] == theirs.env["weights"]
        for name, column in theirs.epochs.items():
            if name != "seconds":
                np.testing.assert_array_equal(found[key].epochs[name], column, err_msg=name)


def most_at_once(events: list[Event], devices: int) -> list[int]:
    """How many trainings ran at once, on each device."""
    now: dict[str, str] = {}
    most = [0] * devices
    for event in events:
        if isinstance(event, Began):
            now[event.cell.key] = event.worker.rpartition(" ")[2]
        elif isinstance(event, (Finished, Retried, Stopped)):
            now.pop(event.result.cell.key if isinstance(event, Finished) else event.cell.key)
        for n in range(devices):
            most[n] = max(most[n], sum(device == f"cpu:{n}" for device in now.values()))
    return most


@pytest.mark.slow
def test_as_many_as_fit_train_at_once(tmp_path: Path) -> None:
    some = cells("even", 5)
    engine = LocalEngine(Worker(digits, threads=1), jobs=3, packing=packing(tmp_path, 50, devices=2))
    events = list(engine.run(some))
    assert_as_alone(results(events), some)
    most = most_at_once(events, 2)
    assert max(most) == 2  # twice 22 and a reserve of 2
    assert min(most) >= 1  # two, if others had ended there before the last ones began
    assert not [event for event in events if isinstance(event, Retried)]
    assert not list(tmp_path.glob("refused-*"))


@pytest.mark.slow
def test_where_memory_runs_out_beside_others_it_is_trained_later_as_if_nothing_had_been(tmp_path: Path) -> None:
    """The first one needs 15, and so do all of its kind, it seems."""
    of = {need_of(cell.stream_seed("init")): cell for cell in cells("uneven", 20)}
    some = [of[15], of[75], of[45]]
    engine = LocalEngine(Worker(digits, threads=1), jobs=3, packing=packing(tmp_path, 90))
    events = list(engine.run(some))
    found = results(events)
    assert list(tmp_path.glob("refused-*"))
    retried = [event for event in events if isinstance(event, Retried)]
    assert retried
    for event in retried:
        assert "on cpu:0 beside " in event.reason
        assert event.reason in found[event.cell.key].env["faults"]
    assert_as_alone(found, some)


@pytest.mark.slow
def test_alone_on_the_device_it_takes_half_the_batch(tmp_path: Path) -> None:
    (cell,) = cells("too_much", 1)
    (result,) = results(list(LocalEngine(Worker(digits), jobs=4, packing=packing(tmp_path, 50)).run([cell]))).values()
    assert (result.status, result.env["pieces"]) == (DONE, 2), result.reason
    (fault,) = result.env["faults"]
    assert "CUDA out of memory" in fault
    assert "half the batch" in fault


@pytest.mark.slow
def test_stop_ends_those_that_wait_for_memory_too(tmp_path: Path) -> None:
    some = cells("even", 3, epochs=3000)
    engine = LocalEngine(Worker(digits, threads=1), jobs=3, packing=packing(tmp_path, 30))
    events: list[Event] = []
    for event in engine.run(some):
        events.append(event)
        if isinstance(event, Reached) and event.epoch == 2:
            engine.stop()
    stopped = [event.cell for event in events if isinstance(event, Stopped)]
    assert sorted(cell.seed for cell in stopped) == [0, 1]  # one trains, one waits; the third was not taken
    assert not [event for event in events if isinstance(event, Finished)]
