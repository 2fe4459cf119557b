"""What a command prints of a comparison, with the report that it writes beside it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from adma.bench.folder import Results
from adma.bench.overlap import overlaps
from adma.bench.probabilities import probabilities
from adma.bench.report.cells import is_fraction
from adma.bench.report.html import write_report
from adma.bench.report.overlap_tables import overlap_table
from adma.bench.report.probability_tables import probability_table
from adma.bench.report.tables import comparison_table, paste_line
from adma.bench.statistics import BETTER, Comparison, summarise


def show(
    console: Console,
    results: Results,
    root: Path,
    metric: str,
    baseline: str | None = None,
    rope: float | None = None,
) -> None:
    """Print the tables, and write the report into the folder.

    Args:
        metric: to compare by.
        baseline, rope: as `summarise` has them; None: as the study was begun with.
    """
    comparison = summary_of(results, metric, baseline, rope)
    console.print()
    console.print(comparison_table(comparison))
    console.print()
    found = overlaps(results)
    if found:
        console.print(overlap_table(found, comparison))
        console.print()
    console.print(probability_table(probabilities(results)))
    console.print()
    console.print(Text(_advice(comparison)), soft_wrap=True)
    path = write_report(results, comparison, root / "report.html")
    console.print(Text(f"report: {path}"), soft_wrap=True)


def summary_of(results: Results, metric: str, baseline: str | None = None, rope: float | None = None) -> Comparison:
    """The comparison with what was asked for, or else what the study was begun with."""
    about = results.about
    if rope is None and metric == f"test_{results.measure}":
        rope = about.get("rope")
    return summarise(results, metric=metric, baseline=baseline or about.get("baseline"), rope=rope)


def in_unit(rope: float | None, metric: str) -> float | None:
    """--rope in the metric's own unit: points are hundredths of accuracy and calibration error."""
    return rope if rope is None or not is_fraction(metric) else rope / 100


def _advice(comparison: Comparison) -> str:
    """The line to paste: the winner's; else the leader's if it beats the baseline, or the usual loss."""
    if comparison.winner:
        return f"For your own training:  {paste_line(comparison.winner)}"
    for summary in comparison.losses:
        stands = summary.stands
        if summary.loss == comparison.verdict.leader and stands is not None and stands.verdict == BETTER:
            return (
                f"No loss is shown to be best here, but this one is better than {comparison.baseline}:  "
                f"{paste_line(summary.loss)}"
            )
    return f"No loss is shown to be best here; the usual one is  {paste_line('cce')}"
