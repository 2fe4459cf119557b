"""The critical-difference diagram: every loss is named at its rank, bars join what is not told apart."""

from __future__ import annotations

import pytest

from adma.bench.report.figures import to_svg
from adma.bench.report.rank_figure import rank_figure
from adma.bench.statistics import compare_across

LONG = "bi_tempered:t1=0.8,t2=1.2"


def made(losses: list[str], datasets: int = 6):
    """The first loss is always best, the next second, and so on."""
    return compare_across({f"d{i}": {loss: [0.9 - 0.1 * j] for j, loss in enumerate(losses)} for i in range(datasets)})


def drawn(figure) -> tuple[list[str], list[tuple[float, float]]]:
    """Its texts, and the ends of its thick bars."""
    ax = figure.axes[0]
    thick = [line.get_xdata() for line in ax.lines if line.get_linewidth() > 3]
    return [t.get_text() for t in ax.texts], [(float(x[0]), float(x[1])) for x in thick]


def test_every_loss_stands_with_its_rank_and_every_group_has_a_bar():
    found = made(["adma", "cce", "mse", LONG])
    texts, bars = drawn(rank_figure(found, "Title $x$"))
    assert {"Title $x$", "Adma  1.00", "CCE  2.00", "3.00  MSE", f"4.00  {LONG}"} <= set(texts)
    assert any("critical difference 1.91" in t for t in texts)
    assert len(bars) == len(found.groups) == 3
    assert any("not told apart" in t and "6 data sets" in t for t in texts)


@pytest.mark.parametrize("losses", [["adma", "cce"], ["adma", "cce", LONG], [LONG + "x" * 30, *"abcdefgh"]])
def test_nothing_is_drawn_outside_the_figure(losses):
    figure = rank_figure(made(losses), "Title")
    figure.draw_without_rendering()
    frame = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_names_do_not_overlap():
    figure = rank_figure(made(list("abcdefg")), "Title")
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_two_losses_have_no_bars_and_the_note_says_why():
    texts, bars = drawn(rank_figure(made(["adma", "cce"]), "Title"))
    assert bars == []
    assert any("Two losses have no critical difference" in t for t in texts)


def test_a_hostile_name_is_text():
    svg = to_svg(rank_figure(made(["<script>", "cce", "mse"]), "<b>"))
    assert "<script>" not in svg
