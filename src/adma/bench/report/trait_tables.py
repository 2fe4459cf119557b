"""The course of training as a table for the terminal: what the paper claims of its curves, loss by loss."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from adma.bench.report.replay import Replay, ReplayRow
from adma.bench.report.replay_tables import plain_table
from adma.bench.report.replay_words import DASH, mean_words, points_words
from adma.bench.report.text import printable
from adma.bench.statistics import Comparison, Difference, Estimate, percent
from adma.bench.traits import TRAITS

TRAIT_TITLES = {
    "first_epoch": "first epoch",
    "fluctuation": "fluctuation",
    "gap": "train minus val",
    "auc": "mean over epochs",
}
_WIDEST = 13  # `−37.03 ± 1.90`: five columns of it fit beside the losses


def trait_table(replay: Replay) -> Table | None:
    """A line a loss: its final accuracy and its traits, each as the paired difference to the baseline, in points.

    The baseline's own line holds its means, in per cent. Fits a terminal of 100 columns: where a number is too long
    for that, the intervals stand on lines of their own. None where no loss has a trait.
    """
    rows = [(row, row.comparison) for row in replay.rows if row.comparison is not None and measured(row)]
    if not rows:
        return None
    lines = [(row, _lines(row, comparison)) for row, comparison in rows]
    long = any(len(value) > _WIDEST for _, of in lines for _, values in of for value in values)
    table = plain_table("Against the baseline, seed by seed")
    table.add_column("data set, loss", overflow="fold", max_width=20)
    for heading in ("final", *(TRAIT_TITLES[name] for name in TRAITS)):
        table.add_column(heading, justify="right")
    for row, of in lines:
        table.add_row(Text(printable(row.title), style="bold"))
        for loss, values in of:
            table.add_row(Text(printable(loss)), *(Text(v.replace(" ±", "\n±") if long else v) for v in values))
        table.add_section()
    without = [row.title for row in replay.rows if not measured(row)]
    table.caption = Text(
        f"The baseline's line: means in per cent; other lines: difference to it in points, ± half a "
        f"{percent(rows[0][1].level)} interval. First epoch, fluctuation and mean over epochs are of validation "
        "accuracy. Fluctuation: standard deviation of its changes over the second half of the epochs. Train minus val: "
        "the gap after the last epoch." + (f" None for: {printable(', '.join(without))}." if without else "")
    )
    return table


def _lines(row: ReplayRow, comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Every loss of a data set with its numbers."""
    by_loss = {(t.loss, t.name): t for t in row.traits}
    lines = []
    for summary in comparison.losses:
        found = [by_loss.get((summary.loss, name)) for name in TRAITS]
        values = [_words(summary.estimate, summary.to_baseline)]
        values += [DASH if t is None else _words(t.estimate, t.to_baseline) for t in found]
        lines.append((summary.loss, values))
    return lines


def measured(row: ReplayRow) -> bool:
    """Whether any run of a data set has a trait."""
    return any(trait.estimate.n for trait in row.traits)


def _words(own: Estimate, to_baseline: Difference | None) -> str:
    """The baseline's own mean, or another loss's difference to it."""
    return mean_words(own) if to_baseline is None else points_words(to_baseline.estimate)
