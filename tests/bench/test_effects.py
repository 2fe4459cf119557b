"""What variants change, and the paper's words beside ours, on results whose answers are known by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adma.bench.effects import claims, effects, role_of
from adma.bench.folder import Results
from adma.bench.outcome import Outcome, build
from adma.bench.prepare import Prepared, Readiness
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.study import Entry, Setting, Study
from adma.bench.studyfile import StudyFile


def entry(data: str, variant: str, values: dict[str, list[float | None]], **setting) -> tuple[Entry, Results]:
    study = Study(Setting(data, "h", **setting), tuple(values), tuple(range(len(next(iter(values.values()))))))
    cells = []
    for cell in study.cells():
        value = values[cell.loss][cell.seed]
        epochs = {n: np.array([(value or 0) / 2, value]) for n in ("val_accuracy", "test_accuracy", "train_accuracy")}
        cells.append(CellResult(cell, FAILED if value is None else DONE, "", 1.0, {} if value is None else epochs))
    return Entry(f"{data}/{variant}" if variant else data, study, data, variant), Results(study, tuple(cells))


def run(*parts: tuple[Entry, Results]) -> tuple[list[Entry], dict[str, Results]]:
    return [e for e, _ in parts], {e.name: r for e, r in parts}


def test_a_variants_effect_is_paired_by_seed_and_adma_keeps_its_column_when_its_a_changes() -> None:
    base = entry("digits", "slow", {"adma:a=0.2": [0.5, 0.6, 0.7], "cce": [0.5, 0.5, 0.5]})
    other = entry("digits", "fast", {"adma:a=0.3": [0.6, 0.6, None], "cce": [0.4, 0.5, 0.6]})
    found = {e.loss: e for e in effects(*run(base, other))}
    assert set(found) == {"adma", "cce", "adma minus cce"}
    assert {(e.variant, e.base) for e in found.values()} == {("fast", "slow")}
    assert found["adma"].estimate.n == 2  # the seed that failed is in neither
    assert found["adma"].estimate.mean == pytest.approx((0.1 + 0.0) / 2)
    assert found["cce"].estimate.mean == pytest.approx(0.0)
    assert found["adma minus cce"].estimate.mean == pytest.approx(((0.2 - 0.0) + (0.1 - 0.1)) / 2)


def test_where_a_was_chosen_the_effect_is_that_of_the_chosen_one() -> None:
    base = entry("digits", "slow", {"adma:a=0.1": [0.5, 0.8], "adma:a=0.5": [0.6, 0.7], "cce": [0.5, 0.5]})
    other = entry("digits", "fast", {"adma:a=0.1": [0.1, 0.1], "adma:a=0.5": [0.8, 0.9], "cce": [0.5, 0.5]})
    entries, results = run(base, other)
    about = {"samples": 9, "notes": []}
    ready = Readiness(tuple(Prepared(e, lambda: None, about, 1.0) for e in entries))  # type: ignore[arg-type]
    study = StudyFile(title="t", data=["digits"])
    for protocol, change in (("clean", ((0.8 - 0.6) + (0.9 - 0.8)) / 2), ("paper", (0.8 + 0.9 - 0.5 - 0.8) / 2)):
        words = {
            "command": "", "created": "2026-01-01", "scale": "", "changed": {}, "protocol": protocol,
            "published": False, "printed_a": False,
        }  # fmt: skip
        outcome = Outcome("mine", study, ready, None, words)  # type: ignore[arg-type]
        found = {e.loss: e.estimate.mean for e in build(outcome, results, []).effects}
        assert found == pytest.approx({"adma": change, "cce": 0.0, "adma minus cce": change})


def test_data_sets_are_compared_with_themselves_alone() -> None:
    parts = [entry(d, v, {"cce": [0.5, 0.6]}) for d in ("a", "b") for v in ("x", "y", "z")]
    assert [(e.data, e.variant, e.base) for e in effects(*run(*parts))] == [
        ("a", "y", "x"), ("a", "z", "x"), ("b", "y", "x"), ("b", "z", "x"),
    ]  # fmt: skip


def test_data_sets_of_different_measures_are_compared_by_accuracy_and_those_of_one_by_theirs() -> None:
    """The overlap of the dense data set goes up by 0.3 where its accuracy goes down by 0.1."""
    parts = []
    for data, dense in (("digits", False), ("scenes", True)):
        for variant, accuracy, overlap in (("slow", 0.6, 0.2), ("fast", 0.5, 0.5)):
            one, results = entry(data, variant, {"cce": [accuracy, accuracy]})
            about = {"samples": 9, "notes": [], **({"measure": "mean_iou"} if dense else {})}
            if dense:
                for cell in results.cells:
                    cell.epochs["test_mean_iou"] = np.array([0.0, overlap])  # type: ignore[index]
            parts.append((one, replace(results, about={"dataset": about}), about))
    words = {
        "command": "", "created": "2026-01-01", "scale": "", "changed": {}, "protocol": "printed", "published": False,
        "printed_a": False,
    }  # fmt: skip
    for some, measure, changes in ((parts, "test_accuracy", [-0.1, -0.1]), (parts[2:], "test_mean_iou", [0.3])):
        ready = Readiness(tuple(Prepared(e, lambda: None, about, 1.0) for e, _, about in some))  # type: ignore[arg-type]
        study = StudyFile(title="t", data=["digits", "scenes"])
        outcome = Outcome("mine", study, ready, None, words)  # type: ignore[arg-type]
        replay = build(outcome, {e.name: results for e, results, _ in some}, [])
        assert replay.measure == measure
        assert [e.estimate.mean for e in replay.effects] == pytest.approx(changes)
    entries, results = run(*((e, r) for e, r, _ in parts))
    own = effects(entries, results)  # where no measure is named, each study's own
    assert [e.estimate.mean for e in own] == pytest.approx([-0.1, 0.3])


def test_what_the_paper_says_in_words_stands_beside_ours() -> None:
    split = entry("flowers", "share_0.60", {"adma:a=0.26": [0.7, 0.8], "cce": [0.6, 0.6]})
    ((said, ours),) = claims("splits", *run(split))
    assert "about 4 points" in said
    assert "+15.00 ± " in ours
    assert "n = 2" in ours
    assert claims("splits", *run(entry("flowers", "share_0.80", {"cce": [0.5]}))) == ()
    error = entry("cifar10", "", {"adma:a=0.26": [0.9, 0.92]})
    ((said, ours),) = claims("resnet34", *run(error))
    assert said.endswith("9%")
    assert ours.startswith("9.00 ± ")
    first = claims("table1", *run(entry("mnist", "", {"adma:a=0.26": [0.9, 0.8], "mse": [0.6, 0.6]})))
    assert [c[0].rpartition(" ")[2] for c in first] == ["98%", "95.5%"]
    assert first[0][1].startswith("42.50 ± ")  # the first epoch, not the last


def test_a_lead_is_over_the_best_other_loss() -> None:
    low = entry(
        "digits", "sgd", {"adma:a=0.3": [0.5, 0.5], "cce": [0.4, 0.4], "mse": [0.6, 0.6]}, optimizer="sgd", lr=2e-4
    )
    ((said, ours),) = claims("low_lr", *run(low))
    assert "2e-04" in said or "0.0002" in said
    assert "−10.00 ± 0.00 points (n = 2) to MSE" in ours
    usual = entry("digits", "sgd", {"adma:a=0.3": [0.5], "cce": [0.4]}, optimizer="sgd", lr=1e-3)
    assert claims("low_lr", *run(usual)) == ()


def test_roles() -> None:
    assert [role_of(x) for x in ("adma:a=0.3", "adma, a chosen", "cce", "gce:q=0.7")] == [
        "adma",
        "adma",
        "cce",
        "gce:q=0.7",
    ]
