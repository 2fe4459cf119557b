"""The paper's experiments: every document is sound, a is the printed one, and choosing it costs what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adma.bench import paper
from adma.bench.data.known import KNOWN
from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.printed import PRINTED, TABLES
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.study import Setting, Study
from adma.bench.studyfile import read_study, tasks

EIGHT = ["mnist", "fashion_mnist", "cifar10", "cifar100", "flowers", "ham10000", "svhn", "dogs_vs_cats"]


def study_of(name: str):
    return read_study(paper.find_published(name), known=KNOWN)


@pytest.mark.parametrize("name", paper.ORDER)
@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_every_published_study_can_be_planned_at_every_scale(name: str, scale: str) -> None:
    found = tasks(study_of(name), scale=scale)
    assert found
    for task in found:
        assert task.options["epochs"] >= 1
        assert task.options["seeds"] >= 2


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_a_table_at_paper_scale_is_what_the_paper_describes(table: int) -> None:
    found = {t.name: t.options for t in tasks(study_of(f"table{table}"), scale="paper")}
    assert list(found) == EIGHT
    epochs = dict(zip(EIGHT, (50, 75, 125, 170, 150, 150, 125, 50), strict=True))  # svhn: not stated
    iterations = dict(zip(EIGHT, (10, 10, 20, 20, 20, 20, 20, 20), strict=True))
    for name, options in found.items():
        assert options["epochs"] == epochs[name]
        assert options["seeds"] == iterations[name]
        assert options["batch_size"] == 64
        assert options["optimizer"] == TABLES[table].optimizer
        assert options["weight_decay"] == (1e-4 if TABLES[table].l2 else 0)
        assert options["lr"] == (4e-4 if name in ("flowers", "ham10000") else 1e-3)
        losses, note = paper.with_printed_a(options["losses"], name)
        assert losses == (f"adma:a={PRINTED[table][name].a}", "cce", "squared_hinge", "mse")
        assert not note
    assert found["mnist"]["augment"] == found["fashion_mnist"]["augment"] == "rotate=30,shift=0.2"
    assert found["cifar100"]["augment"] == "rotate=15,shift=0.1,flip"
    assert {"flip", "shift=0.2"} < set(found["cifar10"]["augment"].split(","))
    assert "warp" in found["cifar10"]["augment"]
    assert found["flowers"]["test_fraction"] == found["ham10000"]["test_fraction"] == 0.25  # 3:1


def test_the_split_study_varies_the_share_alone() -> None:
    found = tasks(study_of("splits"), scale="paper")
    assert {(t.data, t.options["test_fraction"]) for t in found} == {
        (data, rest) for data in ("flowers", "ham10000") for rest in (0.2, 0.25, 0.4)
    }
    others = [{k: v for k, v in t.options.items() if k != "test_fraction"} for t in found]
    assert all(o == others[0] for o in others if o["lr"] == others[0]["lr"])


def test_an_installed_package_holds_every_document_and_nothing_else_of_their_folder() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "pyproject.toml").read_text(encoding="utf-8").partition("force-include]\n")[2].partition("\n\n")[0]
    lines = [f'"studies/{p.name}" = "adma/bench/studies/{p.name}"' for p in sorted(root.glob("studies/*.yaml"))]
    assert text.splitlines() == lines
    assert {p.stem for p in root.glob("studies/*.yaml")} == set(paper.ORDER)


def test_a_data_set_that_the_paper_has_not_takes_another_ones_a_and_says_so() -> None:
    losses, note = paper.with_printed_a(("adma:a=table2,base=2", "cce"), "digits")
    assert losses == ("adma:a=0.2712,base=2", "cce")
    assert "does not have digits" in note


def test_the_grid_stands_beside_the_studys_own_a_and_holds_nothing_twice() -> None:
    assert paper.with_grid(("adma:a=0.2", "cce", "mse"), (0.1, 0.2)) == ("adma:a=0.2", "adma:a=0.1", "cce", "mse")


def test_an_unknown_experiment_is_told_with_the_nearest_name() -> None:
    with pytest.raises(BenchError, match=r"tabel1.*table1"):
        paper.find_published("tabel1")


# -- choosing a --------------------------------------------------------------------------------------------------

VAL = {"adma:a=0.1": (0.9, 0.5, 0.7), "adma:a=0.3": (0.8, 0.6, 0.7)}
TEST = {"adma:a=0.1": (0.70, 0.70, 0.70), "adma:a=0.3": (0.60, 0.90, 0.75)}


def results(failed: tuple[str, int] | None = None) -> Results:
    study = Study(Setting("x", "h"), ("adma:a=0.1", "cce", "adma:a=0.3"), (0, 1, 2))
    cells = []
    for cell in study.cells():
        val, test = VAL.get(cell.loss, (0.5,) * 3)[cell.seed], TEST.get(cell.loss, (0.65,) * 3)[cell.seed]
        epochs = {"val_accuracy": np.array([val]), "test_accuracy": np.array([test])}
        status = FAILED if (cell.loss, cell.seed) == failed else DONE
        cells.append(CellResult(cell, status, "", 1.0, epochs if status == DONE else {}))
    return Results(study, tuple(cells))


def test_clean_chooses_on_validation_for_each_run_and_reports_test() -> None:
    choice = paper.choose(results(), "clean")
    assert choice.chosen == {0: "adma:a=0.1", 1: "adma:a=0.3", 2: "adma:a=0.1"}  # a tie goes to the first
    taken = [c.final("test_accuracy") for c in choice.results.of(paper.CHOSEN)]
    assert taken == [0.70, 0.90, 0.70]
    assert choice.results.study.losses == (paper.CHOSEN, "cce")
    assert [c.cell.loss for c in choice.results.of("cce")] == ["cce"] * 3


def test_paper_chooses_one_for_all_on_what_it_reports() -> None:
    choice = paper.choose(results(), "paper")
    assert set(choice.chosen.values()) == {"adma:a=0.3"}  # mean 0.75 against 0.70
    assert [c.final("test_accuracy") for c in choice.results.of(paper.CHOSEN)] == [0.60, 0.90, 0.75]


def test_the_cost_is_the_paired_difference_of_the_two_rules() -> None:
    cost = paper.cost_of_tuning(results())
    differences = np.array([0.60 - 0.70, 0.90 - 0.90, 0.75 - 0.70])
    assert cost.n == 3
    assert cost.mean == pytest.approx(differences.mean())
    assert cost.sd == pytest.approx(differences.std(ddof=1))


def test_a_run_that_failed_is_not_chosen_and_does_not_vanish() -> None:
    clean = paper.choose(results(failed=("adma:a=0.3", 1)), "clean")
    assert clean.chosen[1] == "adma:a=0.1"
    both = replace(results(), cells=tuple(replace(c, status=FAILED, epochs={}) for c in results().cells))
    choice = paper.choose(both, "clean")
    assert choice.chosen == {}
    assert [c.status for c in choice.results.of(paper.CHOSEN)] == [FAILED] * 3


def test_a_study_without_adma_has_nothing_to_choose() -> None:
    study = Study(Setting("x", "h"), ("cce",), (0,))
    with pytest.raises(BenchError, match="--protocol clean: chooses among losses adma"):
        paper.choose(Results(study, ()), "clean")
