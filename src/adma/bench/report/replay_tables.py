"""The paper's table with ours, as text: for a terminal, as CSV, and as LaTeX in the paper's own layout."""

from __future__ import annotations

import csv
import io
import math

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.report.replay import (
    NOT_RUN,
    Replay,
    ReplayRow,
    count_words,
    half_width,
    interval_words,
    ours_words,
    printed_words,
    role_title,
    scale_words,
    shape_of,
)
from adma.bench.report.tables import metric_name
from adma.bench.report.text import printable
from adma.bench.statistics import percent, signed

CSV_COLUMNS = (
    "table",
    "dataset",
    "loss",
    "spec",
    "status",
    "a",
    "printed_a",
    "printed",
    "ours",
    "ci_low",
    "ci_high",
    "level",
    "n",
    "sd",
    "deviation",
    "train_size",
    "val_size",
    "test_size",
    "epochs",
    "seeds",
    "image_size",
    "scale",
    "protocol",
    "measure",
    "note",
)


def replay_table(replay: Replay) -> Table:
    """A line a loss of every data set: the printed number, ours, the number of seeds, the deviation.

    Fits a terminal of 100 columns. Numbers in per cent, deviations in points with the interval of our mean moved by
    the printed number. Our highest mean of a data set is bold, with a star. Where the paper prints nothing, its
    columns are left out.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", caption_style="", collapse_padding=True)
    table.add_column("data set", overflow="fold", max_width=19)
    table.add_column("loss", overflow="fold", min_width=13)
    headings = [f"ours, %\n± {percent(replay.level)}", "n"]
    if replay.printed:
        headings = ["printed\n%", *headings, "deviation\npoints", "its interval"]
    else:
        table.min_width = 76  # the caption is as wide as the table
    for heading in headings:
        table.add_column(Text(heading), justify="right")
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
                    Text("–" if deviation is None else signed(deviation.mean, 2)),
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
    return table


def _caption(replay: Replay) -> Text:
    text = Text()
    text.append(f"{printable(replay.title)}. ", style="bold")
    text.append(f"{printable(replay.caption)}\n")
    text.append(f"{printable(scale_words(replay))}\n", style="yellow" if replay.reduced and replay.printed else "")
    text.append(printable(measure_words(replay)) + "\n")
    if any(row.best for row in replay.rows):
        text.append("* our highest mean of the data set; highest is not proven best.\n")
    for title, line in trouble_lines(replay):
        text.append(printable(f"{title}: "), style="yellow")
        text.append(printable(f"{line}\n"))
    for note in replay.notes:
        text.append(printable(f"note: {note}\n"))
    text.rstrip()
    return text


def measure_words(replay: Replay) -> str:
    """What ours is: the metric and the protocol."""
    words = (
        f"Ours: mean {metric_name(replay.measure)} after the last epoch, {percent(replay.level)} interval over seeds."
    )
    return " ".join(filter(None, [words, f"Protocol {replay.protocol}.", replay.protocol_words]))


def trouble_lines(replay: Replay) -> list[tuple[str, str]]:
    """Data set and line, for all that did not run or finish and for the cells' notes."""
    lines = []
    for row in replay.rows:
        if row.not_run:
            lines.append((row.title, f"{NOT_RUN} ({row.not_run})"))
        lines += [(row.title, trouble) for trouble in row.troubles]
        lines += [
            (row.title, f"{cell.loss or role_title(r)}: {cell.note}") for r, cell in row.cells.items() if cell.note
        ]
    return lines


# -- CSV ------------------------------------------------------------------------------------------------------


def replay_csv(replay: Replay) -> str:
    """One line a cell (CSV_COLUMNS), below lines that begin with # and say how the numbers were made.

    Accuracies, sd and deviation are in per cent or points, `level` is a fraction; what does not exist is empty.
    Every value is on one line. A line that holds a # further on is quoted, so pandas reads all with `comment="#"`.
    """
    out = io.StringIO()
    about = [
        ("table", f"{replay.title}: {replay.caption}"),
        ("scale", scale_words(replay)),
        ("measure", measure_words(replay)),
        ("command", replay.command),
        ("date", replay.date),
        *((name, "; ".join(values)) for name, values in replay.machine),
        *((f"setting, {row.dataset}", row.setting_words) for row in replay.rows if row.setting_words),
        *((f"trouble, {title}", line) for title, line in trouble_lines(replay)),
        *(("note", note) for note in replay.notes),
    ]
    for name, value in about:
        out.write(f"# {_one_line(name)}: {_one_line(value)}\n")
    plain, quoted = (csv.writer(out, lineterminator="\n", quoting=q) for q in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    plain.writerow(CSV_COLUMNS)
    for row in replay.rows:
        for role in replay.roles_of(row):
            values = [_one_line(value) for value in _csv_values(replay, row, role)]
            (quoted if any("#" in value for value in values) else plain).writerow(values)
    return out.getvalue()


def _csv_values(replay: Replay, row: ReplayRow, role: str) -> list[str]:
    cell = row.cell(role)
    estimate, deviation = cell.estimate, cell.deviation
    interval = estimate.interval if estimate and estimate.interval else (math.nan, math.nan)
    a = shape_of(cell.loss) if role == "adma" and cell.loss else None
    values = {
        "table": replay.name,
        "dataset": row.dataset,
        "loss": role,
        "spec": cell.loss,
        "status": row.status(role),
        "a": "" if a is None else f"{a:g}",
        "printed_a": "" if role != "adma" or row.printed_a is None else f"{row.printed_a:.4f}",
        "printed": "" if cell.printed is None else f"{cell.printed:.2f}",
        "ours": _number(estimate.mean * 100 if estimate else None),
        "ci_low": _number(100 * interval[0]),
        "ci_high": _number(100 * interval[1]),
        "level": f"{estimate.level:g}" if estimate and estimate.interval else "",
        "n": str(cell.n),
        "sd": _number(estimate.sd * 100 if estimate else None),
        "deviation": _number(deviation.mean if deviation else None),
        **{f"{part}_size": str(row.sizes.get(part, "")) for part in ("train", "val", "test")},
        "epochs": "" if row.epochs is None else str(row.epochs),
        "seeds": str(row.seeds),
        "image_size": row.image_size,
        "scale": replay.scale,
        "protocol": replay.protocol,
        "measure": replay.measure,
        "note": "; ".join(filter(None, [cell.note, row.not_run])),
    }
    return [values[name] for name in CSV_COLUMNS]


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


# -- LaTeX ----------------------------------------------------------------------------------------------------

_SPECIALS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # bare, it would be an option of the \\ or \addlinespace before it
    "]": "{]}",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def replay_latex(replay: Replay) -> str:
    r"""The paper's own layout, for a document with `\usepackage{booktabs}`: ours ± half its interval, printed below.

    Adma's a, ours and the printed one, stand in its column; our highest mean of a row is bold. Needs no other
    package; the text is UTF-8.
    """
    rows = []
    for row in replay.rows:
        ours, below = [latex_text(row.title)], [""]
        for role in replay.roles:
            value, printed = _latex_cell(row, role)
            ours.append(value)
            below.append(printed)
        lines = [ours, below] if any(below) else [ours]
        rows.append("\n".join(" & ".join(line) + r" \\" for line in lines))
    headings = " & ".join(["", *(latex_text(role_title(role)) for role in replay.roles)])
    caption = [
        f"{replay.title}. {replay.caption}",
        f"Accuracy in per cent, ours ± half the {percent(replay.level)} interval over seeds"
        + ("; below it, in parentheses, the printed number." if replay.printed else "."),
        "Bold: our highest mean of the row." if any(row.best for row in replay.rows) else "",
        scale_words(replay),
        measure_words(replay),
        *(f"{title}: {line}." for title, line in trouble_lines(replay)),
    ]
    return (
        "\\begin{table}\n\\centering\\footnotesize\n\\setlength{\\tabcolsep}{4pt}\n"
        f"\\caption{{{latex_text(' '.join(caption))}}}\n"
        f"\\label{{tab:replay-{_label(replay.name)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * len(replay.roles)}}}\n\\toprule\n"
        f"{headings} \\\\\n\\midrule\n"
        + "\n\\addlinespace\n".join(rows)
        + "\n\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def _latex_cell(row: ReplayRow, role: str) -> tuple[str, str]:
    """What stands in a cell, and what below it."""
    cell = row.cell(role)
    if cell.estimate is None or cell.n == 0:
        value = rf"\textit{{{row.status(role)}}}"
    else:
        half = half_width(cell.estimate)
        mean = f"{100 * cell.estimate.mean:.2f}"
        value = (rf"\textbf{{{mean}}}" if role in row.best else mean) + (
            rf" $\pm$ {100 * half:.2f}" if half is not None else ""
        )
    a = shape_of(cell.loss) if role == "adma" and cell.loss else None
    if a is not None:
        value = f"($a={a:g}$) {value}"
    if cell.printed is None:
        return value, ""
    of_a = f"$a={row.printed_a:.4f}$, " if role == "adma" and row.printed_a is not None else ""
    return value, f"({of_a}{printed_words(cell.printed)})"


def latex_text(text: str) -> str:
    r"""Text for LaTeX: specials escaped, on one line."""
    return "".join(_SPECIALS.get(c, c) for c in _one_line(text))


def _label(name: str) -> str:
    return "".join(c if (c.isascii() and c.isalnum()) or c in "-." else "-" for c in name)
