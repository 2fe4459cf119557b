"""What the studies have in common: tables of runs as CSV, paired differences in words, text below a mark of a page."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from adma.bench.statistics import Estimate, estimate, signed

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
MARK = "<!-- computed below: {} -->"
LEVEL = 0.95


def read(path: Path) -> list[dict[str, str]]:
    """A table's rows; none if there is no table yet."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A table, in the place of an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def values(rows: Iterable[Mapping[str, str]], measure: str, scale: float = 1.0, **where: str) -> dict[str, float]:
    """Seed -> measure; of several rows of a seed their mean.

    Args:
        rows: of a table with a column "seed".
        scale: a factor, such as 100 for per cent.
        where: column -> value of the rows that are meant.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if all(row[column] == value for column, value in where.items()):
            found.setdefault(row["seed"], []).append(scale * float(row[measure]))
    return {seed: math.fsum(some) / len(some) for seed, some in found.items()}


def mean(values: Mapping[str, float]) -> Estimate:
    """Over the seeds of `values` (seed -> value)."""
    return estimate(list(values.values()), LEVEL)


def minus(left: Mapping[str, float], right: Mapping[str, float]) -> Estimate:
    """The difference, paired by seed, over the seeds that both have."""
    return estimate([left[seed] - right[seed] for seed in left if seed in right], LEVEL)


def half_width(e: Estimate) -> float:
    """Of the interval; NaN without one."""
    return math.nan if e.interval is None else (e.interval[1] - e.interval[0]) / 2


def words(e: Estimate, digits: int = 2) -> str:
    """`1.23 ± 0.45`."""
    return f"{e.mean:.{digits}f} ± {half_width(e):.{digits}f}"


def difference(e: Estimate, digits: int = 2) -> str:
    """`+1.23 ± 0.45 (n = 5)`, with * if the interval leaves 0 out."""
    half = half_width(e)
    mark = " *" if math.isfinite(half) and abs(e.mean) > half else ""
    return f"{signed(e.mean, digits)} ± {half:.{digits}f} (n = {e.n}){mark}"


def put(page: Path, command: str, text: str) -> None:
    """Text in the place of what stood below the page's mark."""
    mark = MARK.format(command)
    above, found, _ = page.read_text(encoding="utf-8").partition(mark)
    if not found:
        raise SystemExit(f"{page} has no line {mark!r}, below which its tables go")
    page.write_text(above + mark + "\n" + text, encoding="utf-8")


def verbs(description: str | None, table: Path, **numbers: int) -> argparse.Namespace:
    """A study's command line: `run`, with its numbers and their usual values as options, and `docs [--write]`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    both = parser.add_subparsers(dest="verb", required=True)
    running, writing = both.add_parser("run"), both.add_parser("docs")
    for name, usual in numbers.items():
        running.add_argument(f"--{name}", type=int, default=usual)
    writing.add_argument("--write", action="store_true")
    for verb in (running, writing):
        verb.add_argument("--table", type=Path, default=table)
    return parser.parse_args()
