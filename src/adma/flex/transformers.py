"""A scheduled shape in transformers: `Trainer(callbacks=[ShapeSchedulerCallback(loss_fn, a="linear/0.01/0.4")])`."""

from __future__ import annotations

from typing import Any

from torch import nn

from adma.flex.schedule import Schedule, ShapeScheduler

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("adma.flex.transformers needs transformers: pip install 'adma[transformers]'") from error


class ShapeSchedulerCallback(TrainerCallback):
    """Steps a `ShapeScheduler` with the trainer's optimizer, and adds its values to the logs as "shape/a" and so on.

    The schedule is over the trainer's `max_steps`. Its only state is the number of steps done, which is the trainer's
    `global_step` and stands in every checkpoint: a training that resumes from one goes on exactly. Each entry of
    `trainer.state.log_history` that is written in training has the values. With `load_best_model_at_end` the loss ends
    with the values of the checkpoint that is loaded, so its `posterior` goes with the weights.

    Args:
        loss_fn: the loss module that `compute_loss_func`, or the model, calls.
        schedules: as `ShapeScheduler` takes them.

    Raises:
        TypeError, ValueError: as `ShapeScheduler`.
    """

    def __init__(self, loss_fn: nn.Module, /, **schedules: Schedule | str | float) -> None:
        given: dict[str, Any] = dict(schedules)
        self.scheduler = ShapeScheduler(loss_fn, 1, **given)  # 1 until the training begins and says how many

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.scheduler.restart(state.max_steps, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        while self.scheduler.last_step < state.global_step:
            self.scheduler.step()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.load_best_model_at_end and state.best_model_checkpoint is not None and state.best_global_step:
            self.scheduler.restart(state.max_steps, state.best_global_step)  # its weights have been loaded by now

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        values = {f"shape/{name}": value for name, value in self.scheduler.get_last_value().items()}
        if logs is not None:
            logs.update(values)  # for the callbacks that come after this one
            state.log_history[-1].update(values)  # which was written before
