"""The bench on a GPU: it trains, repeats itself exactly, learns what the CPU learns, and packs. Needs a GPU."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adma.bench.data import Dataset, catalog
from adma.bench.engines import Began, Finished, Retried
from adma.bench.engines.cuda import CudaMeter
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.packing import Packing
from adma.bench.engines.work import Worker
from adma.bench.result import DONE
from adma.bench.study import Cell, Setting
from adma.bench.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("loss", ["cce", "adma:a=0.26", "adma:a=learn", "mse", "bi_tempered"])
@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_twice_the_same_and_what_the_cpu_learns(loss, model, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    data = catalog.load("digits")
    setting = Setting(data="digits", data_hash=data.fingerprint, model=model, epochs=3, label_noise="0.2:symmetric")
    cell = Cell(setting, loss, 0)
    first, second, cpu = train(cell, data, device="cuda"), train(cell, data, device="cuda"), train(cell, data)
    assert first.status == "done"
    for column in ("train_loss", "val_accuracy", "test_nll"):
        np.testing.assert_array_equal(first.epochs[column], second.epochs[column])
    assert first.env["shared"] == cpu.env["shared"]
    # other kernels round otherwise, and the difference grows while it trains
    np.testing.assert_allclose(first.epochs["train_loss"][0], cpu.epochs["train_loss"][0], rtol=0.05)
    assert first.final("test_accuracy") == pytest.approx(cpu.final("test_accuracy"), abs=0.05)


@pytest.mark.parametrize("model", ["mlp", "convnet"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "sgd:momentum=0.9"])
def test_a_recorded_step_is_the_step(model, optimizer, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    data = catalog.load("digits")
    setting = Setting(
        data="digits",
        data_hash=data.fingerprint,
        model=model,
        epochs=3,
        optimizer=optimizer,
        lr=1e-3,
        augment="shift=0.1",
    )
    cell = Cell(setting, "adma:a=0.26", 0)
    recorded, plain = (train(cell, data, device="cuda", record=record) for record in (True, False))
    assert recorded.env["recorded"]
    assert not plain.env["recorded"]
    np.testing.assert_allclose(recorded.epochs["train_loss"], plain.epochs["train_loss"], rtol=2e-2)
    assert recorded.final("test_accuracy") == pytest.approx(plain.final("test_accuracy"), abs=0.02)


def digits(cell: Cell) -> Dataset:
    return catalog.load("digits")


def test_several_trainings_on_one_gpu_are_what_each_is_alone(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    data = catalog.load("digits")
    setting = Setting(data="digits", data_hash=data.fingerprint, model="convnet", epochs=20)
    cells = [Cell(setting, "adma:a=0.26", seed) for seed in range(6)]
    packing = Packing(["cuda:0"], CudaMeter())
    engine = LocalEngine(Worker(digits, device="cuda"), jobs=3, packing=packing)
    running, most, found = 0, 0, {}
    for event in engine.run(cells):
        running += isinstance(event, Began) - isinstance(event, (Finished, Retried))
        most = max(most, running)
        if isinstance(event, Finished):
            assert event.result.cell.key not in found
            found[event.result.cell.key] = event.result
    assert most == 3  # three of them are small for any GPU
    for cell in cells:
        ours, alone = found[cell.key], train(cell, data, device="cuda:0")
        assert ours.status == DONE, ours.reason
        assert ours.env["weights"] == alone.env["weights"]
        for column in ("train_loss", "val_accuracy", "test_nll"):
            np.testing.assert_array_equal(ours.epochs[column], alone.epochs[column])


def hog(in_channels: int, num_classes: int) -> nn.Module:
    """Holds more than half of the GPU, and stays until that was too much for another one."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
    refused = Path(os.environ["ADMA_TEST_REFUSED"])
    try:
        total = torch.cuda.get_device_properties(0).total_memory
        network.held = [torch.empty(int(0.55 * total), dtype=torch.uint8, device="cuda")]  # type: ignore[assignment]
    except torch.OutOfMemoryError:
        refused.touch()
        raise
    end = time.monotonic() + 120
    while not refused.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return network


def test_where_the_memory_of_a_gpu_runs_out_beside_another_a_training_waits_for_it(monkeypatch, tmp_path):
    monkeypatch.setenv("ADMA_TEST_REFUSED", str(tmp_path / "refused"))
    setting = Setting(
        data="digits", data_hash=catalog.load("digits").fingerprint, model=f"{__name__}:hog", epochs=2
    )  # fmt: skip
    cells = [Cell(setting, "cce", seed) for seed in range(2)]
    packing = Packing(["cuda:0"], CudaMeter(), measured=False)
    events = list(LocalEngine(Worker(digits, device="cuda"), jobs=2, packing=packing).run(cells))
    (retried,) = [event for event in events if isinstance(event, Retried)]
    assert "on cuda:0 beside 1 other training" in retried.reason
    ended = [event.result for event in events if isinstance(event, Finished)]
    assert [(result.status, result.env["pieces"]) for result in ended] == [(DONE, 1), (DONE, 1)]
