"""What the spec of a training's loss says, before any module is made.

A spec is one of `adma.flex.spec`, or names the place of anyone's loss (`own_loss`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from adma.bench import own_loss
from adma.bench.errors import BenchError
from adma.flex.spec import FlexibleSpec, parse


def learns(spec: str) -> bool:
    """Whether a loss sets a part of the training samples aside."""
    return not own_loss.is_own(spec) and bool(parse(spec).learned)


def follows_progress(spec: str) -> bool:
    """Whether the shape follows a schedule, so that it depends on how long the whole training is."""
    if own_loss.is_own(spec):
        return False  # nothing tells it
    flexible = known_here(spec)
    return flexible is None or bool(flexible.scheduled)


def canonical_loss(text: str) -> str:
    """A loss's spec in its one spelling.

    Raises:
        ValueError: as `adma.flex.spec.parse` and `own_loss.parse`.
    """
    return str(own_loss.parse(text) if own_loss.is_own(text) else parse(text))


def canonical_losses(texts: Sequence[str], option: str = "--loss") -> tuple[str, ...]:
    """The specs in their one spelling.

    Args:
        option: that they were given with.

    Raises:
        BenchError: one is not known, or is given twice.
    """
    losses: list[str] = []
    for text in texts:
        try:
            loss = canonical_loss(text)
        except ValueError as error:
            raise BenchError(f"{option}: {error}") from error
        if loss in losses:
            raise BenchError(f"{option} {text}: this loss is given twice")
        losses.append(loss)
    return tuple(losses)


def known_here(spec: str) -> FlexibleSpec | None:
    """A stored loss as a report reads it: silently, the warnings came when it was trained; None if not of adma here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return parse(spec)
        except (ValueError, TypeError):
            return None
