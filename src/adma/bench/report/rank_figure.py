"""The critical-difference diagram (Demsar 2006): mean ranks on a line, bars over what Nemenyi does not tell apart."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adma.bench.report.figures import INK, PALETTE, styled
from adma.bench.report.replay_words import role_title
from adma.bench.report.text import printable
from adma.bench.statistics import Across

_WIDTH, _LINE, _ROW, _BAR = 6.6, 3.0, 0.3, 0.16  # inches: of the figure, of the line of ranks at least, of rows


@styled
def rank_figure(found: Across, title: str) -> Figure:
    """Mean ranks, best at the left; losses under one bar are not told apart.

    The better half of the losses is named at the left, the other at the right. Without a critical difference (two
    losses) there are no bars, and the note says so.
    """
    order, k = found.ranked, len(found.losses)
    half = (k + 1) // 2
    bars = len(found.groups)
    top, below = 1.0, 0.3 + _BAR * bars + _ROW * half
    height = top + below + 0.35
    names = [printable(role_title(loss)) for loss in order]
    margin = 0.95 + 0.084 * max(map(len, names))
    width = max(_WIDTH, 2 * margin + _LINE)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_xlim(0, width)
    ax.set_ylim(-below - 0.35, top)
    ax.axis("off")

    def x(rank: float) -> float:
        return margin + (rank - 1) / max(1, k - 1) * (width - 2 * margin)

    def line(xs: list[float], ys: list[float], *, lw: float = 1.0, color: str = INK) -> None:
        ax.add_line(Line2D(xs, ys, color=color, lw=lw, solid_capstyle="butt"))

    ax.text(0.15, top - 0.12, printable(title), fontsize=10, va="top", ha="left")
    line([x(1), x(k)], [0, 0])
    for rank in range(1, k + 1):
        line([x(rank)] * 2, [0, 0.08])
        ax.text(x(rank), 0.12, str(rank), ha="center", va="bottom", fontsize=9)
    if found.critical_difference is not None and found.critical_difference <= k - 1:
        ends = [x(1), x(1 + found.critical_difference)]
        line(ends, [0.42, 0.42], lw=1.4)
        for end in ends:
            line([end, end], [0.37, 0.47], lw=1.4)
        words = f"critical difference {found.critical_difference:.2f}"
        ax.text(ends[1] + 0.1, 0.42, words, ha="left", va="center", fontsize=9)
    for place, group in enumerate(found.groups):
        y = -0.16 - _BAR * place
        ends = [x(found.mean_ranks[group[0]]) - 0.06, x(found.mean_ranks[group[-1]]) + 0.06]
        line(ends, [y, y], lw=3.5, color=PALETTE[0])
    for place, (loss, name) in enumerate(zip(order, names, strict=True)):
        left = place < half
        row = place if left else k - 1 - place
        y = -0.3 - _BAR * bars - _ROW * row
        at = x(found.mean_ranks[loss])
        edge = margin - 0.15 if left else width - margin + 0.15
        line([at, at, edge], [0, y, y], lw=0.9)
        text = f"{name}  {found.mean_ranks[loss]:.2f}" if left else f"{found.mean_ranks[loss]:.2f}  {name}"
        ax.text(edge + (-0.08 if left else 0.08), y, text, ha="right" if left else "left", va="center", fontsize=9.5)
    note = (
        f"Mean ranks over {len(found.datasets)} data sets, 1 is best. Under one bar: not told apart (Nemenyi, "
        f"alpha = {1 - found.level:.3g})."
        if found.critical_difference is not None
        else f"Mean ranks over {len(found.datasets)} data sets, 1 is best. Two losses have no critical difference."
    )
    ax.text(0.15, -below - 0.28, note, fontsize=8.5, va="bottom", ha="left")
    return figure
