"""The bench on a GPU: it trains, repeats itself exactly, and learns what the CPU learns. Needs a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adma.bench.data import catalog
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
