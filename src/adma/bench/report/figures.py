"""The paper's two figures: how training went (its Figure 3), and what the losses look like (its Figure 1).

Drawn with matplotlib's objects, without pyplot: no window, no global figure list. A reader's own matplotlibrc
plays no part, so a figure is the same on every machine. Mathtext is off: a `$` in a name is a `$`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adma.bench.errors import BenchError
from adma.bench.folder import Results
from adma.bench.own_loss import is_own
from adma.bench.report.cells import metric_name
from adma.bench.report.text import printable
from adma.bench.result import COLUMNS, DIVERGED, DONE, CellResult
from adma.bench.whole import write_whole
from adma.classic import SymmetricCrossEntropy
from adma.family import Member
from adma.flex.spec import parse

DEFAULT_SPECS = (
    "cce",
    *(f"adma:a={a}" for a in (0.1, 0.26, 0.5, 0.8, 1.0)),
    "mae",
    "mse",
    "squared_hinge",
    "focal:gamma=2.0",
)
# Hues that are told apart with any colour vision, each with contrast above 3:1 on white and on near-black.
PALETTE = ("#2a7fc4", "#d9622b", "#009e73", "#c2569b", "#8c7a1e", "#7d7d7d", "#8a6fd0")
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)), (0, (9, 3)))
INK = "#1b1e23"  # `to_svg` writes it as currentColor: dark on a light page, light on a dark one
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
    "svg.hashsalt": "adma",
    "pdf.fonttype": 42,
}
_SVG = "{http://www.w3.org/2000/svg}"
PANEL = (4.5, 3.07)  # width and height of a panel with its title, inches
_LINE_HEIGHT = 0.18  # of a legend's row, inches
_F = TypeVar("_F", bound=Callable[..., Any])


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in _STYLE.items():
            matplotlib.rcParams[key] = value
        yield


def styled(function: _F) -> _F:
    """Draw in this module's style, whatever the reader's matplotlibrc says."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _style():
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def line_style(index: int) -> dict[str, Any]:
    """Colour and dash of the loss at a place in the study's list: the same in all figures."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": _DASHES[index % len(_DASHES)]}


@styled
def learning_traces(results: Results, *, columns: Sequence[str] = ("val_accuracy", "val_nll")) -> Figure:
    """The paper's Figure 3: each loss's mean over the seeds at every epoch, in a band from least to greatest.

    Only finished runs enter mean and band. A run that diverged is a thin line of its own, ended by a cross.

    Args:
        columns: what to draw, one panel each; "val_" columns become "test_" ones if the study has no
            validation part.

    Raises:
        BenchError: a column that the store does not know.
    """
    for column in columns:
        if column not in COLUMNS:
            raise BenchError(f"columns: {column!r} is not known; known: {', '.join(COLUMNS)}")
    figure, axes = canvas(len(columns), results.study.losses, note=diverged_note([results]))
    for ax, column in zip(axes, columns, strict=True):
        trace_panel(ax, results, column)
    return figure


def _anything(results: Results, column: str) -> bool:
    return any(np.isfinite(c.epochs.get(column, np.array([]))).any() for c in results.cells)


def diverged_note(studies: Iterable[Results]) -> str:
    """What to write under panels that show a run's end as a cross; empty if none does."""
    drawn = any(c.status == DIVERGED and len(c.epochs.get("epoch", [])) for r in studies for c in r.cells)
    return "A cross ends a run that diverged; such runs are not in the mean." if drawn else ""


def trace_panel(ax: Axes, results: Results, column: str, places: Mapping[str, int] | None = None) -> str:
    """Draw one column of one study: each loss's mean over its finished seeds in a band from least to greatest.

    Args:
        column: as `learning_traces` takes it.
        places: loss -> its place, which fixes colour and dash; by default its place in the study.

    Returns:
        The column that was drawn: the test part's if the study has no validation part.
    """
    if column.startswith("val_") and not _anything(results, column) and _anything(results, _of_test(column)):
        column = _of_test(column)
    scale = 100 if column.endswith(("accuracy", "mean_iou")) or "_ece" in column else 1
    for index, loss in enumerate(results.study.losses):
        style = line_style(places[loss] if places is not None else index)
        cells = results.of(loss)
        runs = [_trace(c, column) * scale for c in cells if c.status == DONE and len(c.epochs.get(column, []))]
        if runs:
            longest = max(map(len, runs))
            grid = np.full((len(runs), longest), np.nan)
            for row, run in zip(grid, runs, strict=True):
                row[: len(run)] = run
            x = np.arange(1, longest + 1)
            ax.plot(x, grid.mean(axis=0), lw=1.8, marker="o" if longest == 1 else "", ms=4, **style)
            if len(runs) > 1:
                ax.fill_between(x, grid.min(axis=0), grid.max(axis=0), color=style["color"], alpha=0.16, lw=0)
        for cell in cells:
            run = _trace(cell, column) * scale
            run = run[np.isfinite(run)]
            if cell.status == DIVERGED and len(run):
                ax.plot(np.arange(1, len(run) + 1), run, lw=0.9, **style)
                ax.plot([len(run)], [run[-1]], marker="x", ms=7, mew=1.8, color=style["color"], linestyle="none")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if ax.lines and max(np.size(line.get_xdata()) for line in ax.lines) == 1:
        ax.set_xlim(0.5, 1.5)
    ax.set_xlabel("epoch")
    units = {100: "%", 1: "nats" if "nll" in column else ""}[scale]
    ax.set_title(f"{metric_name(column).replace('_', ', ')}{', ' + units if units else ''}", loc="left", fontsize=10)
    if not ax.lines:
        empty_panel(ax, "no run has finished an epoch")
    elif "nll" in column or "loss" in column:
        _log_if_wide(ax)
    return column


def empty_panel(ax: Axes, words: str) -> None:
    """A panel that says why nothing is drawn in it."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center")
    ax.set_xticks([])
    ax.set_yticks([])


def _of_test(column: str) -> str:
    return column.replace("val_", "test_")


def _trace(cell: CellResult, column: str) -> np.ndarray:
    return np.asarray(cell.epochs.get(column, []), dtype=np.float64)


def _log_if_wide(ax: Axes) -> None:
    """A logarithmic axis where a linear one would press most curves into its bottom."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))  # the default needs mathtext
        ax.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: ""))


@styled
def loss_curves(
    specs: Sequence[str] = DEFAULT_SPECS,
    *,
    panels: Sequence[str] = ("loss", "weight"),
    strict: bool = True,
    panel: tuple[float, float] = PANEL,
) -> Figure:
    """The paper's Figure 1: the loss against the true class's probability p, and its weight against p.

    The weight is `psi'(-log p)`, the size of a sample's gradient relative to cross-entropy's. mse and
    squared_hinge depend on more than p and are drawn for two classes, as `(1-p)^2` and
    `((1-p)^2 + (2-p)^2) / 2`. A scheduled loss is drawn at its start, and thinner at each further knot, a learned one
    at its start. A loss that cannot be drawn is named under the figure.

    Args:
        specs: loss specs; the place in this list fixes colour and dash.
        panels: of "loss" and "weight".
        strict: False names a spec that is not known here under the figure, instead of raising.
        panel: as PANEL.

    Raises:
        BenchError: an unknown panel.
        ValueError: in strict mode, a spec that `adma.flex.spec.parse` refuses.
    """
    titles = {"loss": "loss", "weight": "weight of a sample, cross-entropy = 1"}
    for name in panels:
        if name not in titles:
            raise BenchError(f"panels: {name!r} is not known; known: {', '.join(titles)}")
    p = np.concatenate([np.geomspace(1e-4, 0.02, 40), np.linspace(0.02, 1.0, 300)[1:]])
    curves = [_curves(spec, p, strict) for spec in specs]
    missing = [spec for spec, curve in zip(specs, curves, strict=True) if curve is None]
    note = f"Not drawn, as no known function of p alone: {', '.join(missing)}." if missing else ""
    labels = [curve[0] if curve else "" for curve in curves]
    figure, axes = canvas(len(panels), labels, note=note, panel=panel)
    for ax, name in zip(axes, panels, strict=True):
        tops = []
        for index, curve in enumerate(curves):
            if curve is not None:
                for station, pair in enumerate(curve[1]):
                    y = pair[0 if name == "loss" else 1]
                    ax.plot(p, y, lw=0.9 if station else 1.7, **line_style(index))
                    tops.append(float(np.max(y[p > 0.05])))  # cross-entropy has no top
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.06 * max(tops, default=1.0))
        ax.set_xlabel("probability p of the true class")
        ax.set_title(titles[name], loc="left", fontsize=10)
    return figure


def _curves(spec: str, p: np.ndarray, strict: bool) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]] | None:
    """Label, and loss and weight at p for each station of its shape; None if the loss is not a function of p."""
    if is_own(spec):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a shape that is not convex is what the figure shows
        try:
            flexible = parse(spec)
        except ValueError:
            if strict:
                raise
            return None
    if flexible.loss.name == "mse":
        return f"{spec} (two classes)", [((1 - p) ** 2, 2 * p * (1 - p))]
    if flexible.loss.name == "squared_hinge":
        return f"{spec} (two classes)", [(((1 - p) ** 2 + (2 - p) ** 2) / 2, p * (3 - 2 * p))]
    t = -np.log(p)
    if isinstance(flexible.loss, SymmetricCrossEntropy):  # of a class index
        alpha, reverse = flexible.loss.alpha, -flexible.loss.beta * flexible.loss.clip
        return spec, [(alpha * t + reverse * (1 - p), alpha + reverse * p)]
    if not isinstance(flexible.loss, Member):
        return None
    stations: list[Any] = list(dict.fromkeys(map(flexible.at, flexible.bends)))
    return spec, [(np.asarray(loss.psi(t, np)), np.asarray(loss.slope(t, np))) for loss in stations]


def canvas(
    columns: int, labels: Sequence[str], *, rows: int = 1, note: str = "", panel: tuple[float, float] = PANEL
) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of panels, row by row, and the legend in rows below them.

    Args:
        labels: of the legend; the place in the list fixes colour and dash, and an empty label has no entry.
        note: a line at the very bottom.
        panel: as PANEL.
    """
    shown = [(index, printable(label)) for index, label in enumerate(labels) if label]
    longest = max((len(label) for _, label in shown), default=1)
    width = panel[0] * columns
    per_row = max(1, min(len(shown) or 1, int(width / (0.55 + 0.085 * min(longest, 80)))))
    below = 0.68 + _LINE_HEIGHT * -(-len(shown) // per_row) + 0.26 * bool(note)
    figure = Figure(figsize=(width, panel[1] * rows - 0.32 + below))
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.2 / width, top=1 - 0.32 / height, bottom=below / height, wspace=0.28, hspace=0.3
    )
    if shown:
        handles = [Line2D([], [], lw=1.8, **line_style(index)) for index, _ in shown]
        # placeholders first: matplotlib drops an entry whose label begins with an underscore
        legend = figure.legend(
            handles, ["·"] * len(shown), ncols=per_row, loc="upper left", fontsize=9, handlelength=2.6,
            bbox_to_anchor=(0.5 / width, (below - 0.56) / height), borderaxespad=0, borderpad=0,
            labelspacing=0.35,
        )  # fmt: skip
        for text, (_, label) in zip(legend.get_texts(), shown, strict=True):
            text.set_text(label)
    if note:
        figure.text(0.5 / width, 0.05 / height, printable(note), fontsize=8.5, va="bottom")
    return figure, axes


def to_svg(fig: Figure, *, label: str = "", prefix: str = "") -> str:
    """The figure as an `<svg>` element to stand in an HTML page: the same text for the same figure.

    Text and axes take the page's text colour, text stays text, and nothing outside is referred to.

    Args:
        label: what a screen reader says.
        prefix: of all ids; by default taken from the content, so that different figures of a page differ.
    """
    raw = _raw_svg(fig, transparent=True)
    prefix = prefix or "f" + hashlib.sha256(raw.encode()).hexdigest()[:8]
    root = ET.fromstring(raw)  # changed as a tree: a name in the legend may look like an attribute
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag == f"{_SVG}style"]:
            parent.remove(child)  # it would hold for the whole page
        for key, value in list(parent.attrib.items()):
            if key == "id":
                parent.set(key, f"{prefix}-{value}")
            elif key.endswith("href"):
                del parent.attrib[key]
                parent.set("href", value.replace("#", f"#{prefix}-", 1))
            else:
                parent.set(key, value.replace("url(#", f"url(#{prefix}-").replace(INK, "currentColor"))
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    root.set("role", "img")
    if label:
        root.set("aria-label", printable(label))
    ET.register_namespace("", _SVG.strip("{}"))
    return ET.tostring(root, encoding="unicode").strip()


@styled
def _raw_svg(fig: Figure, *, transparent: bool) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts draw it, not matplotlib's
        fig.savefig(buffer, format="svg", metadata=nothing, transparent=transparent)
    return buffer.getvalue()


@styled
def save(fig: Figure, path: str | Path) -> Path:
    """Write the figure to a .png (200 dots an inch), .pdf or .svg file, whole or not at all.

    Raises:
        BenchError: another ending, or a folder that cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".svg":
        write_whole(path, _raw_svg(fig, transparent=False).encode("utf-8", "backslashreplace"))
    elif ending in (".png", ".pdf"):
        undated = {"CreationDate": None} if ending == ".pdf" else {"Software": None}
        buffer = io.BytesIO()
        fig.savefig(buffer, format=ending[1:], dpi=200, metadata=undated)
        write_whole(path, buffer.getvalue())
    else:
        raise BenchError(f"cannot save a figure as {path.name!r}; the name must end in .png, .pdf or .svg")
    return path
