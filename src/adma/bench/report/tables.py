"""The comparison in a terminal, and the line of Python that takes its winner home."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields

from rich import box
from rich.table import Table
from rich.text import Text

from adma.bench.report.text import printable
from adma.bench.shaping import known_here
from adma.bench.statistics import Comparison, Estimate, LossSummary, percent, signed
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
}
_NAMES = {"accuracy": "accuracy", "nll": "NLL", "ece": "ECE", "brier": "Brier score"}


def paste_line(spec: str) -> str:
    """A line of Python for the loss: `loss_fn = adma.AdmaLoss(a=0.26)`; a second one for a shape that changes.

    Parameters at their default are left out, but for adma's `a`, which is what a reader looks for. A loss
    that is not one of the library's own is named by its spec.
    """
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
        f"minus baseline{points}\n{band}",
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
    text.append(f"Best: {printable(comparison.winner)}. " if comparison.winner else "Undecided. ", style="bold")
    text.append(printable(comparison.verdict.reason))
    return text


def _short(cell: str, estimate: Estimate | None, metric: str) -> str:
    """The interval as half its width, to fit a terminal: it is symmetric."""
    if estimate is None or estimate.interval is None:
        return cell
    scale, digits = (100, 2) if is_fraction(metric) else (1, 4)
    half = scale * (estimate.interval[1] - estimate.interval[0]) / 2
    return f"{cell.partition(' [')[0]} ± {half:.{digits}f}"


# -- one cell's text; the HTML table says the same -----------------------------------------------------------


def is_fraction(metric: str) -> bool:
    """Whether a metric is shown in per cent."""
    return metric.endswith(("accuracy", "ece"))


def metric_name(metric: str) -> str:
    """`test_nll` as a heading: test NLL."""
    part, _, measure = metric.partition("_")
    return f"{part} {_NAMES.get(measure, measure)}"


def number(value: float, scale: float, digits: int) -> str:
    """A number, or a dash for what is not defined; what rounds to 0 has no sign."""
    if math.isnan(value):
        return "–"
    text = f"{scale * value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def mean_cell(estimate: Estimate, metric: str) -> str:
    """`91.20 [90.10, 92.30]`."""
    scale, digits = (100, 2) if is_fraction(metric) else (1, 4)
    mean = number(estimate.mean, scale, digits)
    if estimate.interval is None:
        return f"{mean} [no interval]" if estimate.n else mean
    low, high = (number(end, scale, digits) for end in estimate.interval)
    return f"{mean} [{low}, {high}]"


def difference_cell(summary: LossSummary, metric: str) -> str:
    """`+0.40 [−0.10, +0.90]`, or what the baseline is."""
    if summary.to_baseline is None:
        return "baseline"
    return estimate_cell(summary.to_baseline.estimate, metric)


def estimate_cell(estimate: Estimate, metric: str) -> str:
    """`+0.40 [−0.10, +0.90]`: an estimated difference."""
    if estimate.n == 0:
        return "–"
    scale, digits = (100, 2) if is_fraction(metric) else (1, 4)
    mean = signed(scale * estimate.mean, digits)
    if estimate.interval is None:
        return f"{mean} [no interval]"
    low, high = (signed(scale * end, digits) for end in estimate.interval)
    return f"{mean} [{low}, {high}]"


def pair_cell(summary: LossSummary, name: str, scale: float, digits: int) -> str:
    """`4.10 → 2.00`: measured on the softmax, and on the recovered posterior where there is one."""
    plain, posterior = summary.secondary[name], summary.secondary[f"{name}_posterior"]
    text = number(plain, scale, digits)
    return text if math.isnan(posterior) else f"{text} → {number(posterior, scale, digits)}"
