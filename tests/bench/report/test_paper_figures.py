"""The paper's Figures 1 and 3 in its own layout: which panel shows what, and in which colours."""

from __future__ import annotations

import numpy as np
import pytest
import replay_fakes as fakes
import report_fakes
from PIL import Image

from adma.bench.errors import BenchError
from adma.bench.printed import FIGURE3_ORDER
from adma.bench.report.figures import PALETTE, save, to_svg
from adma.bench.report.paper_figures import figure1, figure3

PAPER_ORDER = [
    "MNIST", "Fashion MNIST", "CIFAR10", "CIFAR100", "SVHN", "Flower Recognition", "Skin Cancer", "Dogs-vs-Cats",
]  # fmt: skip


def titles(figure) -> list[str]:
    return [ax.get_title(loc="left").partition(",")[0] for ax in figure.axes]


def words(figure) -> list[list[str]]:
    return [[t.get_text() for t in ax.texts] for ax in figure.axes]


def legend(figure) -> dict[str, str]:
    """Label -> colour."""
    if not figure.legends:
        return {}
    found = figure.legends[0]
    return {t.get_text(): h.get_color() for t, h in zip(found.get_texts(), found.legend_handles, strict=True)}


def test_figure_1_is_one_panel_of_the_definitions():
    (ax,) = figure1().axes
    p = np.asarray(ax.lines[0].get_xdata())
    expected = [-np.log(p), *(np.e - np.exp(p**a) for a in (0.1, 0.26, 0.5, 0.8)), (1 - p) ** 2]
    assert len(ax.lines) == 7
    for line, curve in zip(ax.lines, expected, strict=False):
        assert line.get_ydata() == pytest.approx(curve, abs=1e-12)


def test_figure_1_takes_other_shapes():
    assert len(figure1((0.26,)).axes[0].lines) == 4
    assert "adma:a=0.3" in to_svg(figure1((0.3,)))


def test_figure_3_has_the_papers_panels_in_its_order():
    figure = figure3({"svhn": fakes.results_of("svhn"), "mnist": fakes.results_of("mnist")})
    assert titles(figure) == PAPER_ORDER
    tops = [round(ax.get_position().y1, 3) for ax in figure.axes]
    lefts = [round(ax.get_position().x0, 3) for ax in figure.axes]
    assert tops == sorted(tops, reverse=True)
    assert len(set(tops)) == 4
    assert len(set(lefts)) == 2
    assert lefts[0] < lefts[1]


def test_a_panel_draws_its_own_runs():
    results = fakes.results_of("cifar100")
    ax = figure3({"cifar100": results}).axes[FIGURE3_ORDER.index("cifar100")]
    line = next(line for line in ax.lines if line.get_color() == PALETTE[1])  # the second column: CCE
    runs = [cell.epochs["val_accuracy"] for cell in results.of("cce")]
    assert line.get_ydata() == pytest.approx(100 * np.mean(runs, axis=0))
    assert ax.get_ylabel() == "validation accuracy, %"
    assert "adma:a=0.282" in ax.get_title(loc="left")


def test_panels_that_were_not_run_say_so():
    figure = figure3({"mnist": fakes.results_of("mnist")})
    assert words(figure) == [[]] + [["not run"]] * 7
    assert words(figure3({})) == [["not run"]] * 8


def test_a_study_without_a_finished_epoch_says_so():
    figure = figure3({"svhn": report_fakes.results({"adma:a=0.26": ["missing"], "cce": ["failed"]})})
    assert words(figure)[4] == ["no run has finished an epoch"]


def test_one_legend_names_the_papers_losses_whatever_their_order():
    first = fakes.results_of("mnist")
    other = report_fakes.results({"mse": [0.5, 0.6], "adma:a=0.31": [0.7, 0.8], "cce": [0.7, 0.7]})
    figure = figure3({"mnist": first, "cifar10": other})
    assert list(legend(figure)) == ["Adma", "CCE", "Squared-Hinge", "MSE"]
    assert list(legend(figure).values()) == list(PALETTE[:4])
    assert [line.get_color() for line in figure.axes[2].lines] == [PALETTE[3], PALETTE[0], PALETTE[1]]


def test_the_chosen_adma_has_admas_name_and_colour():
    chosen = report_fakes.results({"cce": [0.5, 0.6], "adma, a chosen": [0.7, 0.8], "mse": [0.4, 0.4]})
    figure = figure3({"mnist": chosen})
    assert legend(figure) == {"Adma": PALETTE[0], "CCE": PALETTE[1], "MSE": PALETTE[3]}
    line = next(line for line in figure.axes[0].lines if line.get_color() == PALETTE[0])
    runs = [c.epochs["val_accuracy"] for c in chosen.of("adma, a chosen")]
    assert line.get_ydata() == pytest.approx(100 * np.mean(runs, axis=0))
    assert figure.axes[0].get_title(loc="left") == "MNIST, a chosen"


def test_losses_that_are_not_the_papers_appear_under_their_spec():
    several = report_fakes.results({"adma:a=0.1": [0.5], "adma:a=0.5": [0.6], "focal:gamma=2.0": [0.6], "cce": [0.5]})
    figure = figure3({"mnist": several})
    assert list(legend(figure)) == ["CCE", "adma:a=0.1", "adma:a=0.5", "focal:gamma=2.0"]
    assert legend(figure)["CCE"] == PALETTE[1]


def test_without_a_validation_part_the_axis_names_the_test_part():
    results = fakes.results_of("mnist")
    for cell in results.cells:
        cell.epochs["val_accuracy"] = np.full(12, np.nan)
    assert figure3({"mnist": results}).axes[0].get_ylabel() == "test accuracy, %"


def test_a_diverged_run_is_explained():
    assert "ends a run that diverged" in to_svg(figure3({"mnist": fakes.results_of("mnist", mse="diverged")}))
    assert "ends a run that diverged" not in to_svg(figure3({"mnist": fakes.results_of("mnist")}))


def test_a_data_set_that_is_not_the_figures_is_refused():
    with pytest.raises(BenchError, match="cifar11"):
        figure3({"cifar11": fakes.results_of("cifar10")})


def test_the_figures_are_saved_as_pictures(tmp_path):
    for figure in (figure1(), figure3({"mnist": fakes.results_of("mnist")})):
        pixels = np.asarray(Image.open(save(figure, tmp_path / "a.png")).convert("L"))
        assert pixels[0, 0] == 255
        assert pixels.min() < 60
