"""What several data sets say together: the paper's printed tables, and ours over the data sets that ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adma.bench.errors import BenchError
from adma.bench.printed import DATASET_TITLES, PRINTED, ROLES, TABLES
from adma.bench.report.replay import OverDatasets, ReplayRow
from adma.bench.statistics import LeftOut, compare_across


def of_printed(table: int) -> OverDatasets:
    """One of the paper's Tables 1 to 4, whose cells are means without spread."""
    scores = {
        DATASET_TITLES[data]: {role: [row.accuracy(role)] for role in ROLES} for data, row in PRINTED[table].items()
    }
    return OverDatasets(f"{TABLES[table].title}, as the paper prints it", compare_across(scores))


def of_ours(rows: Sequence[ReplayRow], table: int) -> OverDatasets:
    """Ours over the data sets that ran, those of the table that did not named; too few are said so instead."""
    title = f"{TABLES[table].title}, ours"
    scores = {row.title: {role: [100 * v for v in _values(row, role)] for role in row.cells} for row in rows}
    asked = dict.fromkeys(role for row in rows for role, cell in row.cells.items() if cell.loss)
    try:
        found = compare_across(scores, losses=list(asked))
    except BenchError as error:
        return OverDatasets(title, None, str(error))
    reasons = {row.title: f"not run: {row.not_run}" for row in rows if row.not_run}
    others = [LeftOut(DATASET_TITLES[data], "not asked for") for data in PRINTED[table]]
    named = [replace(item, reason=reasons.get(item.name, item.reason)) for item in found.left_out]
    named += [item for item in others if item.name not in {row.title for row in rows}]
    return OverDatasets(title, replace(found, left_out=tuple(named)))


def _values(row: ReplayRow, role: str) -> list[float]:
    if row.comparison is None:
        return []
    return [v for s in row.comparison.losses if s.loss == row.cell(role).loss for v in s.values.values()]
