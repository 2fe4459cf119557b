"""What a reader sees of a search: the table, the sentences, the page, the figure, the CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import search_fakes as fakes
from rich.console import Console

from adma.bench.folder import Folder
from adma.bench.report.figures import save
from adma.bench.report.tune_csv import trials_csv
from adma.bench.report.tune_figures import search_figure
from adma.bench.report.tune_html import render_tune
from adma.bench.report.tune_tables import paste_words, plateau_words, search_table, words
from adma.bench.result import CellResult
from adma.bench.search.analysis import Curve, Plateau, Unknown
from adma.bench.search.outcome import Outcome, final_cells, put_together
from adma.bench.search.trials import FAILED, PRUNED
from adma.bench.study import Cell

FRESH = range(6, 11)


def train(cell: Cell) -> CellResult:
    return fakes.diverged(cell) if cell.setting.lr > 8e-3 and cell.seed == 2 else fakes.result(cell)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Two losses, searched with pruning; the winners trained; one trial made to have failed, one seed to have ended."""
    root = tmp_path_factory.mktemp("search")
    given = fakes.rules(6, pruner="wilcoxon")
    ledgers = [fakes.ledger(root, loss, budget=22, given=given) for loss in ("cce", "adma")]
    fakes.run(ledgers, root, train)
    store = fakes.store_in(root)
    searched = []
    for one in ledgers:
        trials = fakes.trials_of(one)
        for cell in final_cells(fakes.SETTING, one.space, trials, FRESH):
            store.write(fakes.diverged(cell) if (cell.loss, cell.seed) == ("cce", 8) else fakes.result(cell))
        trials[9] = replace(trials[9], state=FAILED, values={}, diverged=(), reason="seed 1: out of <memory>\nmore")
        searched.append((one.space, one.budget, trials))
    about = {
        "command": "adma tune <b>photos</b>", "created": "2026-01-01", "adma_version": "0", "storage": "trials.journal",
        "dataset": {"name": "<b>photos & co", "sizes": {"train": 1, "val": 2, "test": 3}, "notes": ["a <note>"]},
    }  # fmt: skip
    return put_together(
        fakes.SETTING, searched, store, seeds=range(6), final_seeds=FRESH, rope=0.002, seed=0, about=about
    )  # fmt: skip


def printed(outcome: Outcome) -> str:
    console = Console(width=130, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(search_table(outcome))
    return captured.get() + "\n".join(words(outcome))


def test_the_table_holds_winner_bias_test_and_budget(outcome: Outcome) -> None:
    text = printed(outcome)
    for found in outcome.found:
        assert found.winner is not None
        assert found.winner.state == "complete"
        assert f"{100 * found.winner.value:.2f}" in text
        pruned, failed = found.count(PRUNED), found.count(FAILED)
        assert pruned > 0
        assert f"{22 - pruned - failed}, {pruned}, {failed} of 22" in text
        assert found.epochs == sum(t.epochs for t in found.trials)
        assert f"{found.epochs}" in text
        done = [fakes.accuracy(c.cell) for c in found.fresh if c.status == "done"]
        assert f"{100 * (np.mean(done) - 0.01):.2f} ± " in text  # test
        val = [*done, *[0.0] * (len(found.fresh) - len(done))]  # what diverged counts as in the search
        assert f"{100 * np.mean(val):.2f} ± " in text
        bias = 100 * (found.winner.value - np.mean(val))
        assert f"{bias:+.2f} ± ".replace("-", "−") in text
    assert "adma.AdmaLoss(a=" in text
    assert "seed 1: out of <memory>" in text
    assert (
        "fresh seed 8: diverged (epoch 1: the training loss is inf); counts as 0 in validation, as in the search, and "
        "not in test" in text
    )
    assert "diverged; each counts as an accuracy of 0" in text


def test_the_winners_are_compared_with_the_fresh_seeds_each_at_its_own_learning_rate(outcome: Outcome) -> None:
    assert outcome.comparison is not None
    assert outcome.results is not None
    assert len({c.cell.setting.lr for c in outcome.results.cells}) == 2
    assert outcome.comparison.seeds == tuple(FRESH)
    assert outcome.comparison.baseline == "cce"
    (difference,) = [s.to_baseline for s in outcome.comparison.losses if s.to_baseline]
    assert difference.seeds == (6, 7, 9, 10)  # seed 8 of cce diverged


def test_two_searches_with_one_winner_are_told_apart(outcome: Outcome) -> None:
    adma = outcome.found[1]
    assert adma.winner is not None
    other = replace(adma.space, template=replace(adma.space.template, name="adma:a=0.01..0.5"))
    searched = [(space, 22, [adma.winner]) for space in (adma.space, other)]
    twice = put_together(
        fakes.SETTING, searched, Folder("nowhere"), seeds=range(6), final_seeds=FRESH, rope=0.002, seed=0, about={}
    )  # fmt: skip
    assert twice.results is not None
    assert twice.results.study.losses == (f"{adma.spec} (adma)", f"{adma.spec} (adma:a=0.01..0.5)")


def test_the_page_escapes_and_says_what_the_terminal_says(outcome: Outcome) -> None:
    page = render_tune(outcome)
    assert "<b>photos" not in page
    assert "&lt;b&gt;photos &amp; co" in page
    assert "out of &lt;memory&gt;" in page
    assert "a &lt;note&gt;" in page
    assert "<script" not in page
    assert page.count("<svg") == 2  # learning rate of cce, a of adma
    assert "Every trial: 22" in page
    assert "epochs of its trials" in page
    assert "spent" not in page  # what was in the store cost nothing
    assert "fanova" in page.lower()
    assert render_tune(outcome) == page


def test_figures_are_drawn_for_every_searched_parameter(outcome: Outcome, tmp_path: Path) -> None:
    figure = search_figure(outcome.found)
    assert [ax.get_xlabel() for ax in figure.axes] == ["learning rate", "a"]
    curve = outcome.found[1].curves["a"]
    assert isinstance(curve, Curve)
    assert np.allclose(figure.axes[1].lines[0].get_ydata(), 100 * curve.middle)
    assert save(figure, tmp_path / "search.png").stat().st_size > 10_000


def test_the_csv_holds_every_trial_and_replicate(outcome: Outcome) -> None:
    lines = [line for line in trials_csv(outcome).splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 44
    for found in outcome.found:
        mine = [row for row in rows if row["loss"] == found.name]
        for row, trial in zip(mine, found.trials, strict=True):
            assert float(row["lr"]) == trial.params["lr"]
            assert row["state"] == trial.state
            assert {s: float(v) for s in range(6) if (v := row[f"val_accuracy_seed_{s}"])} == trial.values
        assert sum(bool(row["winner"]) for row in mine) == 1


CURVE = Curve(
    "a", True, np.array([0.1]), np.array([0.9]), np.array([0.9]), np.array([0.9]), 0.95,
    Plateau(0.05, 0.2, 0.1, 0.002, 0.95, open_low=False, open_high=False, apart=False), 0.5, 0, 0.001,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "a: as good as the best within 0.2 points from 0.05 to 0.2, a ratio of 4.0 (best near 0.1; values outside",
        ),
        ({"open_high": True, "high": 0.5}, "0.5 is the end of what was searched"),
        ({"open_low": True, "open_high": True}, "a: not determined by these trials"),
        ({"apart": True}, "values around it are shown to be worse at 95%); farther off some are not ruled out"),
        ({"low": -1.0}, "from -1 to 0.2 (best near"),  # no ratio
    ],
)
def test_the_plateau_in_words(changes: dict[str, object], said: str) -> None:
    plateau = replace(CURVE.plateau, **changes)  # type: ignore[arg-type]
    assert said in plateau_words("a", replace(CURVE, plateau=plateau))


def test_a_winner_that_learns_is_taken_home_with_its_tuner(outcome: Outcome) -> None:
    found = replace(outcome.found[1], spec="adma:a=learn", lr=0.00505)
    first, second = paste_words(found).splitlines()
    assert first == "loss_fn = adma.AdmaLoss(a=0.26)  # learning rate 0.00505"
    assert second.startswith("tuner = adma.flex.ShapeTuner(")


def test_what_cannot_be_said_is_said(outcome: Outcome) -> None:
    assert plateau_words("a", Unknown("3 measured trials")) == "a: no curve (3 measured trials)"
    nothing = replace(
        outcome.found[1], trials=(), winner=None, spec="", lr=math.nan, fresh=(), curves={}, importance=Unknown("none")
    )
    empty = replace(outcome, found=(nothing,), comparison=None, results=None)
    text = printed(empty)
    assert "adma: none" in text
    assert "Partial: 22 trials" in text
    assert "No winner" in render_tune(empty)
    assert "no trial has ended" in render_tune(empty)
