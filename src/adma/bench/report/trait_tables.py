"""The course of training as a table for the terminal: what the paper claims of its curves, loss by loss."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.report.replay import Replay
from adma.bench.report.tables import number
from adma.bench.report.text import printable
from adma.bench.statistics import Estimate, percent, signed
from adma.bench.traits import TRAITS

TRAIT_TITLES = {
    "first_epoch": "first epoch",
    "fluctuation": "fluctuation",
    "gap": "train minus val",
    "auc": "mean over epochs",
}


def trait_table(replay: Replay) -> Table:
    """A line a loss: its final accuracy and its traits, each as the paired difference to the baseline, in points.

    The baseline's own line holds its means, in per cent.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", caption_style="", collapse_padding=True)
    table.title = "Against the baseline, seed by seed"
    table.title_style, table.title_justify = "bold", "left"
    table.add_column("data set", overflow="fold", max_width=19)
    table.add_column("loss", overflow="fold", min_width=13)
    for heading in ("final", *(TRAIT_TITLES[name] for name in TRAITS)):
        table.add_column(heading, justify="right")
    level = 0.95
    for row in replay.rows:
        if row.comparison is None:
            continue
        level = row.comparison.level
        by_loss = {(t.loss, t.name): t for t in row.traits}
        for place, summary in enumerate(row.comparison.losses):
            own = summary.to_baseline is None
            final = summary.estimate if summary.to_baseline is None else summary.to_baseline.estimate
            values = [_words(final, own)]
            for name in TRAITS:
                trait = by_loss[summary.loss, name]
                values.append(_words(trait.estimate if trait.to_baseline is None else trait.to_baseline.estimate, own))
            table.add_row(
                Text(printable(row.title) if place == 0 else ""), Text(printable(summary.loss)), *map(Text, values)
            )
        table.add_section()
    table.caption = (
        f"The baseline's line: means in per cent; other lines: difference to it in points, ± half a {percent(level)} "
        "interval. First epoch, fluctuation and mean over epochs are of validation accuracy. Fluctuation: standard "
        "deviation of its changes over the second half of the epochs. Train minus val: the gap after the last epoch."
    )
    return table


def _words(estimate: Estimate, own: bool) -> str:
    if estimate.n == 0:
        return "–"
    mean = number(estimate.mean, 100, 2) if own else signed(100 * estimate.mean, 2)
    if estimate.interval is None:
        return mean
    return f"{mean} ± {50 * (estimate.interval[1] - estimate.interval[0]):.2f}"
