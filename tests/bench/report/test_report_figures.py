"""The figures: what they draw, that they are the same every time, and that they embed cleanly."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
import report_fakes as fakes
from PIL import Image

from adma.bench.errors import BenchError
from adma.bench.report import learning_traces, loss_curves, save, to_svg
from adma.bench.report.figures import PALETTE
from adma.spec import parse

STUDY = {"cce": [0.8, 0.9], "adma:a=0.26": [0.85, 0.95], "mae": [0.5, "diverged"]}


def by_colour(ax):
    """The first line of each loss, in the order of drawing."""
    return {line.get_color(): line for line in reversed(ax.lines)}


def test_traces_show_the_mean_and_the_band_of_finished_seeds():
    results = fakes.results(STUDY)
    ax = learning_traces(results, columns=("test_accuracy",)).axes[0]
    line = by_colour(ax)[PALETTE[0]]
    runs = [c.epochs["test_accuracy"] for c in results.of("cce")]
    assert line.get_ydata() == pytest.approx(100 * np.mean(runs, axis=0))
    assert list(line.get_xdata()) == list(range(1, fakes.EPOCHS + 1))
    top = ax.collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(100 * np.max(runs))


def test_a_diverged_run_is_drawn_and_stays_out_of_the_mean():
    results = fakes.results(STUDY)
    figure = learning_traces(results, columns=("test_accuracy",))
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [float(c.get_xdata()[0]) for c in crosses] == [3.0]
    means = [line for line in figure.axes[0].lines if line.get_color() == PALETTE[2] and line.get_linewidth() > 1.5]
    assert means[0].get_ydata()[-1] == pytest.approx(50.0)
    assert "diverged" in to_svg(figure)


def test_without_a_validation_part_the_test_part_is_drawn():
    results = fakes.results(STUDY)
    for cell in results.cells:
        for name in list(cell.epochs):
            if name.startswith("val_"):
                cell.epochs[name] = np.full_like(cell.epochs[name], np.nan)
    assert learning_traces(results).axes[0].get_title(loc="left") == "test accuracy, %"


def test_an_empty_study_and_a_single_epoch_can_be_drawn():
    assert "no run has finished" in to_svg(learning_traces(fakes.results({"cce": ["missing"]})))
    results = fakes.results({"cce": [0.5]})
    for name, values in results.cells[0].epochs.items():
        results.cells[0].epochs[name] = values[-1:]
    assert learning_traces(results).axes[0].lines[0].get_marker() == "o"


def test_a_column_that_is_unknown_is_refused():
    with pytest.raises(BenchError, match="accurracy"):
        learning_traces(fakes.results(STUDY), columns=("accurracy",))


def test_loss_curves_are_the_definitions():
    specs = ("cce", "adma:a=0.26", "mae", "mse", "squared_hinge", "focal:gamma=2")
    loss, weight = loss_curves(specs).axes
    p = loss.lines[0].get_xdata()
    expected = [
        -np.log(p),
        np.e - np.exp(p**0.26),
        2 * (1 - p),
        (1 - p) ** 2,
        ((1 - p) ** 2 + (2 - p) ** 2) / 2,
        -((1 - p) ** 2) * np.log(p),
    ]
    for line, curve, slope in zip(loss.lines, expected, weight.lines, strict=True):
        assert line.get_ydata() == pytest.approx(curve, abs=1e-12)
        # the weight is -p dL/dp
        inner = (p > 0.1) & (p < 0.9)
        assert slope.get_ydata()[inner] == pytest.approx((-p * np.gradient(curve, p))[inner], abs=2e-3)


def test_a_loss_that_is_no_function_of_p_is_named_not_skipped():
    svg = to_svg(loss_curves(("cce", "bi_tempered")))
    assert "Not drawn, as no known function of p alone: bi_tempered." in svg


def test_an_unknown_loss_is_refused_or_named_as_asked():
    with pytest.raises(ValueError, match="nope"):
        loss_curves(("cce", "nope"))
    figure = loss_curves(("nope", "cce"), strict=False)
    assert [line.get_color() for line in figure.axes[0].lines] == [PALETTE[1]]
    assert "nope" in to_svg(figure)


def test_the_curve_of_symmetric_cross_entropy_is_that_of_a_class_index():
    loss, weight = loss_curves(("sce:alpha=0.5,beta=0.3",)).axes
    member = parse("poly1:epsilon=2.4")  # 0.3 * 4 / 0.5
    for axis, values in ((loss, member.psi), (weight, member.slope)):
        (line,) = axis.lines
        np.testing.assert_allclose(line.get_ydata(), 0.5 * values(-np.log(line.get_xdata())), atol=1e-15)


def test_the_default_curves_draw_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(loss_curves().axes[0].lines) == 10


def test_a_loss_has_the_same_colour_and_dash_in_both_figures():
    results = fakes.results(STUDY)
    traces, curves = learning_traces(results).axes[0], loss_curves(results.study.losses).axes[0]
    for colour, line in by_colour(curves).items():
        assert by_colour(traces)[colour].get_linestyle() == line.get_linestyle()


def luminance(colour: str) -> float:
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return float(np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colour", PALETTE)
def test_colours_stand_out_on_white_and_on_the_dark_page(colour):
    assert 1.05 / (luminance(colour) + 0.05) > 3
    assert (luminance(colour) + 0.05) / (luminance("#14171c") + 0.05) > 3


# -- svg ---------------------------------------------------------------------------------------------------


def test_svg_is_the_same_every_time_and_whatever_the_users_style():
    first = to_svg(learning_traces(fakes.results(STUDY)))
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.hashsalt": None}):
        assert to_svg(learning_traces(fakes.results(STUDY))) == first
    assert not re.search(r"\d{4}-\d{2}-\d{2}T", first)


def test_svg_ids_do_not_meet_and_every_reference_has_its_target():
    svgs = [to_svg(learning_traces(fakes.results(STUDY))), to_svg(loss_curves())]
    found = [re.findall(r'\bid="([^"]+)"', svg) for svg in svgs]
    assert len(set(found[0] + found[1])) == len(found[0]) + len(found[1])
    for svg, ids in zip(svgs, found, strict=True):
        references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
        assert references
        assert {a or b for a, b in references} <= set(ids)


def test_svg_is_an_element_that_refers_to_nothing_outside():
    svg = to_svg(loss_curves(), label='a "label" & more')
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'a "label" & more'
    assert svg.startswith("<svg")
    assert "<style" not in svg
    assert set(re.findall(r"https?://[^\"']+", svg)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", r"$\frac$", "_hidden", "a&b\"'", 'id="x" url(#y)'])
def test_a_hostile_name_is_shown_as_it_is(name):
    svg = to_svg(learning_traces(fakes.results({"cce": [0.5, 0.6], name: [0.4, 0.5]})))
    texts = ["".join(e.itertext()) for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert name in [t.strip() for t in texts]
    assert "<script" not in svg


def test_control_characters_and_bad_bytes_give_valid_svg():
    ET.fromstring(to_svg(learning_traces(fakes.results({"a\x00\x1b\udcff\u202e": [0.5]}))))


# -- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
def test_figures_are_saved_and_the_same_twice(tmp_path, ending, magic):
    path = save(loss_curves(("cce", "mae")), tmp_path / f"a.{ending}")
    content = path.read_bytes()
    assert content.startswith(magic)
    assert save(loss_curves(("cce", "mae")), path).read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_saved_picture_has_a_white_ground_and_ink(tmp_path):
    pixels = np.asarray(Image.open(save(loss_curves(), tmp_path / "a.png")).convert("L"))
    assert pixels[0, 0] == 255
    assert pixels.min() < 60


@pytest.mark.parametrize("name", ["figure", "figure.jpg", "figure.html"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(BenchError, match=r"must end in \.png, \.pdf or \.svg"):
        save(loss_curves(("cce",)), tmp_path / name)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BenchError, match="nowhere"):
        save(loss_curves(("cce",)), tmp_path / "nowhere" / "a.svg")
