"""A parameter of a loss that moves while `fit` runs."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from adma.flex.schedule import Constant, Schedule, check_path
from adma.flex.schedule import parse as parse_schedule
from adma.keras.flexible import ShapedLoss
from adma.keras.namespace import Tensor


class _Shape(keras.metrics.Metric):
    """A parameter among the model's metrics: so it is part of the state of a compiled step, and logged."""

    def __init__(self, variable: keras.Variable, name: str) -> None:
        super().__init__(name=name)
        self.variable = variable

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the scheduler sets the value."""

    def reset_state(self) -> None:
        """Nothing: the value stays."""

    def result(self) -> Tensor:
        """The value, in memory of its own: a compiled step gives that of its state away."""
        return ops.convert_to_tensor(self.variable) + 0.0


class ShapeScheduler(keras.callbacks.Callback):
    """Changes parameters of a loss while `fit` runs, and logs them; the steps are compiled once, not for each value.

    Step k of n trains with the values at progress k / n, and after the last step the loss has those of the end, so
    that a model that is saved then, and its `posterior`, are of the end. A fit that goes on with `initial_epoch` goes
    on in the schedule. A model of several losses takes a scheduler for each; a parameter's second one is logged as
    "a_1".

    Args:
        loss: the loss that the model was compiled with.
        total_steps: batches of the whole training; by default epochs times batches of an epoch.
        schedules: parameter -> a schedule as `adma.flex` writes it, such as a="linear/0.01/0.4".

    Raises:
        TypeError, ValueError: at once, for an unknown parameter or a value that the loss refuses anywhere on the way;
            when the fit begins, if the number of batches is not known and `total_steps` not given, or the fit begins
            with a later epoch.
        RuntimeError: more batches than `total_steps`.
    """

    def __init__(self, loss: ShapedLoss, total_steps: int | None = None, **schedules: Schedule | str | float) -> None:
        super().__init__()
        if not isinstance(loss, ShapedLoss):
            raise TypeError(f"loss must be a loss of adma.keras such as adma.keras.Adma(), got {loss!r}")
        if not schedules:
            raise ValueError("name a parameter and its schedule, such as a='linear/0.01/0.4'")
        self._loss = loss
        self._schedules: dict[str, Schedule] = {
            key: parse_schedule(s) if isinstance(s, str) else s if isinstance(s, Schedule) else Constant(s)
            for key, s in schedules.items()
        }
        check_path(loss.member, self._schedules)
        self._given, self._total, self._done, self._batch = total_steps, 1, 0, -1
        self._shapes: list[_Shape] = []
        self._set(0)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self._forsake_old(model)
        for name in self._schedules:
            taken = {shape.name for shape in _shapes_of(model)}  # of another loss's scheduler
            free = next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 1))) if n not in taken)
            self._track(model, _Shape(self._loss.variable(name), free))
        model.train_function = model.test_function = None  # what was compiled before may hold plain numbers

    def _track(self, model: Any, shape: _Shape) -> None:
        """Make a metric of the model, which compiled steps take as state; models that are built lock theirs."""
        locked = model._tracker.locked
        model._tracker.unlock()
        setattr(model, f"_adma_{shape.name}", shape)
        self._shapes.append(shape)
        if locked:
            model._tracker.lock()

    def _forsake_old(self, model: Any) -> None:
        """Take away what a fit that was interrupted has left: its `on_train_end` was never called."""
        self._shapes.clear()
        own = {id(self._loss.variable(name)) for name in self._schedules}
        losses = [x for x in keras.tree.flatten(getattr(model, "loss", None)) if isinstance(x, ShapedLoss)]
        used = {id(variable) for loss in losses for variable in loss._changing.values()}
        for shape in _shapes_of(model):
            if id(shape.variable) in own or (losses and id(shape.variable) not in used):
                _untrack(model, shape)

    def on_train_end(self, logs: Any = None) -> None:
        model = self.model
        while self._shapes:  # `evaluate` gives its metrics in order: none more than there were
            _untrack(model, self._shapes.pop())
        model.train_function = model.test_function = None

    def on_train_begin(self, logs: Any = None) -> None:
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if self._given is None and not steps:
            raise ValueError("the number of batches of an epoch is not known; give ShapeScheduler total_steps")
        self._total = steps * epochs if self._given is None else self._given
        self._done = 0
        self._set(0)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batch = -1
        if self.params.get("steps"):
            self._set(epoch * self.params["steps"])
        elif epoch and not self._done:
            raise ValueError(
                f"the number of batches of an epoch is not known, so it is not known either where in the schedule "
                f"initial_epoch={epoch} is; give fit steps_per_epoch"
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._set(self._done + batch - self._batch)
        self._batch = batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # on JAX a data set that ends unannounced brings back the state from before the last batch's end
        self._set(self._done)
        for shape in self._shapes if logs is not None else ():
            logs[shape.name] = float(ops.convert_to_numpy(shape.variable))

    def _set(self, step: int) -> None:
        if step > self._total:
            raise RuntimeError(f"the schedule was made for {self._total} batches, this is batch {step}")
        self._done = step
        if getattr(self, "_model", None) is not None:
            self.model  # noqa: B018  # on JAX it brings what the compiled step holds back into the variables
        # checked at construction
        values = {key: schedule(step / self._total) for key, schedule in self._schedules.items()}
        self._loss._loss = self._loss._loss.bind(**values)
        for key, value in values.items():
            self._loss.variable(key).assign(value)


def _shapes_of(model: Any) -> list[_Shape]:
    return [value for value in vars(model).values() if isinstance(value, _Shape)]


def _untrack(model: Any, shape: _Shape) -> None:
    model._tracker.untrack(shape)
    delattr(model, f"_adma_{shape.name}")
