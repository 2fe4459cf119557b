"""The paper's table with ours for a terminal, and what the variants change; CSV and LaTeX are offered here too."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.report.replay import Replay
from adma.bench.report.replay_csv import CSV_COLUMNS, EFFECT_COLUMNS, csv_text, effects_csv, replay_csv
from adma.bench.report.replay_latex import latex_text, replay_latex
from adma.bench.report.replay_words import (
    DASH,
    cost_lines,
    count_words,
    effect_title,
    interval_words,
    measure_title,
    measure_words,
    ours_words,
    points_words,
    printed_words,
    role_title,
    scale_words,
    trouble_lines,
    variant_title,
)
from adma.bench.report.text import printable
from adma.bench.statistics import percent, signed

__all__ = [
    "CSV_COLUMNS",
    "EFFECT_COLUMNS",
    "csv_text",
    "effect_table",
    "effects_csv",
    "latex_text",
    "replay_csv",
    "replay_latex",
    "replay_table",
]


def plain_table(title: str = "") -> Table:
    """An empty table in the style that all tables of a replay share."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", caption_style="", collapse_padding=True)
    if title:
        table.title, table.title_style, table.title_justify = title, "bold", "left"
    return table


def replay_table(replay: Replay) -> Table:
    """A line a loss of every data set: the printed number, ours, the number of seeds, the deviation.

    Fits a terminal of 100 columns. Numbers in per cent, deviations in points with the interval of our mean moved by
    the printed number. Our highest mean of a data set is bold, with a star. Where the paper prints nothing, its
    columns are left out. What it says in words stands in a second table below.
    """
    table = plain_table()
    table.add_column("data set", overflow="fold", max_width=19)
    table.add_column("loss", overflow="fold", min_width=13)
    headings = [f"ours, %\n± {percent(replay.level)}", "n"]
    if replay.printed:
        headings = ["printed\n%", *headings, "deviation\npoints", "its interval"]
    else:
        table.min_width = 76  # the caption is as wide as the table
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for row in replay.rows:
        for place, role in enumerate(replay.roles_of(row)):
            cell, status, deviation = row.cell(role), row.status(role), row.cell(role).deviation
            values = [
                Text(ours_words(cell) if cell.n else status, style="" if cell.n else "yellow"),
                Text(count_words(row, role)),
            ]
            if replay.printed:
                values = [
                    Text(printed_words(cell.printed)),
                    *values,
                    Text(DASH if deviation is None else signed(deviation.mean, 2)),
                    Text(interval_words(deviation)),
                ]
            table.add_row(
                Text(printable(row.title) if place == 0 else "", style=""),
                Text(printable(cell.loss or role_title(role)) + (" *" if role in row.best else "")),
                *values,
                style="bold" if role in row.best else "",
            )
        table.add_section()
    table.caption = _caption(replay)
    if not replay.claims:
        return table
    both = Table.grid()
    for part in (table, "", _claims(replay)):
        both.add_row(part)
    return both


def _claims(replay: Replay) -> Table:
    table = plain_table("What the paper says in words")
    for heading in ("the paper", "ours"):
        table.add_column(heading, overflow="fold")
    for pair in replay.claims:
        table.add_row(*(Text(printable(words)) for words in pair))
    return table


def _caption(replay: Replay) -> Text:
    text = Text()
    text.append(f"{printable(replay.title)}. ", style="bold")
    text.append(f"{printable(replay.caption)}\n")
    text.append(f"{printable(scale_words(replay))}\n", style="yellow" if replay.reduced and replay.of_paper else "")
    text.append(printable(measure_words(replay)) + "\n")
    if any(row.best for row in replay.rows):
        text.append("* our highest mean of the data set; highest is not proven best.\n")
    for title, line in trouble_lines(replay):
        text.append(printable(f"{title}: "), style="yellow")
        text.append(printable(f"{line}\n"))
    for line in cost_lines(replay):
        text.append(printable(f"{line}\n"))
    for note in replay.notes:
        text.append(printable(f"note: {note}\n"))
    text.rstrip()
    return text


def effect_table(replay: Replay) -> Table | None:
    """A line a loss of every variant: by how many points its measure changes against the base, seed by seed.

    Fits a terminal of 100 columns. None where the study has no variants.
    """
    if not replay.effects:
        return None
    table = plain_table("What the variants change")
    table.add_column("data set", overflow="fold", max_width=19)
    table.add_column("variant", overflow="fold", min_width=8)
    table.add_column("against", overflow="fold", min_width=8)
    table.add_column("loss", overflow="fold", min_width=14)
    level = percent(replay.effects[0].estimate.level)
    for heading in (f"change, points\n± {level}", "n"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    before = None
    for effect in replay.effects:
        what = (effect.data, variant_title(effect.variant), variant_title(effect.base))
        if before is not None and before != what:
            table.add_section()
        # A data set's name stands at its first variant only, a variant's at its first loss.
        names = ["", "", ""] if what == before else list(what)
        if before is not None and before[0] == what[0]:
            names[0] = ""
        before = what
        table.add_row(
            *(Text(printable(name)) for name in (*names, effect_title(effect))),
            Text(points_words(effect.estimate)),
            Text(str(effect.estimate.n)),
        )
    table.caption = (
        f"{measure_title(replay)} under the variant minus that under what it stands against, seed by seed, in points ± "
        f"half a {level} interval; n: the seeds that both have. “A minus B”: what becomes of A's lead over B."
    )
    return table
