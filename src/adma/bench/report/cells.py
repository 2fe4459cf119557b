"""One cell's text: means, differences and p-values, the same in the terminal and on the page."""

from __future__ import annotations

import math

from adma.bench.statistics import Estimate, LossSummary, signed
from adma.bench.statistics.words import FRACTIONS

DASH = "–"
_NAMES = {"accuracy": "accuracy", "mean_iou": "mean IoU", "nll": "NLL", "ece": "ECE", "brier": "Brier score"}


def is_fraction(metric: str) -> bool:
    """Whether a metric is shown in per cent."""
    return metric.endswith(FRACTIONS)


def metric_name(metric: str) -> str:
    """`test_nll` as a heading: test NLL."""
    part, _, measure = metric.partition("_")
    return f"{part} {measure_name(measure)}"


def measure_name(measure: str) -> str:
    """`mean_iou` in a sentence: mean IoU."""
    return _NAMES.get(measure, measure)


def number(value: float, scale: float, digits: int) -> str:
    """A number, or a dash for what is not defined; what rounds to 0 has no sign."""
    if math.isnan(value):
        return DASH
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
        return DASH
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


def p_words(p: float | None) -> str:
    """`0.55`, `0.0042`, `<0.0001`; a dash where there is none."""
    if p is None or math.isnan(p):
        return DASH
    if p < 1e-4:
        return "<0.0001"
    return f"{p:.2f}" if p >= 0.095 else f"{p:.2g}"
