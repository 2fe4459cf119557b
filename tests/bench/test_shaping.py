"""A scheduled loss in the bench: what it trains with, what is kept of it, what is refused."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import adma
from adma.bench import paper
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.folder import Folder, Results
from adma.bench.loss_specs import canonical_losses, known_here
from adma.bench.result import DIVERGED, DONE, CellResult
from adma.bench.shaping import Shaping
from adma.bench.study import Cell, Setting, Study
from adma.bench.train import train
from adma.cli import main
from adma.flex import FlexibleSpec


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def cell(digits: Dataset, loss: str, **setting: object) -> Cell:
    options = {"epochs": 2, "train_size": 300, "model": "mlp", **setting}
    return Cell(Setting("digits", digits.fingerprint, **options), loss, 0)  # type: ignore[arg-type]


def numbers(result: CellResult) -> dict[str, list[str]]:
    return {name: list(map(repr, values)) for name, values in result.epochs.items() if name != "seconds"}


def begun(spec: str, *, epochs: int, steps_per_epoch: int) -> Shaping:
    model = torch.nn.Linear(4, 3)
    shaping = Shaping(spec)
    shaping.begin(
        model, torch.optim.SGD(model.parameters(), lr=0.1), (torch.zeros(0, 4), torch.zeros(0).long()),
        epochs=epochs, steps_per_epoch=steps_per_epoch, batch_size=1, seed=0,
    )  # fmt: skip
    return shaping


def test_the_shape_goes_with_the_steps_and_is_traced_to_the_end() -> None:
    shaping = begun("adma:a=linear/0.1/0.5,base=geometric/2/8,normalize=true", epochs=2, steps_per_epoch=4)
    seen = []
    for _ in range(8):
        seen.append((shaping.loss_fn.a, shaping.loss_fn.base))  # type: ignore[attr-defined]
        shaping.step(torch.zeros(1, 4), torch.zeros(1).long())
    np.testing.assert_allclose(seen, [(0.1 + 0.05 * k, 2 * 4 ** (k / 8)) for k in range(8)])
    trace = shaping.trace()
    assert list(trace) == ["step", "epoch", "a", "base"]
    assert trace["step"].tolist() == list(range(9))
    assert trace["epoch"].tolist() == [k / 4 for k in range(9)]
    assert list(zip(trace["a"], trace["base"], strict=True)) == [*seen, (0.5, 8.0)]


def test_a_fixed_loss_has_no_trace() -> None:
    shaping = begun("adma:a=0.3", epochs=1, steps_per_epoch=1)
    for _ in range(2):  # there is nothing to count
        shaping.step(torch.zeros(1, 4), torch.zeros(1).long())
    assert shaping.trace() == {}
    assert shaping.loss_fn.member == adma.parse("adma:a=0.3")


def test_a_training_under_a_flat_schedule_is_the_fixed_losss(digits: Dataset) -> None:
    fixed, flat, moving = (
        train(cell(digits, f"adma:a={a},normalize=true"), digits) for a in ("0.3", "linear/0.3/0.3", "linear/0.01/0.3")
    )
    assert numbers(flat) == numbers(fixed)
    assert numbers(moving) != numbers(fixed)
    assert flat.env["shared"] == moving.env["shared"] == fixed.env["shared"]
    assert fixed.trace == {}
    assert set(flat.trace["a"]) == {0.3}
    steps = 2 * math.ceil(300 / 64)
    assert moving.trace["a"] == pytest.approx(np.linspace(0.01, 0.3, steps + 1))
    assert moving.trace["epoch"][-1] == 2


def test_a_training_that_diverges_keeps_its_trace_so_far(digits: Dataset) -> None:
    result = train(cell(digits, "poly1:epsilon=linear/0/1", optimizer="sgd", lr=1e12, epochs=5), digits)
    assert result.status == DIVERGED
    assert len(result.trace["epsilon"]) == len(result.epochs["epoch"]) * 5 + 1


def test_the_store_keeps_the_trace(tmp_path: Path, digits: Dataset) -> None:
    study = Study(cell(digits, "cce").setting, ("adma:a=linear/0.1/0.2", "cce"), (0,))
    store = Folder(tmp_path)
    store.open(study, about={})
    trace = {"step": np.arange(3), "epoch": np.array([0, 0.5, 1]), "a": np.array([0.1, 0.15, 0.2])}
    moving, fixed = study.cells()
    store.write(CellResult(moving, DONE, trace=trace))
    store.write(CellResult(fixed, DONE))
    back = store.read(moving).trace
    assert {name: values.tolist() for name, values in back.items()} == {k: v.tolist() for k, v in trace.items()}
    assert store.read(fixed).trace == {}
    assert not (store.cells_dir / fixed.key / "trace.parquet").exists()
    path = store.cells_dir / moving.key / "trace.parquet"
    path.write_bytes(path.read_bytes()[:20])
    assert "cannot be read" in store.read(moving).reason


def test_losses_have_one_spelling() -> None:
    assert canonical_losses(["adma:normalize=true,a=linear/.05/0.4", "ce", "gce:q=learn/0.7"]) == (
        "adma:a=linear/0.05/0.4,normalize=true", "cce", "gce:q=learn",
    )  # fmt: skip
    with pytest.raises(BenchError, match="this loss is given twice"):
        canonical_losses(["adma:a=0.3", "adma:a=constant/0.3"])
    with pytest.raises(BenchError, match=r"--loss: 'adma:a=lineer/0.1/0.2': .* did you mean 'linear'"):
        canonical_losses(["adma:a=lineer/0.1/0.2"])


def test_a_report_reads_a_loss_in_silence_and_does_without_what_it_does_not_know() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert known_here("adma:a=linear/0.01/0.9") is not None
        assert known_here("cce") == FlexibleSpec(adma.parse("cce"))
        assert known_here("adma, a chosen") is None
        assert known_here("theirs:q=1") is None


def test_a_scheduled_adma_is_not_among_those_that_a_is_chosen_from(digits: Dataset) -> None:
    scheduled = "adma:a=linear/0.05/0.4"
    assert paper.with_grid((scheduled, "adma:a=0.3", "cce"), [0.1]) == ("adma:a=0.3", "adma:a=0.1", scheduled, "cce")
    study = Study(cell(digits, "cce").setting, ("adma:a=0.3", scheduled), (0,))
    cells = tuple(
        CellResult(c, DONE, epochs={"test_accuracy": np.array([v]), "val_accuracy": np.array([v])})
        for c, v in zip(study.cells(), (0.5, 0.9), strict=True)
    )
    choice = paper.choose(Results(study, cells), "clean")
    assert choice.chosen == {0: "adma:a=0.3"}
    assert choice.results.study.losses == (paper.CHOSEN, scheduled)


@pytest.mark.slow
def test_compare_trains_with_a_schedule_and_reports_it(tmp_path: Path) -> None:
    spec = "adma:a=linear/0.01/0.4,normalize=true"
    quick = ["digits", "--model", "mlp", "--epochs", "1", "--train-size", "200", "--seeds", "1", "--jobs", "1"]
    assert main(["compare", *quick, "--loss", "cce", "--loss", spec, "--out", str(tmp_path / "out")]) == 0
    results = Folder(tmp_path / "out").results()
    trace = results.of(spec)[0].trace
    assert (trace["a"][0], trace["a"][-1]) == (0.01, 0.4)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The shape over training" in page
    assert "adma.flex.ShapeScheduler(loss_fn, total_steps, a=&#34;linear/0.01/0.4&#34;)" in page
    (tmp_path / "out" / "report.html").unlink()
    assert main(["report", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").read_text() == page
