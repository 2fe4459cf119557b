"""The paper's table with ours as one HTML page: the page of `html`, with other contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from adma.bench.report.across_tables import (
    LOSS_HEADINGS,
    PAIR_HEADINGS,
    across_words,
    loss_lines,
    pair_lines,
)
from adma.bench.report.cells import estimate_cell, number
from adma.bench.report.html import package_file, render_page, split_cell
from adma.bench.report.replay import DONE, PARTIAL, OverDatasets, Replay, ReplayRow
from adma.bench.report.replay_words import (
    DASH,
    count_words,
    effect_title,
    interval_words,
    measure_title,
    measure_words,
    ours_words,
    printed_words,
    protocol_words,
    role_title,
    scale_words,
    shape_of,
    trouble_lines,
    variant_title,
)
from adma.bench.report.trait_tables import measured
from adma.bench.statistics import percent, signed
from adma.bench.traits import TRAITS, Trait

_ACCURACY = "val_accuracy"  # formats: per cent, differences in points


def replay_html(replay: Replay, figures: Sequence[tuple[str, str]] = ()) -> str:
    """The page: the table, the paper's words, what the variants change, what did not run, the protocol's cost, the
    course of training, figures, settings.

    It holds its style and figures, runs no script and loads nothing; every text from outside is escaped.

    Args:
        figures: title and `<svg>` element, as `figures.to_svg` makes it; the element passes as it is.
    """
    cells = [(row, role) for row in replay.rows for role in replay.asked(row)]
    finished = [(row, role) for row, role in cells if row.cell(role).n]
    covered = [row.cell(role).deviation for row, role in finished]
    intervals = [d.interval for d in covered if d is not None and d.interval is not None]
    led = [row for row in replay.rows if row.bold and row.best]
    view = {
        "css": Markup(package_file("report.css") + package_file("replay.css")),
        "replay": replay,
        "level": percent(replay.level),
        "over": _over(replay),
        "scale": scale_words(replay),
        "measure": measure_words(replay),
        "measure_title": measure_title(replay),
        "roles": [role_title(role) for role in replay.roles],
        "cells": len(cells),
        "finished": len(finished),
        "complete": sum(row.status(role) == DONE for row, role in cells),
        "covered": (sum(low <= 0 <= high for low, high in intervals), len(intervals)),
        "led": (sum(row.bold in row.best for row in led), len(led)),
        "rows": [_row(replay, row) for row in replay.rows],
        "troubles": trouble_lines(replay),
        "effects": _effects(replay),
        "overs": [_across(over) for over in replay.over],
        "loss_headings": LOSS_HEADINGS,
        "pair_headings": PAIR_HEADINGS,
        "costs": [(name, str(e.n), split_cell(estimate_cell(e, _ACCURACY))) for name, e in replay.protocol_costs],
        "traits": [line for row in replay.rows if measured(row) for line in _trait_lines(row)],
        "traited": [row.title for row in replay.rows if not measured(row)],
        "figures": [(title, Markup(svg)) for title, svg in figures],
        "settings": [_setting(row) for row in replay.rows],
        "made": [text for text in (replay.name, replay.date) if text],
    }
    return render_page("replay.html.jinja", view)


def _across(over: OverDatasets) -> dict[str, Any]:
    found = over.across
    return {
        "title": over.title,
        "reason": over.reason,
        "losses": [] if found is None else loss_lines(found),
        "words": [] if found is None else across_words(found),
        "pairs": [] if found is None else pair_lines(found),
    }


def _over(replay: Replay) -> list[str]:
    """What stands above the heading; what was changed of the scale may be long and stands in the text."""
    kind = "Replay of the paper" if replay.of_paper else "Comparison of losses"
    return [text for text in (kind, f"scale {replay.scale.partition(',')[0]}", protocol_words(replay)) if text]


def _row(replay: Replay, row: ReplayRow) -> dict[str, Any]:
    verdict = ""
    if row.comparison is not None:
        winner = row.comparison.winner
        verdict = f"{winner} is best" if winner else "undecided"
    return {
        "title": row.title,
        "verdict": verdict,
        "reason": row.not_run,
        "cells": [_cell(row, role) for role in replay.roles],
    }


def _cell(row: ReplayRow, role: str) -> dict[str, Any]:
    cell = row.cell(role)
    deviation = cell.deviation
    a = shape_of(cell.loss) if cell.loss else None
    printed = "" if cell.printed is None else printed_words(cell.printed)
    if printed and role == "adma" and row.printed_a is not None:
        printed += f", a = {row.printed_a:.4f}"
    return {
        "ours": ours_words(cell) if cell.n else "",
        "state": "" if cell.n else row.status(role),
        "partial": row.status(role) == PARTIAL,
        "best": role in row.best,
        "printed": printed,
        "bold": role == row.bold,
        "deviation": "" if deviation is None else signed(deviation.mean, 2),
        "interval": "" if deviation is None or deviation.interval is None else f"[{interval_words(deviation)}]",
        "n": "" if count_words(row, role) == DASH else count_words(row, role),
        "spec": "" if not cell.loss else (f"a = {a:g}" if a is not None else cell.loss),
        "note": cell.note,
    }


def _effects(replay: Replay) -> list[dict[str, Any]]:
    """A line an effect; the first of a variant holds its names and over how many lines they reach."""
    keys = [(e.data, e.variant, e.base) for e in replay.effects]
    lines = []
    for place, (key, effect) in enumerate(zip(keys, replay.effects, strict=True)):
        first = place == 0 or keys[place - 1] != key
        end = next((i for i in range(place, len(keys)) if keys[i] != key), len(keys))
        lines.append(
            {
                "span": end - place if first else 0,
                "data": effect.data,
                "variant": f"{variant_title(effect.variant)} against {variant_title(effect.base)}",
                "loss": effect_title(effect),
                "n": str(effect.estimate.n),
                "cell": split_cell(estimate_cell(effect.estimate, _ACCURACY)),
            }
        )
    return lines


def _trait_lines(row: ReplayRow) -> list[dict[str, Any]]:
    """A line a loss of one data set: every trait's mean and its difference to the baseline."""
    by_loss: dict[str, dict[str, Trait]] = {}
    for trait in row.traits:
        by_loss.setdefault(trait.loss, {})[trait.name] = trait
    lines = []
    for place, (loss, of) in enumerate(by_loss.items()):
        lines.append(
            {
                "title": row.title if place == 0 else "",
                "span": len(by_loss),
                "loss": loss,
                "done": str(max(len(t.values) + t.undefined for t in of.values())),
                "cells": [_trait_cell(of[name]) if name in of else ("–", "") for name in TRAITS],
            }
        )
    return lines


def _trait_cell(trait: Trait) -> tuple[str, str]:
    mean = number(trait.estimate.mean, 100, 2)
    return mean, "" if trait.to_baseline is None else estimate_cell(trait.to_baseline.estimate, _ACCURACY)


def _setting(row: ReplayRow) -> dict[str, Any]:
    names = {"train": "training", "val": "validation", "test": "test"}
    facts = {
        "not run": row.not_run,
        "samples": ", ".join(f"{names.get(part, part)} {size:,}" for part, size in row.sizes.items()),
        "epochs": "" if row.epochs is None else str(row.epochs),
        "image size": row.image_size,
        "seeds": str(row.seeds) if row.seeds else "",
        "training": row.setting_words,
    }
    return {"title": row.title, "facts": [(name, value) for name, value in facts.items() if value]}
