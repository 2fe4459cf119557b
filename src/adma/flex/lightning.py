"""A scheduled shape in Lightning: `Trainer(callbacks=[ShapeSchedulerCallback(model.loss_fn, a="linear/0.01/0.4")])`."""

from __future__ import annotations

from typing import Any

from torch import nn

from adma.flex.schedule import Schedule, ShapeScheduler

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.trainer.states import TrainerFn
except ImportError as error:
    raise ImportError("adma.flex.lightning needs Lightning: pip install 'adma[lightning]'") from error


class ShapeSchedulerCallback(Callback):
    """Steps a `ShapeScheduler` as the trainer's optimizer steps, logs its values, and keeps its state in checkpoints.

    It steps once for each of the trainer's optimizer steps, so gradients may be accumulated; with manual optimization
    once for each training batch. The values are logged as "shape/a" and so on, each with the batch that it trained.
    A training that resumes from a checkpoint goes on exactly; one that is to become longer than it was planned needs
    `total_steps`, since a schedule is over the whole training. Where a trainer validates, tests or predicts from a
    checkpoint, the loss has the values that it had there, so its `posterior` goes with the weights.

    Args:
        loss_fn: the loss module that the LightningModule trains with, such as `model.loss_fn`.
        total_steps: optimizer steps (with manual optimization, batches) of the whole training; by default
            `trainer.estimated_stepping_batches`.
        schedules: as `ShapeScheduler` takes them.

    Raises:
        TypeError, ValueError: as `ShapeScheduler`, at once; when the fit begins, for a training without an end, a
            `total_steps` that is too small, or a checkpoint of a training of another length.
    """

    def __init__(
        self, loss_fn: nn.Module, /, total_steps: int | None = None, **schedules: Schedule | str | float
    ) -> None:
        # until the fit begins the number of steps is not known: 1 stands for it
        self.scheduler = ShapeScheduler(loss_fn, 1 if total_steps is None else total_steps, **_any(schedules))
        self._total = total_steps
        self._restored: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """Of its state in a checkpoint: callbacks of several losses have one each."""
        return self._generate_state_key(schedules=self.scheduler.state_dict()["schedules"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        planned = trainer.estimated_stepping_batches
        total = planned if self._total is None else self._total
        if total in (float("inf"), -1):
            raise ValueError("the trainer has no max_epochs or max_steps to schedule over; give total_steps")
        if planned != float("inf") and planned > total:
            raise ValueError(f"total_steps is {total}, but the trainer plans {planned} steps; give at least that many")
        self.scheduler.restart(int(total), trainer.global_step if pl_module.automatic_optimization else 0)
        if self._restored is not None:
            self.scheduler.load_state_dict(self._restored)
            self._restored = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_restored(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_restored(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_restored(trainer)

    def _take_restored(self, trainer: Trainer) -> None:
        """The values of a checkpoint that is not trained on; a fit takes them when it begins."""
        if self._restored is not None and trainer.state.fn != TrainerFn.FITTING:
            self.scheduler.restart(self._restored["total_steps"], self._restored["last_step"])
            self._restored = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for name, value in self.scheduler.get_last_value().items():
            pl_module.log(f"shape/{name}", value)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.automatic_optimization:
            self.scheduler.step()
        while pl_module.automatic_optimization and self.scheduler.last_step < trainer.global_step:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = dict(state_dict)  # the number of steps is known when the fit begins


def _any(schedules: dict[str, Schedule | str | float]) -> dict[str, Any]:
    return dict(schedules)
