"""Time over the number of classes, relative to a copy of the logits, drawn from a table of `cross_entropy.py`.

python benchmarks/plot.py benchmarks/results/DATE-cpu-over-classes.csv PLOT.png
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image
from table import read

from adma.bench.report.figures import PALETTE, styled

BLUE, ORANGE, GREEN, PINK, OLIVE, GREY, VIOLET = PALETTE
# ours solid and blue, torch's and others' dashed
STYLES: dict[str, dict[str, Any]] = {
    "adma:a=0.26, in place": {"color": BLUE, "marker": "v", "lw": 2.2},
    "adma:a=0.26": {"color": BLUE, "marker": "o", "lw": 2.2},
    "cce": {"color": GREEN, "marker": "s"},
    "gce:q=0.7": {"color": PINK, "marker": "D"},
    "focal:gamma=2.0": {"color": OLIVE, "marker": "P"},
    "adma:a=0.26, eager engine": {"color": BLUE, "marker": "<", "linestyle": (0, (1, 1.4))},
    "adma:a=0.26, composed engine": {"color": BLUE, "marker": ">", "linestyle": (0, (6, 2, 1, 2))},
    "adma:a=0.26, torch.compile": {"color": BLUE, "marker": "x", "linestyle": (0, (9, 3))},
    "torch cross_entropy": {"color": ORANGE, "marker": "o", "linestyle": (0, (5, 2)), "lw": 2.2},
    "torch.compile cross_entropy": {"color": ORANGE, "marker": "x", "linestyle": (0, (5, 2))},
    "paper's formula": {"color": GREY, "marker": "^", "linestyle": (0, (5, 2))},
    "kornia focal_loss": {"color": OLIVE, "marker": "d", "linestyle": (0, (5, 2))},
    "torchvision sigmoid_focal_loss": {"color": PINK, "marker": "*", "linestyle": (0, (5, 2))},
    "optax under jit": {"color": VIOLET, "marker": "p", "linestyle": (0, (5, 2))},
}
PANELS = {"default": "the system's allocator", "keeping": "an allocator that keeps what was freed"}


@styled
def draw(table: Path, picture: Path) -> None:
    """Write a PNG: a panel an allocator, a line a call, medians as marks and minimum to maximum as a thin bar."""
    about, rows = read(table)
    figure = Figure(figsize=(11.5, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(PANELS), sharey=True)
    calls = [name for name in STYLES if any(row["call"] == name for row in rows)]
    lines = {}
    for ax, (allocator, title) in zip(axes, PANELS.items(), strict=True):
        for name in calls:
            of = [row for row in rows if (row["allocator"], row["call"]) == (allocator, name)]
            of.sort(key=classes)
            if not of:
                continue
            x = [classes(row) for row in of]
            y, low, high = ([float(row[key]) for row in of] for key in ("of_copy", "of_copy_min", "of_copy_max"))
            style = {"lw": 1.4, "ms": 5, **STYLES[name]}
            (lines[name],) = ax.plot(x, y, **style)
            ax.vlines(x, low, high, color=style["color"], lw=0.8, alpha=0.5)
        ax.axhline(1, color=GREY, lw=1)
        ax.set_xscale("log")
        ax.set_xticks(sorted({classes(row) for row in rows}), minor=False)
        ax.tick_params(axis="x", labelsize=7)
        ax.set_yscale("log")
        ax.set_xlabel("classes")
        for axis in (ax.xaxis, ax.yaxis):  # the default needs mathtext
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
            axis.set_minor_formatter(NullFormatter())
        ax.set_title(title, loc="left", fontsize=10)
    axes[0].set_ylabel("time, forward and backward, relative to a copy")
    sizes = [int(row["shape"].partition("x")[0]) * classes(row) for row in rows]
    figure.suptitle(f"{max(sizes):,} float32 logits in rows of ever more classes", x=0.01, ha="left", fontsize=11)
    figure.legend(list(lines.values()), list(lines), loc="outside right center", fontsize=9)
    figure.supxlabel("; ".join(about[:4]), fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, metadata={"Software": None})
    # a palette of few colours: a third of the size
    Image.open(drawn).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(picture, optimize=True)


def classes(row: dict[str, str]) -> int:
    return int(row["shape"].partition("x")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    draw(options.table, options.picture)


if __name__ == "__main__":
    main()
