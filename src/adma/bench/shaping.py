"""The loss of one training and how its shape changes: from a spec to a module, its steps, the trace of its values.

A spec is one of `adma.flex.spec`, or names the place of anyone's loss (`adma.bench.own_loss`), whose shape is fixed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import adma
from adma.bench import adapted, own_loss
from adma.flex import ShapeScheduler, ShapeTuner
from adma.flex.schedule import Schedule
from adma.flex.spec import parse
from adma.torch.flexible import CallLoss, FlexibleLoss


class Shaping:
    """The loss module of a training; its shape where the schedules have it, or where learning has brought it.

    Args:
        spec: of the loss.

    Raises:
        BenchError: a loss that is named by its place cannot be had.
    """

    def __init__(self, spec: str) -> None:
        self.loss_fn: CallLoss | adapted.Adapted
        self._learned: Mapping[str, float] = {}
        self._scheduled: Mapping[str, Schedule] = {}
        if own_loss.is_own(spec):
            self.loss_fn = adapted.build(spec)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said where the command read the spec
                flexible = parse(spec)
                loss_fn = adma.make_loss(flexible.loss)
            assert isinstance(loss_fn, CallLoss)
            self.loss_fn, self._learned, self._scheduled = loss_fn, flexible.learned, flexible.scheduled
        self._scheduler: ShapeScheduler | None = None
        self._tuner: ShapeTuner | None = None
        self._columns: dict[str, list[float]] = {}
        self._steps, self._steps_per_epoch = 0, 1

    @property
    def learns(self) -> bool:
        """Whether a part of the training samples is to be held out."""
        return bool(self._learned)

    @property
    def divisible(self) -> bool:
        """Whether it is a mean over samples, so that a batch may be taken in parts."""
        return isinstance(self.loss_fn, CallLoss)

    @property
    def recordable(self) -> bool:
        """Whether a GPU may replay its step: the shape stays as it is, and its kernels are known to do so."""
        return not self._learned and not self._scheduled and isinstance(self.loss_fn, CallLoss)

    def attach(self, model: nn.Module) -> None:
        """Let a loss that looks at the last layer of its network see it."""
        if isinstance(self.loss_fn, adma.LargeMarginSoftmaxLoss):
            self.loss_fn.attach(model)

    def begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        held_out: tuple[Tensor, Tensor],
        *,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        seed: int,
    ) -> None:
        """Before the first step of the optimizer.

        Args:
            model: that is trained.
            optimizer: that trains it.
            held_out: inputs and targets that the weights never see; looked at only if the shape is learned.
            epochs: of the training.
            steps_per_epoch: of the optimizer.
            batch_size: of held-out batches.
            seed: of their order.
        """
        self._steps_per_epoch = steps_per_epoch
        self.attach(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedules: dict[str, Any] = dict(self._scheduled)
            if schedules:
                assert isinstance(self.loss_fn, CallLoss)
                self._scheduler = ShapeScheduler(self.loss_fn, epochs * steps_per_epoch, **schedules)
            if self._learned:
                assert isinstance(self.loss_fn, FlexibleLoss)
                self._tuner = ShapeTuner(
                    self.loss_fn, model, optimizer, held_out, parameters=tuple(self._learned),
                    batch_size=batch_size, seed=seed,
                )  # fmt: skip
        self._note()

    def step(self, inputs: Tensor, target: Tensor) -> None:
        """After each step of the optimizer, with what it was made from."""
        self._steps += 1
        if isinstance(self.loss_fn, adapted.Adapted):
            return
        before = self.loss_fn.member
        if self._tuner is not None:
            self._tuner.step(inputs, target)
        if self._scheduler is not None:
            self._scheduler.step()
        if self.loss_fn.member is not before:
            self._note()

    def _note(self) -> None:
        if self._scheduler is None and self._tuner is None:
            return
        values = {} if self._tuner is None else self._tuner.values
        values |= {} if self._scheduler is None else self._scheduler.get_last_value()
        for name, value in {"step": self._steps, "epoch": self._steps / self._steps_per_epoch, **values}.items():
            self._columns.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes after `begin`: plain values, and the buffers of a loss that is not of adma."""
        return {
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            "tuner": None if self._tuner is None else self._tuner.state_dict(),
            "steps": self._steps,
            "columns": {name: list(values) for name, values in self._columns.items()},
            "own": self.loss_fn.state_dict() if isinstance(self.loss_fn, adapted.Adapted) else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        if self._tuner is not None:
            self._tuner.load_state_dict(state["tuner"])
        self._steps = state["steps"]
        self._columns = {name: list(values) for name, values in state["columns"].items()}
        if isinstance(self.loss_fn, adapted.Adapted):
            self.loss_fn.load_state_dict(state["own"])

    def trace(self) -> dict[str, np.ndarray]:
        """The values so far, as `result.CellResult` keeps them; empty for a shape that is fixed."""
        return {name: np.array(values) for name, values in self._columns.items()}
