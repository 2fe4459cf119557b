"""A replay as CSV: lines that say how the numbers were made, then one line a cell, an effect or a run."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from adma.bench.report.replay import Effect, Replay, ReplayRow
from adma.bench.report.replay_words import cost_lines, measure_words, scale_words, shape_of, trouble_lines
from adma.bench.report.text import one_line
from adma.bench.statistics import Estimate

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
EFFECT_COLUMNS = ("table", "data", "variant", "base", "loss", "change", "ci_low", "ci_high", "level", "n", "sd")


def csv_text(head: Sequence[tuple[str, str]], columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines `# name: value`, the columns' names, the rows.

    Every value is put on one line. A line that holds a # further on is quoted, so pandas reads all with
    `comment="#"`.

    Raises:
        ValueError: a row has more or fewer values than there are columns.
    """
    out = io.StringIO()
    for name, value in head:
        out.write(f"# {one_line(name)}: {one_line(value)}".rstrip() + "\n")
    plain, quoted = (csv.writer(out, lineterminator="\n", quoting=q) for q in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in (columns, *rows):
        values = [one_line(value) for value in row]
        if len(values) != len(columns):
            raise ValueError(f"a row of {len(values)} values, but there are {len(columns)} columns: {values}")
        (quoted if any("#" in value for value in values) else plain).writerow(values)
    return out.getvalue()


def replay_csv(replay: Replay) -> str:
    """One line a cell (CSV_COLUMNS), below lines that begin with # and say how the numbers were made.

    Accuracies, sd and deviation are in per cent or points, `level` is a fraction; what does not exist is empty.
    """
    rows = [_cell_values(replay, row, role) for row in replay.rows for role in replay.roles_of(row)]
    return csv_text(_head(replay), CSV_COLUMNS, rows)


def effects_csv(replay: Replay) -> str:
    """One line an effect (EFFECT_COLUMNS) below the same lines as in `replay_csv`.

    `change`, its interval and sd are points of the replay's measure under `variant` minus under `base`, paired by seed.
    """
    return csv_text(_head(replay), EFFECT_COLUMNS, [_effect_values(replay, effect) for effect in replay.effects])


def _head(replay: Replay) -> list[tuple[str, str]]:
    return [
        ("title", replay.title),
        *([("caption", replay.caption)] if replay.caption else []),
        ("scale", scale_words(replay)),
        ("measure", measure_words(replay)),
        ("command", replay.command),
        ("date", replay.date),
        *((name, "; ".join(values)) for name, values in replay.machine),
        *((f"setting, {row.dataset}", row.setting_words) for row in replay.rows if row.setting_words),
        *((f"trouble, {title}", line) for title, line in trouble_lines(replay)),
        *(("protocol cost", line) for line in cost_lines(replay)),
        *(("claim", f"{said}; ours: {ours}") for said, ours in replay.claims),
        *(("note", note) for note in replay.notes),
    ]


def _cell_values(replay: Replay, row: ReplayRow, role: str) -> list[str]:
    cell = row.cell(role)
    deviation = cell.deviation
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
        **_estimate_values(cell.estimate, "ours"),
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


def _effect_values(replay: Replay, effect: Effect) -> list[str]:
    values = {
        "table": replay.name,
        "data": effect.data,
        "variant": effect.variant,
        "base": effect.base,
        "loss": effect.loss,
        **_estimate_values(effect.estimate, "change"),
    }
    return [values[name] for name in EFFECT_COLUMNS]


def _estimate_values(estimate: Estimate | None, mean: str) -> dict[str, str]:
    """A fraction's estimate times 100; `mean` names its column."""
    interval = estimate.interval if estimate and estimate.interval else (math.nan, math.nan)
    return {
        mean: _number(estimate.mean * 100 if estimate else None),
        "ci_low": _number(100 * interval[0]),
        "ci_high": _number(100 * interval[1]),
        "level": f"{estimate.level:g}" if estimate and estimate.interval else "",
        "n": str(estimate.n if estimate else 0),
        "sd": _number(estimate.sd * 100 if estimate else None),
    }


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4f}"
