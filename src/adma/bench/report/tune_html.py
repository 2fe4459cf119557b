"""The page of a search: what was chosen, what it is worth with fresh seeds, and how far the choice matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from adma.bench.folder import measure_of
from adma.bench.report.cells import estimate_cell, mean_cell, measure_name, number
from adma.bench.report.figures import to_svg
from adma.bench.report.html import environment_rows, render_page, split_cell
from adma.bench.report.tune_figures import one_panel
from adma.bench.report.tune_tables import importance_words, paste_words, plateau_words, trouble_words
from adma.bench.search.analysis import Curve, Unknown
from adma.bench.search.outcome import Found, Outcome
from adma.bench.search.trials import COMPLETE, FAILED, PRUNED, mean
from adma.bench.whole import write_whole

_LEFT_OUT = ("data", "data_hash", "lr")


def write_tune_report(outcome: Outcome, path: str | Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        BenchError: the file cannot be written.
    """
    path = Path(path)
    write_whole(path, render_tune(outcome).encode("utf-8", "backslashreplace"))
    return path


def render_tune(outcome: Outcome) -> str:
    """The page as HTML text."""
    return render_page("tune.html.jinja", _view(outcome))


def _view(outcome: Outcome) -> dict[str, Any]:
    about = outcome.about
    dataset = about.get("dataset") or {}
    comparison = outcome.comparison
    several = comparison if len(outcome.found) > 1 else None
    return {
        "name": str(dataset.get("name") or outcome.setting.data),
        "partial": outcome.missing,
        "verdict": several.verdict if several else None,
        "paste": _paste(outcome),
        "rows": [_row(f) for f in outcome.found],
        "losses": [_loss(f, index) for index, f in enumerate(outcome.found)],
        "differences": [
            (s.loss, split_cell(estimate_cell(s.to_baseline.estimate, several.metric)))
            for s in (several.ranked if several else ())
            if several and s.to_baseline is not None
        ],
        "measure": measure_name(measure_of(about)),
        "baseline": comparison.baseline if comparison else "",
        "seeds": len(outcome.seeds),
        "fresh": ", ".join(map(str, outcome.final_seeds)),
        "rope": f"{100 * outcome.rope:g}",
        "setting": [
            (key.replace("_", " "), "all" if value is None else str(value))
            for key, value in asdict(outcome.setting).items()
            if key not in _LEFT_OUT
        ],
        "fingerprint": outcome.setting.data_hash,
        "sizes": [(p, str(dataset["sizes"][p])) for p in ("train", "val", "test")] if dataset.get("sizes") else [],
        "notes": [str(n) for n in dataset.get("notes") or ()],
        "storage": str(about.get("storage") or ""),
        "machine": environment_rows(outcome.results) if outcome.results is not None else [],
        "command": str(about.get("command") or ""),
        "made": [
            text
            for text, value in (
                (f"adma {about.get('adma_version')}", about.get("adma_version")),
                (f"search of {about.get('created')}", about.get("created")),
            )
            if value
        ],
    }


def _paste(outcome: Outcome) -> str:
    """The line of the only loss, or of the best one."""
    if len(outcome.found) == 1:
        return paste_words(outcome.found[0])
    winner = outcome.comparison.winner if outcome.comparison else None
    return next((paste_words(f) for f in outcome.found if winner and f.spec == winner), "")


def _row(found: Found) -> dict[str, Any]:
    bias = None if isinstance(found.bias, Unknown) else found.bias
    nothing = ("–", "")
    return {
        "found": found.winner is not None,
        "name": found.name,
        "spec": found.spec or "none",
        "lr": f"{found.lr:.3g}" if found.winner else "–",
        "searched": number(found.winner.value, 100, 2) if found.winner else "–",
        "fresh": split_cell(mean_cell(bias.fresh, f"val_{found.measure}")) if bias else nothing,
        "bias": split_cell(estimate_cell(bias.difference, f"val_{found.measure}")) if bias else nothing,
        "test": split_cell(mean_cell(found.test, f"test_{found.measure}")) if found.test.n else nothing,
    }


def _loss(found: Found, index: int) -> dict[str, Any]:
    """A section: figures, sentences, every trial."""
    panels = list(found.space.template.space or found.space.ranges)
    return {
        "id": f"loss-{index}",
        "name": found.name,
        "figures": [
            Markup(
                to_svg(
                    one_panel(found, key),
                    label=f"Validation {measure_name(found.measure)} of every trial against {key}",
                    prefix=f"search-{index}-{number_}",
                )
            )
            for number_, key in enumerate(panels)
        ],
        "lifted": _lifted(found),
        "counted": f"{found.count(COMPLETE)} done, {found.count(PRUNED)} pruned, {found.count(FAILED)} failed of "
        f"{found.budget}",
        "epochs": f"{found.epochs:,}",
        "sentences": [
            text
            for text in (
                *(plateau_words(key, c) for key, c in found.curves.items()),
                importance_words(found),
            )
            if text
        ],
        "paste": paste_words(found),
        "troubles": trouble_words(found),
        "ranges": [
            (key, f"{r.low:g} to {r.high:g}{', by ratios' if r.log else ''}") for key, r in found.space.ranges.items()
        ],
        "trials": [_trial(found, index) for index in range(len(found.trials))],
    }


def _lifted(found: Found) -> str:
    lifted: Mapping[str, Curve] = {k: c for k, c in found.curves.items() if isinstance(c, Curve) and c.lifted}
    return "; ".join(
        f"{k}: {c.lifted} trials below {100 * c.floor:.2f}% count as that in the curve" for k, c in lifted.items()
    )


def _trial(found: Found, place: int) -> dict[str, Any]:
    trial = found.trials[place]
    return {
        "index": str(trial.index),
        "spec": found.space.template.spec(trial.params),
        "lr": f"{found.space.lr_of(trial.params):.3g}",
        "state": trial.state + (f", {len(trial.diverged)} diverged" if trial.diverged else ""),
        "value": number(mean(trial.values), 100, 2),
        "values": ", ".join(number(value, 100, 2) for value in trial.values.values()),
        "epochs": str(trial.epochs),
        "winner": trial is found.winner,
    }
