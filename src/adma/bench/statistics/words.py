"""Numbers in words: signs, per cent, points."""

from __future__ import annotations

from adma.bench.statistics.estimates import Estimate

HIGHER_IS_BETTER = ("accuracy", "mean_iou")  # measures that are best at 1
FRACTIONS = (*HIGHER_IS_BETTER, "ece")  # measures that are shown in per cent


def value_in_words(value: float, metric: str) -> str:
    """A fraction in per cent, anything else as it is."""
    return f"{100 * value:.2f}%" if metric.endswith(FRACTIONS) else f"{value:.4f}"


def difference_in_words(estimate: Estimate, metric: str, interval: str = "interval") -> str:
    """A difference, of fractions in points (of a per cent), with its interval, which is called so."""
    scale, unit, digits = (100, " points", 2) if metric.endswith(FRACTIONS) else (1, "", 4)
    text = f"{signed(scale * estimate.mean, digits)}{unit}"
    if estimate.interval is None:
        return text
    low, high = (signed(scale * end, digits) for end in estimate.interval)
    return f"{text}, {percent(estimate.level)} {interval} {low} to {high}"


def signed(value: float, digits: int) -> str:
    """With + or a minus sign, except for what rounds to 0."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def percent(level: float) -> str:
    return f"{100 * level:.4g}%"
