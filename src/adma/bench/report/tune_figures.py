"""The picture of a search: every trial over a loss's parameter, the curve with its band, the plateau shaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from adma.bench.report.cells import measure_name
from adma.bench.report.figures import PALETTE, canvas, empty_panel, styled
from adma.bench.report.text import printable
from adma.bench.search.analysis import Curve
from adma.bench.search.outcome import Found
from adma.bench.search.space import LR, at, place
from adma.bench.search.trials import COMPLETE, PRUNED, mean
from adma.family import Range

_SHADES = ("#2a7fc4", "#7d7d7d", "#d9622b")  # of the learning rate, in thirds of its range


@styled
def search_figure(found: Sequence[Found]) -> Figure:
    """A panel for each searched parameter of each loss, the learning rate where a loss has none."""
    panels = [(f, key) for f in found for key in (f.space.template.space or f.space.ranges)]
    figure, axes = canvas(max(1, min(len(panels), 3)), (), rows=max(1, -(-len(panels) // 3)))
    for ax, (one, key) in zip(axes, panels, strict=False):
        search_panel(ax, one, key)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    if not panels:
        axes[0].set_visible(True)
        empty_panel(axes[0], "nothing was searched")
    return figure


@styled
def one_panel(found: Found, parameter: str) -> Figure:
    """A figure of one panel, to stand in a page."""
    figure, axes = canvas(1, ())
    search_panel(axes[0], found, parameter)
    return figure


def search_panel(ax: Axes, found: Found, parameter: str) -> None:
    """Draw one parameter: trials by what they were judged by, coloured by learning rate, curve, band and plateau."""
    r = found.space.ranges[parameter]
    shown = [t for t in found.trials if t.values and t.state in (COMPLETE, PRUNED)]
    ax.set_title(printable(f"{found.name}: validation {measure_name(found.measure)}, %"), loc="left", fontsize=10)
    if not shown:
        empty_panel(ax, "no trial has ended")
        return
    curve = found.curves.get(parameter)
    if isinstance(curve, Curve):
        p = curve.plateau
        if p.determined:
            ax.axvspan(p.low, p.high, color=PALETTE[2], alpha=0.13, lw=0)
        ax.fill_between(curve.values, 100 * curve.lower, 100 * curve.upper, color=PALETTE[2], alpha=0.22, lw=0)
        ax.plot(curve.values, 100 * curve.middle, color=PALETTE[2], lw=1.8)
    lr_range = found.space.ranges.get(LR)
    for third, color in enumerate(_SHADES):
        some = [t for t in shown if _third(found, t.params.get(LR)) == third]
        label = _lr_label(lr_range, third) if parameter != LR and lr_range else ""
        for state, marker, face in ((COMPLETE, "o", color), (PRUNED, "o", "none")):
            points = [t for t in some if t.state == state]
            if points:
                ax.plot(
                    [t.params[parameter] for t in points], [100 * mean(t.values) for t in points], marker=marker,
                    ms=4.5, mfc=face, mec=color, linestyle="none", label=label if state == COMPLETE else "",
                )  # fmt: skip
    if found.winner:
        ax.plot(
            [found.winner.params[parameter]], [100 * found.winner.value], marker="o", ms=10, mfc="none", mew=1.4,
            mec=ax.xaxis.label.get_color(), linestyle="none",
        )  # fmt: skip
    _limits(ax, found, curve if isinstance(curve, Curve) else None)
    if r.log:
        ax.set_xscale("log")
        _log_ticks(ax, r.low, r.high)
    ax.set_xlim(r.low, r.high)
    ax.set_xlabel("learning rate" if parameter == LR else printable(parameter))
    handles, labels = ax.get_legend_handles_labels()
    if any(labels):
        ax.legend(handles, labels, fontsize=7.5, loc="lower center", ncols=3, handletextpad=0, columnspacing=0.6)


def _third(found: Found, lr: float | None) -> int:
    r = found.space.ranges.get(LR)
    if r is None or lr is None:
        return 0
    return min(2, int(3 * place(r, lr)))


def _lr_label(r: Range, third: int) -> str:
    ends = [at(r, k / 3) for k in (third, third + 1)]
    return f"{'lr ' if third == 0 else ''}{ends[0]:.1g} to {ends[1]:.1g}"


def _limits(ax: Axes, found: Found, curve: Curve | None) -> None:
    """The axis begins where the curve's model does: what is far below is drawn at the bottom edge, and said."""
    values = np.array([100 * mean(t.values) for t in found.trials if t.values])
    top = float(values.max())
    low = 100 * curve.floor if curve is not None and curve.lifted else float(values.min())
    margin = max(0.08 * (top - low), 0.05)
    ax.set_ylim(low - 2.5 * margin, top + margin)
    below = int((values < low - 2.5 * margin).sum())
    if below:
        ax.annotate(f"{below} below", (0.99, 0.13), xycoords="axes fraction", ha="right", fontsize=8)


def _log_ticks(ax: Axes, low: float, high: float) -> None:
    wide = high / low > 50
    ax.xaxis.set_major_locator(
        LogLocator(subs=(1.0,) if high / low > 2000 else (1.0, 3.0)) if wide else FixedLocator(_nice(low, high))
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _nice(low: float, high: float) -> list[float]:
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    if high / low < 5:
        return [float(x) for x in MaxNLocator(5).tick_values(low, high) if low <= x <= high]
    return [t for t in ticks if low <= t <= high]
