"""Softmax, recovered and scaled side by side, in a terminal and as rows of the page."""

from __future__ import annotations

import io

import numpy as np
import pytest
import report_fakes as fakes
from rich.console import Console

from adma.bench.folder import Results
from adma.bench.probabilities import probabilities
from adma.bench.report.probability_tables import notes, probability_rows, probability_table

STUDY = {"cce": [0.900, 0.910, 0.895], "adma:a=0.26": [0.910, 0.9205, 0.9045], "mae": [0.6, 0.61, "diverged"]}


def show(results: Results, width: int = 100, **options) -> str:
    file = io.StringIO()
    Console(file=file, width=width, **options).print(probability_table(probabilities(results)))
    return file.getvalue()


def without(results: Results, loss: str, seeds: set[int]) -> Results:
    """The same, without a temperature in some seeds of a loss."""
    for c in results.cells:
        if c.cell.loss == loss and c.cell.seed in seeds:
            for name in ("temperature", "test_nll_scaled", "test_brier_scaled", "test_ece_scaled"):
                c.epochs[name] = np.full(fakes.EPOCHS, np.nan)  # type: ignore[index]
    return results


def test_eighty_columns_hold_every_number_on_one_line():
    text = show(fakes.results(STUDY), width=80)
    row = next(line for line in text.splitlines() if line.startswith("adma:a=0.26"))
    assert row.split()[1:] == ["0.394", "0.374", "0.364", "0.137", "0.127", "0.132", "4.16", "2.08", "3.16"]


def test_a_hundred_columns_are_enough_for_a_long_loss():
    lines = show(fakes.results({"bi_tempered:t1=0.8,t2=1.2": [0.5, 0.6]}), width=200).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100


def test_a_loss_without_posteriors_has_a_dash_where_it_has_no_number():
    row = next(line for line in show(fakes.results(STUDY)).splitlines() if line.startswith("mae"))
    assert row.split()[2::3] == ["–", "–", "–"]


def test_a_mean_over_fewer_seeds_is_marked_and_explained():
    text = show(without(fakes.results(STUDY), "cce", {1}))
    row = next(line for line in text.splitlines() if line.startswith("cce"))
    assert row.split()[3] == "0.364*"
    assert "cce, scaled: 2 of 3 seeds" in text
    assert "*" not in next(line for line in text.splitlines() if line.startswith("adma"))


def test_a_loss_that_could_not_be_scaled_says_why():
    found = probabilities(without(fakes.results(STUDY), "cce", {0, 1, 2}))
    assert any(line.startswith("cce: not scaled:") for line in notes(found))
    assert not any("cce: not scaled" in line for line in notes(probabilities(fakes.results(STUDY))))


@pytest.mark.parametrize("width", [1, 8, 40])
def test_a_narrow_terminal_does_not_crash(width):
    assert show(fakes.results(STUDY), width=width)


def test_nothing_finished_is_dashes():
    text = show(fakes.results({"cce": ["missing"] * 2, "mae": ["failed", "diverged"]}))
    assert "nan" not in text
    assert "not scaled" not in text


def test_markup_is_shown_not_obeyed():
    assert "[red]x[/red]\\x1b" in show(fakes.results({"[red]x[/red]\x1b": [0.5, 0.6]}), width=200)


def test_the_page_has_the_kinds_and_the_differences_with_intervals():
    rows = {found.loss: probability_rows(found) for found in probabilities(fakes.results(STUDY))}
    assert [row.what for row in rows["adma:a=0.26"]] == [
        "softmax", "recovered", "scaled", "recovered minus softmax", "recovered minus scaled",
    ]  # fmt: skip
    by = {row.what: row for row in rows["adma:a=0.26"]}
    assert by["recovered minus softmax"].cells[0] == "−0.0200 [−0.0200, −0.0200]"
    assert by["recovered minus scaled"].cells[0] == "+0.0100 [+0.0100, +0.0100]"
    assert by["softmax"].cells[2].startswith("4.16 [")  # ECE in per cent
    assert by["softmax"].n == "3/3"
    assert [row.what for row in rows["mae"]] == ["softmax", "scaled"]  # it determines no posterior
