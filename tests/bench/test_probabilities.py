"""The quality of probabilities over seeds: paired, over the seeds that have a number, and said where some have none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from adma.bench.folder import Results
from adma.bench.probabilities import KINDS, MEASURES, probabilities
from adma.bench.result import CellResult
from adma.bench.statistics import METRICS, summarise
from adma.bench.study import Setting, Study


def make(columns: dict[str, list[float]], status: list[str] | None = None) -> Results:
    """One loss; column -> its value after the last epoch, seed by seed. The epoch before is a decoy."""
    n = len(next(iter(columns.values())))
    study = Study(Setting("d", "h"), ("adma",), tuple(range(n)))
    cells = []
    for i, cell in enumerate(study.cells()):
        epochs = {name: np.array([99.0, values[i]]) for name, values in columns.items()}
        cells.append(CellResult(cell, status[i] if status else "done", "", 1.0, epochs, {}))
    return Results(study, tuple(cells))


SOFTMAX, RECOVERED, SCALED = [0.5, 0.6, 0.55, 0.7], [0.4, 0.52, 0.49, 0.58], [0.45, 0.5, 0.5, 0.6]


def test_means_and_paired_differences_agree_with_scipy() -> None:
    columns = {"test_nll": SOFTMAX, "test_nll_posterior": RECOVERED, "test_nll_scaled": SCALED}
    (found,) = probabilities(make(columns), level=0.9)
    for kind, values in zip(KINDS, (SOFTMAX, RECOVERED, SCALED), strict=True):
        expected = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
        assert found.means[kind, "nll"].interval == pytest.approx(expected)
    for other, values in (("softmax", SOFTMAX), ("scaled", SCALED)):
        paired = stats.ttest_rel(RECOVERED, values).confidence_interval(0.9)
        difference = found.differences["recovered", other, "nll"]
        assert difference.interval == pytest.approx((paired.low, paired.high))
        assert difference.mean == pytest.approx(np.mean(RECOVERED) - np.mean(values))


def test_what_has_no_number_is_left_out_of_the_mean_and_told_by_its_n() -> None:
    columns = {
        f"test_{measure}{suffix}": [0.4, 0.5, 0.6] for measure in MEASURES for suffix in ("", "_posterior", "_scaled")
    }
    columns["test_nll_scaled"] = [0.3, math.nan, 0.4]
    columns["test_nll_posterior"] = [math.inf, 0.2, 0.4]
    (found,) = probabilities(make(columns))
    assert found.means["scaled", "nll"].n == 2
    assert found.means["scaled", "nll"].mean == pytest.approx(0.35)
    assert found.differences["recovered", "scaled", "nll"].n == 1  # the one seed that has both
    assert found.differences["recovered", "scaled", "nll"].mean == pytest.approx(0.0)
    assert [found.partial(kind) for kind in KINDS] == [False, True, True]


def test_only_finished_runs_count() -> None:
    (found,) = probabilities(make({"test_nll": [0.5, 0.7, 9.0]}, ["done", "done", "diverged"]))
    assert (found.done, found.means["softmax", "nll"].mean) == (2, pytest.approx(0.6))


def test_runs_of_a_store_that_is_older_than_a_measure_have_none_of_it() -> None:
    (found,) = probabilities(make({"test_nll": [0.5, 0.7], "test_ece": [0.1, 0.2]}))
    assert found.means["softmax", "nll"].n == 2
    assert found.means["softmax", "brier"].n == found.means["scaled", "nll"].n == 0
    assert not found.partial("scaled")


@pytest.mark.parametrize("metric", [m for m in METRICS if not m.endswith(("accuracy", "mean_iou"))])
def test_the_lowest_is_best_of_every_measure_of_probabilities(metric: str) -> None:
    study = Study(Setting("d", "h"), ("cce", "adma"), tuple(range(4)))
    shared = {"shared": dict.fromkeys(("split", "init", "order"), "x")}
    cells = [
        CellResult(c, "done", "", 1.0, {metric: np.array([(0.3 if c.loss == "cce" else 0.2) + c.seed / 1e3])}, shared)
        for c in study.cells()
    ]
    comparison = summarise(Results(study, tuple(cells)), metric=metric)
    assert comparison.winner == "adma"
    assert [s.loss for s in comparison.ranked] == ["adma", "cce"]


def test_the_brier_score_is_a_metric() -> None:
    assert {"test_brier", "val_brier"} <= set(METRICS)
