"""A replay in LaTeX, in the paper's own layout."""

from __future__ import annotations

from adma.bench.report.replay import Replay, ReplayRow
from adma.bench.report.replay_words import (
    half_width,
    measure_title,
    measure_words,
    printed_words,
    role_title,
    scale_words,
    shape_of,
    trouble_lines,
)
from adma.bench.report.text import one_line
from adma.bench.statistics import percent

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
        f"{'Replay of ' if replay.printed else ''}{replay.title}.",  # LaTeX puts "Table 7: " before it
        replay.caption,
        f"{measure_title(replay)} in per cent, ours ± half the {percent(replay.level)} interval over seeds"
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
    return "".join(_SPECIALS.get(c, c) for c in one_line(text))


def _label(name: str) -> str:
    return "".join(c if (c.isascii() and c.isalnum()) or c in "-." else "-" for c in name)
