"""Losses that look past the logits, in the bench: by their specs, beside others, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adma_command import adma

from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.models import check_model
from adma.bench.result import DONE
from adma.bench.study import Cell, Setting
from adma.bench.train import train

LAYERLESS = """
from torch import nn
def network(in_channels, num_classes):
    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 8), nn.Flatten())
"""


@pytest.mark.parametrize(
    ("loss", "model", "epochs"),
    [
        ("l_softmax:margin=2", "mlp", 6),
        ("l_softmax:margin=2,lam=geometric/1000/5", "convnet", 2),  # eased in, as its paper does
        ("semantic:strength=0.05", "convnet", 2),
        ("semantic:strength=0.5,constraint=at_most_one", "mlp", 6),
    ],
)
def test_a_cell_learns(loss: str, model: str, epochs: int) -> None:
    digits = load("digits")
    setting = Setting("digits", digits.fingerprint, model=model, epochs=epochs, train_size=600)
    found = train(Cell(setting, loss, 0), digits)
    assert found.status == DONE
    assert found.epochs["test_accuracy"][-1] > 0.7
    assert np.isnan(found.epochs["test_nll_posterior"]).all()  # they determine none


def test_margin_1_trains_what_cross_entropy_trains() -> None:
    digits = load("digits")
    setting = Setting("digits", digits.fingerprint, model="mlp", epochs=2, train_size=300)
    plain, margin = (train(Cell(setting, loss, 0), digits) for loss in ("cce", "l_softmax:margin=1"))
    np.testing.assert_allclose(plain.epochs["train_loss"], margin.epochs["train_loss"], rtol=1e-4)
    assert plain.env["shared"] == margin.env["shared"]


def test_the_command_compares_them(tmp_path: Path) -> None:
    words = ["compare", "digits", "--model", "mlp", "--epochs", "2", "--seeds", "2", "--train-size", "200"]
    for loss in ("cce", "l_softmax:margin=2", "semantic"):
        words += ["--loss", loss]
    done = adma(*words, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "l_softmax:margin=2" in done.stdout
    assert "semantic:strength=0.05" in done.stdout


def test_a_network_without_a_last_layer_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layerless.py").write_text(LAYERLESS)
    monkeypatch.chdir(tmp_path)
    check_model("layerless:network", (1, 8, 8), 10, ["cce"])
    with pytest.raises(BenchError, match=r"--loss l_softmax:margin=2 with --model layerless:network: .*nn.Linear"):
        check_model("layerless:network", (1, 8, 8), 10, ["cce", "l_softmax:margin=2"])
