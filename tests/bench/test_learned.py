"""A loss that is learned while a cell trains: what it holds out, what it shares with other losses, what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adma_command import adma

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.loading import held_out_of, split_of
from adma.bench.result import DONE
from adma.bench.study import Cell, Setting
from adma.bench.train import train


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def cell(digits: Dataset, loss: str, **options: object) -> Cell:
    setting = Setting("digits", digits.fingerprint, model="mlp", epochs=3, train_size=400, **options)  # type: ignore[arg-type]
    return Cell(setting, loss, 0)


def test_the_held_out_samples_are_set_aside_and_counted(digits: Dataset) -> None:
    learned, fixed = (train(cell(digits, loss), digits) for loss in ("adma:a=learn", "adma:a=0.26"))
    assert learned.status == fixed.status == DONE
    assert learned.env["sizes"] == {"train": 400, "val": 359, "test": 359, "held_out": 40}
    assert "held_out" not in fixed.env["sizes"]
    assert learned.env["shared"] == fixed.env["shared"]  # so the losses are compared seed by seed
    # 360 samples in batches of 64 are 6 steps an epoch; the shape moves at every 16th
    assert learned.trace["step"].tolist() == [0, 16]
    assert learned.trace["epoch"].tolist() == [0, 16 / 6]
    assert learned.trace["a"][0] == 0.26 != learned.trace["a"][1]
    assert not fixed.trace


def test_the_weights_never_see_what_is_held_out(digits: Dataset) -> None:
    """Other pixels in the held-out samples leave the weights as they are while the shape has not moved."""
    one = cell(digits, "adma:a=learn", batch_size=400)  # one step an epoch, so the shape never moves
    split = split_of(one, digits)
    places = split.train[held_out_of(one, digits, split)]
    x = digits.x.copy()
    x[places] = np.roll(x[places], 1, axis=0)  # the same pixels altogether: the normalisation is the same
    other = replace(digits, x=x)
    runs = [train(one, data) for data in (digits, other)]
    for column in ("train_loss", "test_nll", "test_accuracy"):
        assert runs[0].epochs[column] == pytest.approx(runs[1].epochs[column], rel=1e-4)
    seen = digits.x.copy()
    trained = np.setdiff1d(split.train, places)
    seen[trained] = np.roll(seen[trained], 1, axis=0)
    assert train(one, replace(digits, x=seen)).epochs["train_loss"][-1] > 1.02 * runs[0].epochs["train_loss"][-1]


def test_a_learned_cell_repeats_itself_bit_by_bit(digits: Dataset) -> None:
    one = cell(digits, "gce:q=learn/0.5", batch_size=16)
    first, second = train(one, digits), train(one, digits)
    assert len(first.trace["q"]) == 1 + 3 * 23 // 16
    for name, values in first.trace.items():
        assert values.tolist() == second.trace[name].tolist()
    assert first.epochs["test_nll"].tolist() == second.epochs["test_nll"].tolist()


def test_a_learned_and_a_scheduled_parameter_go_together(digits: Dataset) -> None:
    found = train(cell(digits, "adma:a=learn/0.2,base=linear/2/3", batch_size=16), digits).trace
    assert found["base"][0] == 2.0
    assert found["base"][-1] == pytest.approx(3.0)
    assert len(set(found["a"])) == 1 + 3 * 23 // 16


def test_a_class_with_a_single_sample_cannot_be_on_both_sides(digits: Dataset) -> None:
    with pytest.raises(BenchError, match="a loss that is learned holds out a part of the training samples"):
        train(
            replace(cell(digits, "adma:a=learn"), setting=replace(cell(digits, "cce").setting, train_size=10)), digits
        )


def test_compare_learns_and_stores_what_it_learned(tmp_path: Path) -> None:
    command = ["compare", "digits", "--model", "mlp", "--epochs", "2", "--seeds", "2"]
    command += ["--loss", "cce", "--loss", "adma:a=learn", "--batch-size", "32", "--jobs", "1", "--out", str(tmp_path)]
    done = adma(*command)
    assert done.returncode == 0, done.stderr
    assert "adma:a=learn" in done.stdout
    results = Folder(tmp_path).results()
    learned = results.of("adma:a=learn")
    assert all(len(c.trace["a"]) > 2 for c in learned)
    assert not any(c.trace for c in results.of("cce"))
    page = (tmp_path / "report.html").read_text()
    assert "shape over training" in page.lower()
