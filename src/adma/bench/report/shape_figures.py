"""The shape over training: the values of scheduled and learned parameters against the epochs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from adma.bench.folder import Results
from adma.bench.report.figures import canvas, line_style, styled
from adma.bench.result import DIVERGED, DONE


@styled
def shape_traces(results: Results) -> Figure | None:
    """A panel a parameter: each loss's mean over the finished seeds, in a band from least to greatest.

    A run that diverged is a thin line of its own. Colours and dashes are those of `learning_traces`.

    Returns:
        None if no loss of the study changes its shape, or none has run.
    """
    names = list(dict.fromkeys(name for c in results.cells for name in c.trace if name not in ("step", "epoch")))
    if not names:
        return None
    moving = {c.cell.loss for c in results.cells if c.trace}
    figure, axes = canvas(len(names), [loss if loss in moving else "" for loss in results.study.losses])
    for ax, name in zip(axes, names, strict=True):
        for index, loss in enumerate(results.study.losses):
            style = line_style(index)
            cells = [c for c in results.of(loss) if name in c.trace]
            done = [c.trace for c in cells if c.status == DONE]
            if done:
                epoch = done[0]["epoch"]  # of seeds whose splits differ in size the steps may differ
                values = np.stack([np.interp(epoch, trace["epoch"], trace[name]) for trace in done])
                ax.plot(epoch, values.mean(axis=0), lw=1.8, **style)
                if len(done) > 1:
                    ax.fill_between(
                        epoch, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.16, lw=0
                    )
            for cell in cells:
                if cell.status == DIVERGED:
                    ax.plot(cell.trace["epoch"], cell.trace[name], lw=0.9, **style)
        ax.set_xlabel("epoch")
        ax.set_title(name, loc="left", fontsize=10)
    return figure
