"""Softmax, recovered and temperature-scaled probabilities side by side: a small terminal table, rows for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.probabilities import KINDS, MEASURES, PAIRS, Probabilities
from adma.bench.report.cells import estimate_cell, is_fraction, mean_cell, number
from adma.bench.report.text import printable
from adma.bench.statistics import Estimate

HEADINGS = {"nll": "NLL", "brier": "Brier", "ece": "ECE %"}
_SHORT = {"softmax": "soft-\nmax", "recovered": "recov-\nered", "scaled": "\nscaled"}  # so that 80 columns hold all


@dataclass(frozen=True)
class ProbabilityRow:
    """A line of the page's table, as text.

    what: a kind of probabilities, or the difference of two.
    n: "4/5", the seeds that its numbers are of.
    cells: the measures, each with its interval.
    """

    what: str
    n: str
    cells: tuple[str, ...]


def probability_table(found: Sequence[Probabilities]) -> Table:
    """One row a loss: NLL (nats), Brier score and ECE of the test part, each of the three kinds; means over seeds.

    A star marks a mean that is not over every finished seed; the lines below the table say over which.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption_justify="left", caption_style="")
    table.add_column("probabilities", overflow="fold", min_width=8)
    for measure in MEASURES:
        for kind, heading in _SHORT.items():
            first = kind == "softmax"  # of its measure: a little space before it
            text = Text(f"{HEADINGS[measure] if first else ''}\n{heading}")
            table.add_column(text, justify="right", overflow="fold", min_width=7 if first else 6)
    for row in found:
        cells = [_short(row.means[kind, measure], row.done, measure) for measure in MEASURES for kind in KINDS]
        table.add_row(Text(printable(row.loss)), *map(Text, cells))
    lines = [*notes(found), "Intervals and differences seed by seed are in the report."]
    table.caption = Text("\n".join(printable(line) for line in lines))
    return table


def _short(estimate: Estimate, done: int, measure: str) -> str:
    scale, digits = (100, 2) if is_fraction(measure) else (1, 3)
    star = "*" if 0 < estimate.n < done else ""
    return number(estimate.mean, scale, digits) + star


def notes(found: Sequence[Probabilities]) -> list[str]:
    """In words, where a mean is not over every finished seed, and why a kind is missing from a loss that ran."""
    lines = []
    for row in found:
        kinds = [kind for kind in KINDS if row.partial(kind)]
        for kind in kinds:
            n = min(row.means[kind, measure].n for measure in MEASURES)
            why = "no temperature is best for the validation part" if kind == "scaled" else "a measure is not finite"
            lines.append(f"* {row.loss}, {kind}: {n} of {row.done} seeds; in the others {why}.")
    unscaled = [row.loss for row in found if row.done and row.means["scaled", "nll"].n == 0]
    if unscaled:
        lines.append(
            f"{', '.join(unscaled)}: not scaled: no temperature is best for the validation part, as where all of it is "
            "classified rightly, or the runs are older than the measure."
        )
    return lines


def probability_rows(row: Probabilities) -> list[ProbabilityRow]:
    """A loss's lines of the page's table: the kinds that it has, and the differences between them."""
    rows = []
    for kind in KINDS:
        estimates = [row.means[kind, measure] for measure in MEASURES]
        rows.append((kind, estimates, [mean_cell(e, m) for e, m in zip(estimates, MEASURES, strict=True)]))
    for kind, other in PAIRS:
        estimates = [row.differences[kind, other, measure] for measure in MEASURES]
        cells = [estimate_cell(e, m) for e, m in zip(estimates, MEASURES, strict=True)]
        rows.append((f"{kind} minus {other}", estimates, cells))
    return [
        ProbabilityRow(what, f"{min(e.n for e in estimates)}/{row.done}", tuple(cells))
        for what, estimates, cells in rows
        if any(e.n for e in estimates)
    ]
