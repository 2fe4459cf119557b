"""The shape over training, drawn and shown where there is one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import report_fakes as fakes

from adma.bench.report import learning_traces, loss_curves, shape_traces, to_svg
from adma.bench.report.figures import PALETTE
from adma.bench.report.html import render
from adma.bench.statistics import summarise

SCHEDULED, OTHER = "adma:a=linear/0.1/0.4,normalize=true", "gce:q=linear/0.2/0.8"
STUDY = {"cce": [0.8, 0.9, 0.85], SCHEDULED: [0.85, 0.95, "diverged"], OTHER: [0.5, 0.6, "missing"]}
EPOCH = np.array([0.0, 1.0, 2.0])


def traced(spread: float = 0.0):
    """The study with a trace for each run that began; seeds differ by `spread`."""
    results = fakes.results(STUDY)

    def trace(cell):
        if cell.cell.loss == "cce" or not cell.epochs:
            return {}
        name = "a" if cell.cell.loss == SCHEDULED else "q"
        return {"step": 5 * EPOCH, "epoch": EPOCH, name: np.array([0.1, 0.2, 0.4]) + spread * cell.cell.seed}

    return replace(results, cells=tuple(replace(c, trace=trace(c)) for c in results.cells))


def test_a_panel_a_parameter_with_the_mean_and_the_band_of_finished_seeds():
    figure = shape_traces(traced(spread=0.1))
    a, q = figure.axes
    assert (a.get_title(loc="left"), q.get_title(loc="left")) == ("a", "q")
    mean, diverged = a.lines
    assert mean.get_xdata() == pytest.approx(EPOCH)
    assert mean.get_ydata() == pytest.approx([0.15, 0.25, 0.45])
    assert mean.get_color() == diverged.get_color() == PALETTE[1]  # the loss's own colour
    assert diverged.get_ydata() == pytest.approx([0.3, 0.4, 0.6])
    assert diverged.get_linewidth() < mean.get_linewidth()
    assert a.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(0.5)
    assert [line.get_color() for line in q.lines] == [PALETTE[2]]
    assert learning_traces(traced()).axes[0].lines[0].get_color() == PALETTE[0]
    svg = to_svg(figure)
    assert SCHEDULED in svg
    assert "cce" not in svg


def test_seeds_whose_steps_differ_are_averaged_where_the_first_has_its_own():
    results = traced()
    cells = list(results.cells)
    place = next(i for i, c in enumerate(cells) if c.cell.loss == SCHEDULED and c.cell.seed == 1)
    finer = np.linspace(0, 2, 5)
    trace = {"step": 10 * finer, "epoch": finer, "a": np.array([0.3, 9.0, 0.4, 9.0, 0.6])}
    cells[place] = replace(cells[place], trace=trace)
    line = shape_traces(replace(results, cells=tuple(cells))).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([0.2, 0.3, 0.5])


def test_without_a_shape_that_changes_there_is_no_figure_and_no_section():
    results = fakes.results(STUDY)
    assert shape_traces(results) is None
    assert "The shape over training" not in render(results, summarise(results))


def test_the_report_shows_the_shape_and_the_lines_that_schedule_it():
    results = traced()
    page = render(results, summarise(results))
    assert "The shape over training" in page
    assert "A scheduled loss is drawn at its start, thinner at its further knots, a learned one at its start." in page
    assert (
        "loss_fn = adma.AdmaLoss(a=0.1, normalize=True)\n"
        "shape = adma.flex.ShapeScheduler(loss_fn, total_steps, a=&#34;linear/0.1/0.4&#34;)"
    ) in page


def test_curves_of_a_scheduled_loss_are_those_at_its_knots():
    specs = ("adma:a=linear/0.1/0.4/0.1", "adma:a=0.1", "adma:a=0.4", "gce:q=learn/0.3", "gce:q=0.3")
    for ax in loss_curves(specs).axes:
        there, knot, *fixed, learned, same = ax.lines
        assert there.get_linewidth() > knot.get_linewidth()
        assert there.get_color() == knot.get_color() == PALETTE[0]
        for line, expected in zip((there, knot), fixed, strict=True):
            assert line.get_ydata() == pytest.approx(expected.get_ydata(), abs=1e-12)
        assert learned.get_ydata() == pytest.approx(same.get_ydata(), abs=1e-12)
