"""Static pictures of a loss as SVG, drawn from the library's own psi and slope: `python website/curves.py OUT`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from adma import numpy as reference
from adma.classic import LargeMarginSoftmax
from adma.family import CrossEntropy, Loss, Member
from adma.spec import format_spec, known

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 340, 250, 46, 40, 26
DASHES = ("", "7 3", "2 3", "9 3 2 3")
CLASSES = 10  # of the pictures of losses outside the family


@dataclass(frozen=True)
class Curve:
    """name, x and y; a curve of reference is drawn thin and grey."""

    name: str
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    grey: bool = False


@dataclass(frozen=True)
class Panel:
    """A picture of one quantity. top: the largest y that is shown; higher ones leave the picture."""

    title: str
    x_label: str
    curves: Sequence[Curve]
    top: float


def shown(cls: type[Loss]) -> list[Loss]:
    """What is drawn of a loss: its default, and its first parameter at both ends of its range."""
    default = cls()
    losses = [default]
    for key in [f.name for f in fields(cls) if f.name in cls.space and not cls.space[f.name].optional][:1]:
        reach = cls.space[key]
        kind = int if reach.whole else float
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # beyond the convex range: drawn as well
            losses += [cls(**{key: kind(end)}) for end in (reach.low, reach.high)]
    return sorted(dict.fromkeys(losses), key=lambda loss: loss != default)


def panels(cls: type[Loss]) -> list[Panel]:
    """The pictures of a loss: of a member of the family loss and slope, of another its loss.

    Raises:
        TypeError: the float64 reference does not know the loss, and there is no picture of its own here.
    """
    losses = shown(cls)
    p = np.linspace(0.002, 1.0, 400)
    if issubclass(cls, Member):
        t = -np.log(p)
        psi = [Curve(label(m), p, np.asarray(m.psi(t, np), float)) for m in losses]  # type: ignore[attr-defined]
        slope = [Curve(label(m), p, np.asarray(m.slope(t, np), float)) for m in losses]  # type: ignore[attr-defined]
        if cls is not CrossEntropy:
            psi.append(Curve("cce", p, t, grey=True))
            slope.append(Curve("cce", p, np.ones_like(p), grey=True))
        x = "probability p of the true class"
        return [
            Panel("loss", x, psi, _top(psi, 4.0)),
            Panel("slope: weight relative to cross-entropy", x, slope, _top(slope, 4.0)),
        ]
    if cls is LargeMarginSoftmax:
        angle = np.linspace(0.0, np.pi, 400)
        curves = [Curve(label(m), angle, _large_margin(angle, m)) for m in losses]  # type: ignore[arg-type]
        low = [Curve(c.name, c.x, c.y - min(c.y.min() for c in curves)) for c in curves]
        return [Panel("psi(theta), raised so that its least value is 0", "angle theta, radians", low, _top(low, 99.0))]
    curves = [Curve(label(m), p[:-1], along(m, p[:-1])) for m in losses]
    curves.append(Curve("cce", p, -np.log(p), grey=True))
    x = f"softmax probability p of the true class of {CLASSES}, the others equal"
    return [Panel("loss", x, curves, _top(curves, 4.0))]


def along(loss: Loss, p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A loss where the true class's softmax is p, the other nine share the rest, and the logits' mean is 0."""
    gap = np.log(p) - np.log((1 - p) / (CLASSES - 1))
    logits = np.repeat(-gap[:, None] / CLASSES, CLASSES, axis=1)
    logits[:, 0] += gap
    return np.asarray(reference.loss(loss, logits, np.zeros(len(p), int), reduction="none"), float)


def _large_margin(angle: np.ndarray[Any, Any], loss: LargeMarginSoftmax) -> np.ndarray[Any, Any]:
    m = loss.margin
    k = np.minimum(np.floor(angle * m / np.pi), m - 1)
    hard: np.ndarray[Any, Any] = (-1.0) ** k * np.cos(m * angle) - 2 * k
    return (loss.lam * np.cos(angle) + hard) / (1 + loss.lam)


def label(loss: Loss) -> str:
    """A loss in a legend: its spec, numbers short."""
    spec = format_spec(loss)
    name, colon, tail = spec.partition(":")
    pairs = [part.split("=") for part in tail.split(",")] if colon else []
    return name + colon + ",".join(f"{k}={_short(v)}" for k, v in pairs)


def _short(value: str) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def _top(curves: Sequence[Curve], most: float) -> float:
    highest = max(float(c.y.max()) for c in curves if not c.grey)
    return min(most, max(1.0, 1.08 * highest))


def svg(panel: Panel, name: str) -> str:
    """A panel as an inline picture that takes the page's colours; lines differ by dashes too."""
    inner, high = WIDTH - LEFT - 10, HEIGHT - TOP - BOTTOM
    start, stop = 0.0, float(panel.curves[0].x.max())
    across: Callable[[Any], Any] = lambda x: LEFT + inner * (x - start) / (stop - start)  # noqa: E731
    up: Callable[[Any], Any] = lambda y: TOP + high * (1 - y / panel.top)  # noqa: E731
    parts = [f'<text x="{LEFT}" y="15" class="title">{escape(panel.title)}</text>']
    for k in range(5):
        x, y = start + k * (stop - start) / 4, k * panel.top / 4
        parts.append(f'<line x1="{LEFT}" y1="{up(y):.1f}" x2="{WIDTH - 10}" y2="{up(y):.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{up(y) + 4:.1f}" text-anchor="end">{y:.2f}</text>')
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x:.2f}</text>')
    parts.append(f'<text x="{LEFT + inner / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.x_label)}</text>')
    drawn = 0
    for curve in panel.curves:
        kind = "reference" if curve.grey else f"line{drawn}"
        dash = "1 4" if curve.grey else DASHES[drawn]
        drawn += not curve.grey
        inside = curve.y <= panel.top * 1.02
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(curve.x[inside], curve.y[inside], strict=True))
        parts.append(f'<polyline class="{kind}" stroke-dasharray="{dash}" points="{points}"/>')
    text = f"{panel.title} of {', '.join(c.name for c in panel.curves)}"
    return (
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}: {escape(text)}">'
        f"{''.join(parts)}</svg>"
    )


def legend(panel: Panel) -> str:
    """The names of a panel's curves, each with its line."""
    items, drawn = [], 0
    for curve in panel.curves:
        kind, dash = ("reference", "1 4") if curve.grey else (f"line{drawn}", DASHES[drawn])
        drawn += not curve.grey
        items.append(
            '<li><svg class="curves key" viewBox="0 0 34 10" aria-hidden="true"><polyline '
            f'class="{kind}" stroke-dasharray="{dash}" points="1,5 33,5"/></svg> <code>{escape(curve.name)}</code></li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def picture(cls: type[Loss]) -> str:
    """All panels of a loss with one legend, as a figure of HTML."""
    drawn = panels(cls)
    return f'<figure class="loss">{"".join(svg(panel, cls.name) for panel in drawn)}{legend(drawn[0])}</figure>'


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for loss_name, loss_class in known().items():
        (folder / f"{loss_name}.html").write_text(picture(loss_class), encoding="utf-8")
