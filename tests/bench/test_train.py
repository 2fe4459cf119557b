"""The training loop: it learns, it repeats itself exactly, it is fair, and it records what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.result import COLUMNS, DIVERGED, DONE, CellResult
from adma.bench.study import Cell, Setting
from adma.bench.train import _batches, _normalisation, train


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def cell(digits: Dataset, loss: str = "cce", seed: int = 0, **setting: object) -> Cell:
    options = {"epochs": 2, "train_size": 300, **setting}
    return Cell(replace(Setting("digits", digits.fingerprint), **options), loss, seed)  # type: ignore[arg-type]


def numbers(result: CellResult) -> dict[str, list[str]]:
    return {name: list(map(repr, values)) for name, values in result.epochs.items() if name != "seconds"}


@pytest.mark.parametrize("loss", ["cce", "adma:a=0.26", "mse", "squared_hinge", "bi_tempered:t1=0.8,t2=1.2"])
def test_every_kind_of_loss_learns_the_digits(digits: Dataset, loss: str) -> None:
    result = train(cell(digits, loss, epochs=4, train_size=None), digits)
    assert result.status == DONE
    assert list(result.epochs) == list(COLUMNS)
    assert list(result.epochs["epoch"]) == [1, 2, 3, 4]
    assert result.final("test_accuracy") > 0.9


def test_a_cell_repeats_itself_bit_by_bit_whatever_ran_before(digits: Dataset) -> None:
    augmented = cell(digits, augment="rotate=10,shift=0.1")
    first = train(augmented, digits)
    train(cell(digits, "mse", seed=5), digits)
    torch.manual_seed(123)
    second = train(augmented, digits)
    assert numbers(first) == numbers(second)
    assert first.env["shared"] == second.env["shared"]


def test_the_losses_of_a_seed_share_all_that_chance_decides_and_seeds_share_nothing(digits: Dataset) -> None:
    shared = [
        train(cell(digits, loss, seed, epochs=1, augment="shift=0.1"), digits).env["shared"]
        for loss, seed in (("cce", 0), ("adma:a=0.3", 0), ("cce", 1))
    ]
    assert shared[0] == shared[1]
    assert all(shared[0][key] != shared[2][key] for key in ("split", "init", "order", "augment"))


def test_a_diverged_training_is_a_result_with_its_reason(digits: Dataset) -> None:
    result = train(cell(digits, optimizer="sgd", lr=1e12, epochs=5), digits)
    assert result.status == DIVERGED
    assert "epoch" in result.reason
    assert 1 <= len(result.epochs["epoch"]) <= 5
    assert np.isnan(result.final("test_accuracy"))


def test_epochs_are_told_as_they_end(digits: Dataset) -> None:
    heard: list[tuple[int, float]] = []
    result = train(
        cell(digits, epochs=3), digits, on_epoch=lambda number, row: heard.append((number, row["test_accuracy"]))
    )  # fmt: skip
    assert heard == list(zip([1, 2, 3], result.epochs["test_accuracy"], strict=True))


def test_vectors_train_with_the_mlp() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    x = (np.eye(3)[y] @ rng.normal(size=(3, 6)) * 2 + rng.normal(size=(300, 6))).astype(np.float32)
    blobs = Dataset("blobs", x, y, ("a", "b", "c"))
    result = train(Cell(Setting("blobs", blobs.fingerprint, model="mlp", epochs=5), "cce", 0), blobs)
    assert result.final("test_accuracy") > 0.8


def test_normalisation_is_the_training_samples_own() -> None:
    x = torch.randint(256, (50, 3, 4, 5), dtype=torch.uint8)
    mean, scale = _normalisation(x)
    z = (x.float() - mean) * scale
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3))
    constant = torch.full((5, 2), 3.0)
    mean, scale = _normalisation(constant)
    assert ((constant - mean) * scale == 0).all()


def test_no_sample_is_lost_to_batches_and_none_stands_alone() -> None:
    for n in (1, 2, 64, 65, 128, 129, 130):
        parts = _batches(torch.arange(n), 64)
        assert torch.equal(torch.cat(parts), torch.arange(n))
        assert n == 1 or min(map(len, parts)) > 1


def test_the_loop_does_what_a_plain_loop_does(digits: Dataset) -> None:
    """One epoch written out independently: same split, order and weights, torch's own cross-entropy."""
    from adma.bench.data.splits import make_split
    from adma.bench.models import build_model

    c = cell(digits, epochs=1, model="mlp", weight_decay=0.0, optimizer="sgd", lr=0.1)
    result = train(c, digits)
    split = make_split(digits, seed=c.stream_seed("split"), train_size=300, val_fraction=0.2, test_fraction=0.2)
    x = torch.tensor(digits.x[split.train]).float()
    mean, std = x.mean(), x.std(correction=0)
    torch.manual_seed(c.stream_seed("init"))
    model = build_model("mlp", (1, 8, 8), 10)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(c.stream_seed("order", 1)))
    torch.manual_seed(c.stream_seed("dropout", 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = 0.0
    for index in order.split(64):
        loss = F.cross_entropy(model((x[index] - mean) / std), torch.tensor(digits.y[split.train])[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(index)
    model.eval()
    logits = model((torch.tensor(digits.x[split.test]).float() - mean) / std)
    assert result.final("train_loss") == pytest.approx(total / 300, rel=1e-4)
    expected = F.cross_entropy(logits, torch.tensor(digits.y[split.test]))
    assert result.final("test_nll") == pytest.approx(expected.item(), rel=1e-3)


def test_the_temperature_is_fitted_on_validation_and_its_gain_measured_on_test(digits: Dataset) -> None:
    """Written out on the network's own outputs: nothing of the test part enters the fit."""
    result = train(cell(digits, "adma:a=0.26", train_size=200, epochs=3, model="mlp", val_fraction=0.4), digits)
    measured = {part: result.epochs[f"{part}_nll"] for part in ("val", "test")}
    assert np.isfinite(result.epochs["temperature"]).all()
    assert (result.epochs["temperature"] > 0).all()
    assert (result.epochs["test_nll_scaled"] < measured["test"]).all()  # Adma's softmax is far from calibrated here
    for name in ("test_brier", "test_brier_posterior", "test_brier_scaled", "val_brier", "val_brier_posterior"):
        assert ((result.epochs[name] >= 0) & (result.epochs[name] <= 2)).all(), name
