"""Losses over several data sets, for a terminal and as CSV; the page shows the same lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adma.bench.report.cells import p_words
from adma.bench.report.replay import OverDatasets
from adma.bench.report.replay_csv import csv_text
from adma.bench.report.replay_tables import plain_table
from adma.bench.report.replay_words import role_title
from adma.bench.report.text import printable
from adma.bench.statistics import Across, signed

LOSS_HEADINGS = ("loss", "mean rank", "interquartile mean, %")
PAIR_HEADINGS = (
    "losses",
    "better : worse",
    "median difference, points",
    "Wilcoxon p",
    "Holm p",
    "ranks apart",
    "Nemenyi p",
)
CSV_COLUMNS = ("of", "what", "first", "second", "value", "low", "high", "p", "p_holm", "n", "note")


def across_part(over: OverDatasets) -> RenderableType:
    """Mean ranks, the tests, the pairs, and what was left out; fits a terminal of 100 columns."""
    found = over.across
    heading = Text(printable(over.title), style="bold")
    if found is None:
        return Group(heading, Text(printable(over.reason), style="yellow"))
    words = [Text(printable(line), style="yellow" if warns else "") for line, warns in across_words(found)]
    losses, pairs = _table(LOSS_HEADINGS, loss_lines(found)), _table(PAIR_HEADINGS, pair_lines(found))
    return Group(heading, losses, *words, pairs)


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = plain_table()
    for place, words in enumerate(headings):
        table.add_column(Text(words), justify="right" if place else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(printable(value)) for value in line))
    return table


def loss_lines(found: Across) -> list[tuple[str, ...]]:
    """A line a loss, the best mean rank first: name, mean rank, interquartile mean with its interval."""
    by_loss = {item.loss: item for item in found.interquartile}
    lines: list[tuple[str, ...]] = []
    for loss in found.ranked:
        item = by_loss[loss]
        interval = "" if item.interval is None else f" [{item.interval[0]:.2f}, {item.interval[1]:.2f}]"
        lines.append((role_title(loss), f"{found.mean_ranks[loss]:.2f}", f"{item.mean:.2f}{interval}"))
    return lines


def pair_lines(found: Across) -> list[tuple[str, ...]]:
    """A line a pair, as PAIR_HEADINGS."""
    return [
        (
            f"{role_title(pair.first)}, {role_title(pair.second)}",
            f"{pair.wins} : {pair.losses}",
            signed(pair.median_difference, 2),
            p_words(pair.wilcoxon.p),
            p_words(pair.p_holm),
            f"{abs(pair.rank_difference):.2f}",
            p_words(pair.nemenyi_p),
        )
        for pair in found.pairs
    ]


def across_words(found: Across) -> list[tuple[str, bool]]:
    """Sentences, and whether each warns."""
    lines = [(f"Over {len(found.datasets)} data sets: {', '.join(found.datasets)}. Rank 1 is best.", False)]
    if found.friedman is not None and found.critical_difference is not None:
        test = found.friedman
        apart = "they differ" if test.p < 1 - found.level else "they are not told apart"
        lines.append(
            (
                f"Friedman: chi-squared({test.df}) = {test.statistic:.2f}, p = {p_words(test.p)}: as a whole {apart}. "
                f"Critical difference of mean ranks (Nemenyi, alpha = {1 - found.level:.3g}): "
                f"{found.critical_difference:.2f}.",
                False,
            )
        )
        joined = "; ".join(", ".join(map(role_title, group)) for group in found.groups)
        lines.append((f"Not told apart by it: {joined or 'none'}.", False))
    if all(item.interval is None for item in found.interquartile):
        lines.append(
            ("One run a data set, so the interquartile mean has no interval: there is nothing to redraw.", False)
        )
    lines += [(f"Left out: {item.name}: {item.reason}.", True) for item in found.left_out]
    lines += [(f"Fewer runs: {words}.", True) for words in found.uneven]
    lines += [(f"{words}.", True) for words in found.omitted]
    return lines


def across_csv(head: Sequence[tuple[str, str]], overs: Sequence[OverDatasets]) -> str:
    """One line a number (CSV_COLUMNS): ranks, tests, pairs, interquartile means, and what was left out."""
    rows = []
    for over in overs:
        rows += [[over.title, *line] for line in _csv_lines(over)]
    return csv_text(head, CSV_COLUMNS, rows)


def _csv_lines(over: OverDatasets) -> list[list[str]]:
    found = over.across
    if found is None:
        return [_line("not computed", note=over.reason)]
    n = len(found.datasets)
    lines = [_line("mean rank", loss, value=found.mean_ranks[loss], n=n) for loss in found.losses]
    if found.friedman is not None:
        lines.append(_line("Friedman chi-squared", value=found.friedman.statistic, p=found.friedman.p, n=n))
        lines.append(_line("Nemenyi critical difference", value=found.critical_difference, n=n))
    for pair in found.pairs:
        names = (pair.first, pair.second)
        test = pair.wilcoxon
        lines.append(_line("median difference, points", *names, value=pair.median_difference, n=n))
        lines.append(_line("Wilcoxon", *names, p=test.p, p_holm=pair.p_holm, n=test.n, note=test.too_few))
        if pair.nemenyi_p is not None:
            lines.append(_line("Nemenyi", *names, value=abs(pair.rank_difference), p=pair.nemenyi_p, n=n))
    for item in found.interquartile:
        low, high = item.interval or (None, None)
        lines.append(_line("interquartile mean, %", item.loss, value=item.mean, low=low, high=high, n=item.runs))
    lines += [_line("left out", item.name, note=item.reason) for item in found.left_out]
    lines += [_line("fewer runs", note=words) for words in found.uneven]
    return lines + [_line("not computed", note=words) for words in found.omitted]


def _line(
    what: str,
    first: str = "",
    second: str = "",
    *,
    value: float | None = None,
    low: float | None = None,
    high: float | None = None,
    p: float | None = None,
    p_holm: float | None = None,
    n: int | None = None,
    note: str = "",
) -> list[str]:
    numbers = ["" if x is None or math.isnan(x) else f"{x:.6g}" for x in (value, low, high, p, p_holm)]
    return [what, first, second, *numbers, "" if n is None else str(n), note]
