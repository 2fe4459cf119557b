"""The report: one HTML file that holds its style and figures, runs no script and loads nothing.

Names, paths, reasons and commands come from the user's disk. Every expression of the template goes through
`printable` and is escaped; only this package's own CSS and the SVG elements pass as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from adma.bench.data.dataset import MEAN_IOU
from adma.bench.folder import Results
from adma.bench.overlap import overlaps
from adma.bench.probabilities import probabilities
from adma.bench.report.cells import (
    difference_cell,
    estimate_cell,
    is_fraction,
    mean_cell,
    measure_name,
    metric_name,
    number,
    pair_cell,
)
from adma.bench.report.figures import learning_traces, loss_curves, to_svg
from adma.bench.report.overlap_tables import overlap_rows
from adma.bench.report.probability_tables import HEADINGS, notes, probability_rows
from adma.bench.report.shape_figures import shape_traces
from adma.bench.report.tables import paste_line
from adma.bench.report.text import printable
from adma.bench.report.verdict_words import (
    GROWN_HEADINGS,
    column_words,
    rope_words,
    too_few,
    verdict_lines,
    verdict_rows,
)
from adma.bench.report.verdict_words import (
    HEADINGS as VERDICT_HEADINGS,
)
from adma.bench.result import DONE
from adma.bench.statistics import MIN_SEEDS, Comparison, LossSummary, percent
from adma.bench.whole import write_whole

_SEED_COLUMNS = (
    ("val_accuracy", "val accuracy %", 100, 2),
    ("test_accuracy", "test accuracy %", 100, 2),
    ("val_mean_iou", "val mean IoU %", 100, 2),
    ("test_mean_iou", "test mean IoU %", 100, 2),
    ("test_nll", "test NLL", 1, 3),
    ("test_nll_posterior", "test NLL, posterior", 1, 3),
    ("test_nll_scaled", "test NLL, scaled", 1, 3),
    ("test_brier", "test Brier", 1, 3),
    ("test_brier_posterior", "test Brier, posterior", 1, 3),
    ("test_brier_scaled", "test Brier, scaled", 1, 3),
    ("test_ece", "test ECE %", 100, 2),
    ("test_ece_posterior", "test ECE %, posterior", 100, 2),
    ("test_ece_scaled", "test ECE %, scaled", 100, 2),
    ("temperature", "temperature", 1, 3),
)
_SETTING_NAMES = {
    "data": "data, as given",
    "data_hash": "data fingerprint",
    "lr": "learning rate",
    "train_size": "training samples used",
    "train_fraction": "share of the training part used",
    "label_noise": "label noise of the training part",
    "noisy_val": "label noise of the validation part too",
}


@dataclass(frozen=True)
class _Row:
    """A line of the main table, as text."""

    loss: str
    mark: str
    best: bool
    done: str
    mean: tuple[str, str]
    difference: tuple[str, str]
    against: tuple[str, str]
    ece: str
    nll: str
    seconds: str


def write_report(results: Results, comparison: Comparison, path: str | Path) -> Path:
    """Write the report of a study, whole or not at all; a partial study gives a report that says so.

    Args:
        comparison: `summarise(results)`.
        path: of the HTML file; its folder must exist.

    Raises:
        BenchError: the file cannot be written.
    """
    path = Path(path)
    write_whole(path, render(results, comparison).encode("utf-8", "backslashreplace"))
    return path


def render(results: Results, comparison: Comparison) -> str:
    """The report as HTML text."""
    return render_page("report.html.jinja", _view(results, comparison))


def render_page(template: str, view: Mapping[str, Any]) -> str:
    """One of this package's templates, filled in: every text is made printable and escaped, none is obeyed.

    Args:
        template: its file name; it extends page.html.jinja.
        view: what it shows; `css` is report.css unless it is given. Only `Markup` passes as it is.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(package_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template(template).render({"css": Markup(package_file("report.css")), **view})


def package_file(name: str) -> str:
    """A text file that lies beside this module."""
    return resources.files("adma.bench.report").joinpath(name).read_text(encoding="utf-8")


def _view(results: Results, comparison: Comparison) -> dict[str, Any]:
    """All that the template shows, as text and lists of text."""
    about = results.about
    study = results.study
    dataset = about.get("dataset") or {}
    found = {row.loss: row for row in probabilities(results, level=comparison.level)}
    done = sum(c.status == DONE for c in results.cells)
    classes = overlap_rows(overlaps(results, level=comparison.level), comparison)
    per_cent = " %" if is_fraction(comparison.metric) else ""
    return {
        "name": str(dataset.get("name") or study.setting.data),
        "comparison": comparison,
        "verdict": comparison.verdict,
        "partial": comparison.missing,
        "done": done,
        "total": len(results.cells),
        "level": percent(comparison.level),
        "corrected": percent(comparison.verdict.differences[0].estimate.level)
        if comparison.verdict.differences
        else "",
        "metric": metric_name(comparison.metric),
        "metric_heading": metric_name(comparison.metric) + per_cent,
        "points": ", points" if per_cent else "",
        "min_seeds": MIN_SEEDS,
        "rows": [_row(s, comparison) for s in comparison.ranked],
        "rests_on": [
            (d.other, str(len(d.seeds)), split_cell(estimate_cell(d.estimate, comparison.metric)))
            for d in comparison.verdict.differences
        ],
        "pastes": [(s.loss, paste_line(s.loss), s.loss == comparison.winner) for s in comparison.ranked],
        "winner_paste": paste_line(comparison.winner) if comparison.winner else "",
        "single": any(s.n == 1 for s in comparison.losses),
        "troubles": [
            (s.loss, ", ".join(map(str, seeds)), status, reason)
            for s in comparison.losses
            for (status, reason), seeds in s.grouped_troubles().items()
        ],
        "mishaps": [(c.cell.loss, str(c.cell.seed), text) for c in results.cells for text in c.env.get("faults", ())],
        "growth": comparison.growth,
        "rope": rope_words(comparison),
        "error": percent(1 - comparison.level),
        "corrected_sequence": percent(1 - (1 - comparison.level) / max(1, len(comparison.losses) - 1)),
        "verdict_lines": verdict_lines(comparison),
        "verdict_rows": verdict_rows(comparison),
        "verdict_headings": VERDICT_HEADINGS if comparison.growth is None else GROWN_HEADINGS,
        "too_few": too_few(comparison),
        "probability_headings": list(HEADINGS.values()),
        "probabilities": [
            (s.loss, [(r.what, r.n, [split_cell(cell) for cell in r.cells]) for r in rows])
            for s in comparison.ranked
            if (rows := probability_rows(found[s.loss]))
        ],
        "probability_notes": notes(list(found.values())),
        "traces": _traces(results),
        "shape": _shape(results),
        "curves": _curves(study.losses),
        "overlaps": [(name, share, list(map(split_cell, cells))) for name, share, cells in classes],
        "overlap_losses": [s.loss for s in comparison.ranked],
        "seed_headings": [heading for _, heading, _, _ in _seed_columns(results)],
        "seed_rows": _seed_rows(results),
        "setting": [
            (_SETTING_NAMES.get(key, key.replace("_", " ")), "all" if value is None else str(value))
            for key, value in asdict(study.setting).items()
        ],
        "losses": ", ".join(study.losses),
        "seeds": ", ".join(map(str, study.seeds)),
        "dataset": _dataset_rows(dataset),
        "classes": [str(c) for c in dataset.get("classes") or ()],
        "notes": [str(n) for n in dataset.get("notes") or ()],
        "hash_names": sorted({name for shared in comparison.shared.values() for name in shared}),
        "shared": comparison.shared,
        "machine": environment_rows(results),
        "command": str(about.get("command") or ""),
        "made": [
            text
            for text, value in (
                (f"adma {about.get('adma_version')}", about.get("adma_version")),
                (f"study of {about.get('created')}", about.get("created")),
            )
            if value
        ],
    }


def _row(summary: LossSummary, comparison: Comparison) -> _Row:
    winner = summary.loss == comparison.winner
    leader = summary.loss == comparison.verdict.leader and len(comparison.losses) > 1
    mark = "best" if winner else ("leads, not proven" if leader else "")
    return _Row(
        loss=summary.loss,
        mark=mark,
        best=winner,
        done=f"{summary.n}/{len(comparison.seeds)}",
        mean=split_cell(mean_cell(summary.estimate, comparison.metric)),
        difference=split_cell(difference_cell(summary, comparison.metric)),
        against=column_words(summary, comparison),
        ece=pair_cell(summary, "test_ece", 100, 2),
        nll=pair_cell(summary, "test_nll", 1, 3),
        seconds=number(summary.secondary["seconds"], 1, 1),
    )


def split_cell(cell: str) -> tuple[str, str]:
    """A cell's text as its value and its interval, for the template's macro `number`."""
    value, bracket, interval = cell.partition(" [")
    return value, bracket.strip() + interval


def _traces(results: Results) -> list[Markup]:
    measure = results.measure
    words = {
        f"val_{measure}": f"Validation {measure_name(measure)} over the epochs, one line a loss; last values are in "
        "the table of every run",
        "val_nll": "Negative log-likelihood over the epochs, one line a loss",
    }
    return [
        Markup(to_svg(learning_traces(results, columns=(column,)), label=label, prefix=f"trace-{column}"))
        for column, label in words.items()
    ]


def _shape(results: Results) -> Markup:
    """The shape over training, empty if no shape changes."""
    figure = shape_traces(results)
    label = "The parameters of the losses that change in training, over the epochs"
    return Markup(to_svg(figure, label=label, prefix="trace-shape") if figure else "")


def _curves(losses: Sequence[str]) -> list[Markup]:
    words = {
        "loss": "Each loss against the probability of the true class",
        "weight": "Each loss's weight of a sample, relative to cross-entropy, against the same probability",
    }
    return [
        Markup(to_svg(loss_curves(losses, panels=(panel,), strict=False), label=label, prefix=f"curve-{panel}"))
        for panel, label in words.items()
    ]


def _seed_columns(results: Results) -> list[tuple[str, str, int, int]]:
    """Those that the data have."""
    return [c for c in _SEED_COLUMNS if not c[0].endswith(MEAN_IOU) or results.measure == MEAN_IOU]


def _seed_rows(results: Results) -> list[tuple[str, str, str, list[str], str, str]]:
    rows, columns = [], _seed_columns(results)
    place = {seed: k for k, seed in enumerate(results.study.seeds)}
    for c in sorted(results.cells, key=lambda c: place[c.cell.seed]):
        numbers = [number(c.final(name), scale, digits) for name, _, scale, digits in columns]
        seconds = number(c.seconds if c.status == DONE else math.nan, 1, 1)
        rows.append((str(c.cell.seed), c.cell.loss, c.status, numbers, seconds, c.cell.key))
    return rows


def _dataset_rows(dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if dataset.get("samples") is not None:
        rows.append(("samples", str(dataset["samples"])))
    if dataset.get("sample_shape"):
        rows.append(("shape of one", " × ".join(map(str, dataset["sample_shape"]))))
    if dataset.get("classes"):
        rows.append(("classes", str(len(dataset["classes"]))))
    names = {"train": "training", "val": "validation", "test": "test"}
    for part, size in (dataset.get("sizes") or {}).items():
        rows.append((f"{names.get(part, part)} samples", str(size)))
    return rows


_OF_ONE_RUN = ("shared", "conditions", "iou", "weights", "faults", "resumed_at")  # not of the machine


def environment_rows(results: Results) -> list[tuple[str, list[str]]]:
    """What the runs recorded of versions, hardware and threads: name and every value that occurs."""
    seen: dict[str, dict[str, None]] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{prefix} {key}".strip(), inner)
        else:
            seen.setdefault(prefix, {})[str(value)] = None

    for cell in results.cells:
        for key, value in cell.env.items():
            if key in ("versions", "hardware"):
                walk("", value)
            elif key not in _OF_ONE_RUN:
                walk(key, value)
    return [(name, list(values)) for name, values in seen.items()]
