"""Optimizers and learning-rate schedules by spec: `sgd:momentum=0.9,nesterov=true`, `plateau:patience=3`.

Defaults are the paper's or torch's. A spec's canonical spelling leaves them out, so they never change.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import lr_scheduler

from adma.bench import _options
from adma.bench.errors import BenchError


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015; weight decay is L2, part of the gradient, as in the paper.

    beta1, beta2: decay of the running means of the gradient and of its square.
    """

    beta1: float = _options.number(0.9, high=1, example="0.8")
    beta2: float = _options.number(0.999, high=1, example="0.99")


@dataclass(frozen=True)
class AdamW(Adam):
    """Loshchilov & Hutter 2019: weight decay is apart from the gradient."""


@dataclass(frozen=True)
class SGD:
    """Without momentum, as in the paper, unless asked for.

    momentum: of torch's kind, v = momentum v + g, w = w - lr v.
    nesterov: w = w - lr (g + momentum v) instead.
    """

    momentum: float = _options.number(0.0, high=1, example="0.9")
    nesterov: bool = _options.flag(False)

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=true needs a momentum; write 'sgd:momentum=0.9,nesterov=true'")


@dataclass(frozen=True)
class Constant:
    """The rate stays."""


@dataclass(frozen=True)
class Cosine:
    """Half a cosine (Loshchilov & Hutter 2017), from the rate before the first step to 0 after the last."""


@dataclass(frozen=True)
class Step:
    """Times `factor` after each `every` epochs."""

    every: int = _options.whole(10, example="30")
    factor: float = _options.number(0.5, high=1, open_low=True, example="0.1")


@dataclass(frozen=True)
class Plateau:
    """Times `factor` once the validation accuracy has not risen above its best for `patience` epochs, then counts anew.

    Our reading of the paper's "learning rate annealer" (Sec. 5): in Keras notebooks of its time the name of the
    callback ReduceLROnPlateau. Any rise counts.

    floor: the rate goes no lower.
    """

    factor: float = _options.number(0.5, high=1, open_low=True, example="0.1")
    patience: int = _options.whole(3, example="5")
    floor: float = _options.number(1e-5, example="1e-6")


OPTIMIZERS: dict[str, type[Any]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
SCHEDULES: dict[str, type[Any]] = {"constant": Constant, "cosine": Cosine, "step": Step, "plateau": Plateau}
_OPTIMIZER, _SCHEDULE = "--optimizer", "--lr-schedule"


def canonical_optimizer(text: str) -> str:
    """An optimizer's spec in its one spelling: keys in a fixed order, defaults left out.

    Raises:
        BenchError: an unknown name or key, a repeated key, a value that its key does not take, nesterov without
            momentum.
    """
    return _options.format_spec(*_options.parse(_OPTIMIZER, text, OPTIMIZERS))


def make_optimizer(text: str, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """The optimizer of a spec.

    Args:
        text: the spec.
        groups: as `models.parameter_groups` makes them; a group without `weight_decay` has none.
        lr: learning rate.

    Raises:
        BenchError: as `canonical_optimizer`.
    """
    _, options = _options.parse(_OPTIMIZER, text, OPTIMIZERS)
    groups = list(groups)
    if isinstance(options, SGD):
        return torch.optim.SGD(groups, lr=lr, momentum=options.momentum, nesterov=options.nesterov)
    kind = torch.optim.AdamW if isinstance(options, AdamW) else torch.optim.Adam
    return kind(groups, lr=lr, betas=(options.beta1, options.beta2), weight_decay=0.0)


def canonical_schedule(text: str) -> str:
    """A schedule's spec in its one spelling: keys in a fixed order, defaults left out.

    Raises:
        BenchError: an unknown name or key, a repeated key, a value that its key does not take.
    """
    return _options.format_spec(*_options.parse(_SCHEDULE, text, SCHEDULES))


def depends_on_length(text: str) -> bool:
    """Whether the rates of a schedule depend on how long the whole training is."""
    return isinstance(_options.parse(_SCHEDULE, text, SCHEDULES)[1], Cosine)


class Schedule:
    """Changes the learning rates of an optimizer's groups as training goes on. Made by `make_schedule`."""

    def __init__(self, spec: str, optimizer: torch.optim.Optimizer, options: Any, total: int) -> None:
        self.spec = spec
        self._optimizer, self._options, self._total = optimizer, options, total
        self._steps = 0
        self._scheduler = _scheduler(optimizer, options, total)

    @property
    def lr(self) -> float:
        """The first group's rate at present."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def constant(self) -> bool:
        """Whether the rates never change."""
        return isinstance(self._options, Constant)

    def step_batch(self) -> None:
        """After each step of the optimizer.

        Raises:
            RuntimeError: more steps than `make_schedule` was told.
        """
        if self._steps == self._total:
            raise RuntimeError(f"the schedule {self.spec!r} was made for {self._total} steps, this is one more")
        self._steps += 1
        if isinstance(self._options, Cosine):
            self._scheduler.step()

    def step_epoch(self, measured: float) -> None:
        """After each epoch, with its validation accuracy (mean IoU); one that is NaN has not risen."""
        with warnings.catch_warnings():  # torch misses the optimizer's steps if they were another process's
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
            if isinstance(self._options, Step):
                self._scheduler.step()
            elif isinstance(self._options, Plateau):
                self._scheduler.step(measured)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: plain values, the rates among them."""
        return {
            "spec": self.spec,
            "total": self._total,
            "steps": self._steps,
            "lrs": [group["lr"] for group in self._optimizer.param_groups],
            "scheduler": self._scheduler.state_dict() if self._scheduler is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; sets the optimizer's rates too.

        Raises:
            ValueError: the state is of another schedule, or of another length where the rates depend on it.
        """
        other_length = isinstance(self._options, Cosine) and state["total"] != self._total
        if state["spec"] != self.spec or other_length:
            raise ValueError(
                f"the state is of {state['spec']!r} over {state['total']} steps, "
                f"this is {self.spec!r} over {self._total}"
            )
        self._steps = state["steps"]
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        for group, lr in zip(self._optimizer.param_groups, state["lrs"], strict=True):
            group["lr"] = lr


def make_schedule(text: str, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule of a spec, for one training.

    Args:
        text: the spec.
        optimizer: whose rates it changes.
        epochs: of the training.
        steps_per_epoch: of the optimizer.

    Raises:
        BenchError: as `canonical_schedule`; a plateau's floor that is above the learning rate.
    """
    name, options = _options.parse(_SCHEDULE, text, SCHEDULES)
    highest = max(group["lr"] for group in optimizer.param_groups)
    if isinstance(options, Plateau) and options.floor > highest:
        raise BenchError(
            f"{_SCHEDULE} {text}: its floor {options.floor:g} is above the learning rate {highest:g}, which could "
            "never fall; give a lower floor"
        )
    return Schedule(_options.format_spec(name, options), optimizer, options, epochs * steps_per_epoch)


def _scheduler(optimizer: torch.optim.Optimizer, options: Any, total: int) -> Any:
    if isinstance(options, Cosine):
        # a closed form of the step's number: torch's CosineAnnealingLR multiplies along, and its rounding grows
        return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    if isinstance(options, Step):
        return lr_scheduler.StepLR(optimizer, options.every, options.factor)
    if isinstance(options, Plateau):
        return lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode="max",
            factor=options.factor,
            patience=options.patience - 1,  # torch bears `patience` epochs and lowers at the next
            threshold=0.0,
            threshold_mode="abs",
            min_lr=options.floor,
            eps=0.0,
        )
    return None
