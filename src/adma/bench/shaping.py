"""The loss of one training and how its shape changes: from a spec to a module, its steps, the trace of its values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import adma
from adma.bench.errors import BenchError
from adma.flex import FlexibleSpec, ShapeScheduler
from adma.flex.spec import parse
from adma.torch.flexible import CallLoss


class Shaping:
    """The loss module of a training, its shape where the schedules have it.

    Args:
        spec: of `adma.flex.spec`.
        epochs: of the training.
        steps_per_epoch: of the optimizer.

    Raises:
        BenchError: a parameter is to be learned.
    """

    def __init__(self, spec: str, *, epochs: int, steps_per_epoch: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said where the command read the spec
            flexible = parse(spec)
            refuse_learned(spec, flexible)
            loss_fn = adma.make_loss(flexible.loss)
            assert isinstance(loss_fn, CallLoss)
            self.loss_fn = loss_fn
            schedules: dict[str, Any] = dict(flexible.scheduled)
            self._scheduler = ShapeScheduler(loss_fn, epochs * steps_per_epoch, **schedules) if schedules else None
        self._steps_per_epoch = steps_per_epoch
        self._values: list[dict[str, float]] = [self._scheduler.get_last_value()] if self._scheduler else []

    def step(self) -> None:
        """After each step of the optimizer."""
        if self._scheduler is not None:
            self._scheduler.step()
            self._values.append(self._scheduler.get_last_value())

    def trace(self) -> dict[str, np.ndarray]:
        """The values so far, as `store.CellResult` keeps them; empty for a shape that is fixed."""
        if not self._values:
            return {}
        step = np.arange(len(self._values))
        columns = {name: np.array([row[name] for row in self._values]) for name in self._values[0]}
        return {"step": step, "epoch": step / self._steps_per_epoch, **columns}


def canonical_loss(text: str) -> str:
    """A loss's spec in its one spelling.

    Raises:
        ValueError: as `adma.flex.spec.parse`.
        BenchError: a parameter is to be learned.
    """
    flexible = parse(text)
    refuse_learned(text, flexible)
    return str(flexible)


def refuse_learned(text: str, flexible: FlexibleSpec) -> None:
    """Learning in the bench: not yet.

    Raises:
        BenchError: a parameter is to be learned.
    """
    if flexible.learned:
        raise BenchError(
            f"--loss {text}: the bench cannot learn {', '.join(flexible.learned)} yet; give a value or a schedule, "
            f"such as {next(iter(flexible.learned))}=linear/0.05/0.4"
        )


def known_here(spec: str) -> FlexibleSpec | None:
    """A stored loss as a report reads it: silently, the warnings came when it was trained; None if not known here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return parse(spec)
        except (ValueError, TypeError):
            return None
