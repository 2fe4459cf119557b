"""A replay's facts in words and a cell's numbers as text: the terminal, the CSV, LaTeX and the page say the same."""

from __future__ import annotations

import math
import warnings

from adma.bench.printed import ROLE_TITLES
from adma.bench.report.cells import measure_name, metric_name, number
from adma.bench.report.replay import NOT_RUN, Effect, Replay, ReplayCell, ReplayRow
from adma.bench.statistics import Estimate, percent, signed

DASH = "–"

# -- sentences ----------------------------------------------------------------------------------------------------


def scale_words(replay: Replay) -> str:
    """What the scale means for a reader of the deviations."""
    if not replay.of_paper:
        return f"Scale {replay.scale}."
    if not replay.reduced:
        return f"Scale {replay.scale}: the paper's sizes and epochs."
    lacking = f" ({replay.shortfall})" if replay.shortfall else ""
    deviation = "the deviation from the printed number" if replay.printed else "a difference from what the paper says"
    return (
        f"Scale {replay.scale}: not the paper's samples, epochs and seeds in full{lacking}. "
        f"At a reduced scale {deviation} is not a verdict on the paper."
    )


def protocol_words(replay: Replay) -> str:
    """`protocol clean`; nothing where no a was chosen and none is the paper's."""
    return f"protocol {replay.protocol}" if replay.protocol != "printed" or replay.protocol_words else ""


def measure_words(replay: Replay) -> str:
    """What ours is: the metric and the protocol."""
    words = (
        f"Ours: mean {metric_name(replay.measure)} after the last epoch, {percent(replay.level)} interval over seeds."
    )
    protocol = protocol_words(replay)
    return " ".join(filter(None, [words, protocol and f"{protocol.capitalize()}.", replay.protocol_words]))


def measure_title(replay: Replay) -> str:
    """What is compared, at the beginning of a sentence: `Accuracy`, `Mean IoU`."""
    name = measure_name(replay.measure.partition("_")[2])
    return name[0].upper() + name[1:]


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


def cost_lines(replay: Replay) -> list[str]:
    """What the paper's protocol gives away, a line a data set."""
    return [
        f"tuning a on the reported part adds {points_words(cost)} points: {title} (n = {cost.n})"
        for title, cost in replay.protocol_costs
    ]


# -- names --------------------------------------------------------------------------------------------------------


def role_title(role: str) -> str:
    """A column's heading: the paper's word, or the spec."""
    return ROLE_TITLES.get(role, role)


def effect_title(effect: Effect) -> str:
    """The loss of an effect, `CCE`, or the lead that it is about, `Adma minus CCE`."""
    return " minus ".join(role_title(part) for part in effect.loss.split(" minus "))


def variant_title(variant: str) -> str:
    """A variant's name; the entry without one is the base."""
    return variant or "base"


def shape_of(spec: str) -> float | None:
    """The a of a spec of Adma's family; None for any other loss, and for one that is not known here."""
    from adma.spec import parse

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a shape that deserves a warning got it where it was trained
            loss = parse(spec)
    except (ValueError, TypeError):
        return None
    a = getattr(loss, "a", None) if loss.name == "adma" else None
    return a if isinstance(a, (int, float)) else None


# -- numbers ------------------------------------------------------------------------------------------------------


def count_words(row: ReplayRow, role: str) -> str:
    """`3/5`: seeds that gave a number, of those asked for; a dash for a loss that was not asked for."""
    asked = row.seeds and (row.not_run or row.cell(role).loss)
    return f"{row.cell(role).n}/{row.seeds}" if asked else DASH


def half_width(estimate: Estimate) -> float | None:
    """Half the interval's width; None where there is no interval."""
    return None if estimate.interval is None else (estimate.interval[1] - estimate.interval[0]) / 2


def _with_half(mean: str, estimate: Estimate) -> str:
    half = half_width(estimate)
    return mean if half is None else f"{mean} ± {100 * half:.2f}"


def mean_words(estimate: Estimate | None) -> str:
    """`91.20 ± 0.40`: a fraction in per cent; without an interval the mean alone, without a result a dash."""
    if estimate is None or estimate.n == 0:
        return DASH
    return _with_half(number(estimate.mean, 100, 2), estimate)


def points_words(estimate: Estimate | None) -> str:
    """`+0.12 ± 0.30`: a difference of fractions in points; a dash as in `mean_words`."""
    if estimate is None or estimate.n == 0:
        return DASH
    return _with_half(signed(100 * estimate.mean, 2), estimate)


def ours_words(cell: ReplayCell) -> str:
    """A cell's own number, as `mean_words`."""
    return mean_words(cell.estimate)


def interval_words(points: Estimate | None) -> str:
    """`−0.68 to +0.12` of an estimate that is in points already, or a dash."""
    if points is None or points.interval is None:
        return DASH
    return f"{signed(points.interval[0], 2)} to {signed(points.interval[1], 2)}"


def printed_words(value: float | None) -> str:
    """As the paper prints it, without its per cent sign; a dash where it prints nothing."""
    return DASH if value is None or math.isnan(value) else f"{value:.2f}"
