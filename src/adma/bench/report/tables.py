"""The comparison in a terminal, and the line of Python that takes its winner home."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench import own_loss
from adma.bench.loss_specs import known_here
from adma.bench.report.cells import difference_cell, is_fraction, mean_cell, metric_name, number, pair_cell
from adma.bench.report.text import printable
from adma.bench.report.verdict_words import verdict_heading, verdict_lines
from adma.bench.statistics import Comparison, Estimate, percent
from adma.classic import LargeMarginSoftmax
from adma.spec import format_spec

_MODULES = {
    "cce": "CrossEntropyLoss",
    "adma": "AdmaLoss",
    "gce": "GeneralizedCrossEntropyLoss",
    "mae": "MeanAbsoluteErrorLoss",
    "focal": "FocalLoss",
    "poly1": "Poly1Loss",
    "taylor": "TaylorCrossEntropyLoss",
    "agce": "AsymmetricGeneralizedCrossEntropyLoss",
    "aue": "AsymmetricUnhingedLoss",
    "aexp": "AsymmetricExponentialLoss",
    "mse": "MeanSquaredErrorLoss",
    "squared_hinge": "SquaredHingeLoss",
    "bi_tempered": "BiTemperedLoss",
    "smoothed_cce": "SmoothedCrossEntropyLoss",
    "sce": "SymmetricCrossEntropyLoss",
    "nce_rce": "ActivePassiveLoss",
    "semantic": "SemanticCrossEntropyLoss",
    "l_softmax": "LargeMarginSoftmaxLoss",
}


def paste_line(spec: str) -> str:
    """A line of Python for the loss: `loss_fn = adma.AdmaLoss(a=0.26)`; a second one for a shape that changes.

    Parameters at their default are left out, but for adma's `a`, which is what a reader looks for. A loss
    that is not one of the library's own is named by its spec.
    """
    if own_loss.is_own(spec):
        return own_loss.parse(spec).lines
    flexible = known_here(spec)
    if flexible is None:  # registered where the study ran, not here
        return _by_spec(spec)
    loss = flexible.loss
    if loss.name in _MODULES:
        arguments = [
            f"{f.name}={value!r}"
            for f in fields(loss)
            if (value := getattr(loss, f.name)) != f.default
            or f.default is MISSING
            or (loss.name, f.name) == ("adma", "a")
        ]
        line = f"loss_fn = adma.{_MODULES[loss.name]}({', '.join(arguments)})"
        line += ".attach(model)" if isinstance(loss, LargeMarginSoftmax) else ""
    else:
        line = _by_spec(spec if flexible.fixed else format_spec(loss))
    if flexible.scheduled:
        schedules = ", ".join(f'{name}="{schedule}"' for name, schedule in flexible.scheduled.items())
        line += (
            f"\nshape = adma.flex.ShapeScheduler(loss_fn, total_steps, {schedules})  # shape.step() after each "
            "optimizer.step()"
        )
    if flexible.learned:
        names = "".join(f'"{name}", ' for name in flexible.learned).strip()
        line += (
            f"\ntuner = adma.flex.ShapeTuner(loss_fn, model, optimizer, held_out, parameters=({names}))"
            "  # tuner.step(inputs, target) after each optimizer.step()"
        )
    return line


def _by_spec(spec: str) -> str:
    return f"loss_fn = adma.make_loss({json.dumps(spec, ensure_ascii=False)})"


def comparison_table(comparison: Comparison) -> Table:
    """One row a loss, best mean first; below it what did not finish, then the verdict.

    Accuracy is in per cent and its differences in points; ECE in per cent, "softmax →
    recovered posterior"; NLL in nats.
    """
    unit, points = (" %", ", points") if is_fraction(comparison.metric) else ("", "")
    band = f"± {percent(comparison.level)}"  # half the interval's width: it is symmetric
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, caption_justify="left", caption_style="", pad_edge=False)
    table.add_column("loss", overflow="fold", min_width=8)
    for heading in (
        "n",
        f"{metric_name(comparison.metric)}{unit}\n{band}",
        f"minus baseline{points}\n{band if comparison.growth is None else 'confidence seq.'}",
        "ECE % softmax → posterior",
        "NLL",
        "s per run",
    ):
        table.add_column(Text(heading), justify="right", overflow="fold")
    for summary in comparison.ranked:
        winner = summary.loss == comparison.winner
        cells = (
            f"{summary.n}/{len(comparison.seeds)}",
            _short(mean_cell(summary.estimate, comparison.metric), summary.estimate, comparison.metric),
            _short(
                difference_cell(summary, comparison.metric),
                summary.to_baseline.estimate if summary.to_baseline else None,
                comparison.metric,
            ),
            pair_cell(summary, "test_ece", 100, 2),
            number(summary.secondary["test_nll"], 1, 3),
            number(summary.secondary["seconds"], 1, 1),
        )
        name = Text(printable(("★ " if winner else "") + summary.loss), style="bold" if winner else "")
        table.add_row(name, *map(Text, cells), style="bold" if winner else "")
    table.caption = _caption(comparison)
    return table


def _caption(comparison: Comparison) -> Text:
    text = Text()
    for summary in comparison.losses:
        for (status, reason_text), seeds in summary.grouped_troubles().items():
            line = f"{summary.loss}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {status}"
            reason = reason_text.strip().splitlines()
            text.append(printable(line), style="yellow")
            text.append(printable(f" ({reason[0] if reason else ''})\n"))
    if any(s.n == 1 for s in comparison.losses):
        text.append("An interval needs at least two seeds; run more with --seeds.\n")
    lines = verdict_lines(comparison)
    if lines:
        text.append(printable(verdict_heading(comparison)) + "\n")
    for loss, word, words in lines:
        text.append(printable(f"  {loss} "))
        text.append(word, style="bold")
        text.append(printable(f": {words}\n"))
    text.append(f"Best: {printable(comparison.winner)}. " if comparison.winner else "Undecided. ", style="bold")
    text.append(printable(comparison.verdict.reason))
    return text


def _short(cell: str, estimate: Estimate | None, metric: str) -> str:
    """The interval as half its width, to fit a terminal: it is symmetric."""
    if estimate is None or estimate.interval is None:
        return cell
    scale, digits = (100, 2) if is_fraction(metric) else (1, 4)
    low, high = estimate.interval
    if not math.isclose(high - estimate.mean, estimate.mean - low, rel_tol=1e-6, abs_tol=1e-12):
        return cell  # a confidence sequence, which is not symmetric
    half = scale * (high - low) / 2
    return f"{cell.partition(' [')[0]} ± {half:.{digits}f}"
