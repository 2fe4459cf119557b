"""What each class comes to where the data have a label for each pixel: a terminal table, rows for the page."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.overlap import ClassOverlap
from adma.bench.report.cells import mean_cell, number
from adma.bench.report.text import printable
from adma.bench.statistics import Comparison


def overlap_table(found: Sequence[ClassOverlap], comparison: Comparison) -> Table:
    """A row a class: its share of the training labels, and its IoU with each loss, per cent; means over the seeds."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, caption_justify="left", caption_style="")
    table.add_column("class", overflow="fold", min_width=6)
    table.add_column("share %", justify="right")
    losses = [summary.loss for summary in comparison.ranked]
    for loss in losses:
        table.add_column(Text(printable(loss)), justify="right", overflow="fold", min_width=6)
    for row in found:
        cells = [number(row.share, 100, 2), *(number(row.iou[loss].mean, 100, 2) for loss in losses)]
        table.add_row(Text(printable(row.name)), *cells)
    table.add_section()
    accuracies = {summary.loss: summary.secondary["test_accuracy"] for summary in comparison.losses}
    table.add_row("accuracy", "", *(number(accuracies[loss], 100, 2) for loss in losses))
    table.caption = Text(
        "Intersection over union of each class on the test part, and the share of all its labels that are right, per "
        "cent; share: of the training labels."
    )
    return table


def overlap_rows(found: Sequence[ClassOverlap], comparison: Comparison) -> list[tuple[str, str, list[str]]]:
    """The page's rows: class, share in per cent, and each loss's IoU with its interval, losses from best to worst."""
    return [
        (row.name, number(row.share, 100, 2), [mean_cell(row.iou[s.loss], "test_mean_iou") for s in comparison.ranked])
        for row in found
    ]
