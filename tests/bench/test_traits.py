"""The course of training in numbers, on accuracies written by hand with answers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.result import DIVERGED, DONE, FAILED, MISSING, CellResult
from adma.bench.study import Setting, Study
from adma.bench.traits import TRAITS, Trait, measure, traits

SETTING = Setting(data="d", data_hash="0" * 16, epochs=4)


def made(runs: dict[str, list[list[float] | str]], *, train: float = 0.9, part: str = "val", env=None) -> Results:
    """Loss -> for each seed the accuracies after each epoch, or a status; training accuracy is `train` throughout."""
    study = Study(SETTING, tuple(runs), tuple(range(len(next(iter(runs.values()))))))
    cells = []
    for cell in study.cells():
        run = runs[cell.loss][cell.seed]
        if isinstance(run, str):
            cells.append(CellResult(cell, run, "because"))
            continue
        other = {"val": "test", "test": "val"}[part]
        epochs = {
            f"{part}_accuracy": np.array(run),
            f"{other}_accuracy": np.full(len(run), np.nan),
            "train_accuracy": np.full(len(run), train),
        }
        cells.append(CellResult(cell, DONE, epochs=epochs, env=env(cell) if env else {}))
    return Results(study, tuple(cells))


def one(results: Results, name: str, loss: str) -> Trait:
    return next(t for t in traits(results) if (t.name, t.loss) == (name, loss))


def of_run(name: str, *accuracy: float, train: float = 0.9) -> float:
    return measure(made({"cce": [list(accuracy)]}, train=train).cells[0], name)


def test_the_four_traits_of_a_run():
    run = (0.1, 0.5, 0.6, 0.8)
    assert of_run("first_epoch", *run) == 0.1
    assert of_run("auc", *run) == pytest.approx(0.5)
    assert of_run("gap", *run, train=0.95) == pytest.approx(0.15)
    # the changes into epochs 3 and 4 are 0.1 and 0.2: two values lie 0.1 / sqrt(2) from each other's mean, n - 1
    assert of_run("fluctuation", *run) == pytest.approx(0.1 / math.sqrt(2))


def test_fluctuation_leaves_the_first_half_out():
    assert of_run("fluctuation", 0.0, 0.9, 0.1, 0.6, 0.7, 0.8, 0.9, 1.0) == pytest.approx(
        np.std([0.1, 0.1, 0.1, 0.1], ddof=1), abs=1e-12
    )
    # an odd number of epochs: of 5, epochs 3, 4 and 5 are later than 2.5
    assert of_run("fluctuation", 0.0, 0.5, 0.6, 0.5, 0.8) == pytest.approx(np.std([0.1, -0.1, 0.3], ddof=1))


def test_a_steady_rise_is_no_fluctuation_and_a_saw_is_one():
    assert of_run("fluctuation", *np.linspace(0.1, 0.9, 10)) == pytest.approx(0.0, abs=1e-12)
    assert of_run("fluctuation", *[0.5, 0.6] * 5) > 0.1


def test_too_few_epochs_have_no_fluctuation():
    assert math.isnan(of_run("fluctuation", 0.1, 0.2, 0.9))
    assert of_run("auc", 0.1, 0.2, 0.9) == pytest.approx(0.4)
    results = made({"cce": [[0.1, 0.2, 0.3]], "mse": [[0.1, 0.2, 0.3]]})
    found = one(results, "fluctuation", "mse")
    assert (found.undefined, found.not_done, dict(found.values)) == (1, 0, {})
    assert found.estimate.n == 0
    assert found.to_baseline is not None
    assert found.to_baseline.estimate.n == 0


def test_differences_are_paired_by_seed_with_students_interval():
    firsts = {"cce": [0.1, 0.3, 0.8], "adma:a=0.26": [0.2, 0.5, 0.9]}
    results = made({loss: [[v, 0.5, 0.5, 0.5] for v in values] for loss, values in firsts.items()})
    found = one(results, "first_epoch", "adma:a=0.26")
    assert dict(found.values) == {0: 0.2, 1: 0.5, 2: 0.9}
    difference = found.to_baseline
    assert difference is not None
    assert (difference.loss, difference.other, difference.seeds) == ("adma:a=0.26", "cce", (0, 1, 2))
    expected = stats.ttest_rel(firsts["adma:a=0.26"], firsts["cce"]).confidence_interval(0.95)
    assert difference.estimate.mean == pytest.approx(0.4 / 3)
    assert difference.estimate.interval == pytest.approx((expected.low, expected.high))
    assert one(results, "first_epoch", "cce").to_baseline is None


def test_every_trait_of_every_loss_is_there_once_in_order():
    results = made({"mse": [[0.5] * 4], "cce": [[0.5] * 4]})
    assert [(t.name, t.loss) for t in traits(results)] == [(n, loss) for n in TRAITS for loss in ("mse", "cce")]


def test_runs_that_are_not_done_are_left_out_and_counted():
    good = [0.2, 0.4, 0.6, 0.7]
    results = made({"cce": [good, good, FAILED, good], "mse": [good, DIVERGED, good, MISSING]})
    cce, mse = (one(results, "auc", loss) for loss in ("cce", "mse"))
    assert (cce.not_done, mse.not_done) == (1, 2)
    assert (list(cce.values), list(mse.values)) == ([0, 1, 3], [0, 2])
    assert mse.to_baseline is not None
    assert mse.to_baseline.seeds == (0,)
    assert mse.to_baseline.estimate.interval is None


def test_a_baseline_that_never_finished_leaves_no_difference():
    results = made({"cce": [MISSING], "mse": [[0.1, 0.2, 0.3, 0.4]]})
    found = one(results, "auc", "mse")
    assert found.estimate.mean == pytest.approx(0.25)
    assert found.to_baseline is not None
    assert found.to_baseline.estimate.n == 0


def test_without_a_validation_part_the_test_part_is_measured_and_named():
    found = one(made({"cce": [[0.1, 0.2, 0.3, 0.4]]}, part="test"), "first_epoch", "cce")
    assert (found.part, dict(found.values)) == ("test", {0: 0.1})
    assert one(made({"cce": [[0.1] * 4]}), "first_epoch", "cce").part == "val"


def test_losses_that_did_not_share_their_split_are_refused():
    run = [0.1, 0.2, 0.3, 0.4]
    results = made({"cce": [run], "mse": [run]}, env=lambda cell: {"shared": {"split": cell.loss}})
    with pytest.raises(BenchError, match="same split"):
        traits(results)


def test_a_level_changes_the_interval_alone():
    results = made({"cce": [[0.1] * 4, [0.2] * 4], "mse": [[0.2] * 4, [0.5] * 4]})
    narrow, wide = (traits(results, level=level)[1].estimate for level in (0.5, 0.99))
    assert narrow.mean == wide.mean
    assert narrow.interval is not None
    assert wide.interval is not None
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"baseline": "ce"}, "baseline 'ce' is not in the study"), ({"level": 1.0}, "level must lie between 0 and 1")],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(BenchError, match=words):
        traits(made({"cce": [[0.1] * 4]}), **options)


def test_an_unknown_trait_is_named():
    with pytest.raises(BenchError, match="firts_epoch"):
        of_run("firts_epoch", 0.1)
