"""A scheduled shape in real trainings with the Trainer of transformers: its steps, its logs, its checkpoints."""

from __future__ import annotations

import sys

import pytest
import torch

import adma

transformers = pytest.importorskip("transformers", reason="transformers is not installed: ITS CALLBACK WAS NOT TESTED")
pytest.importorskip("accelerate", reason="accelerate is not installed: THE CALLBACK OF transformers WAS NOT TESTED")

from adma.flex.transformers import ShapeSchedulerCallback  # noqa: E402

pytestmark = pytest.mark.slow


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x, labels=None):
        return {"logits": self.layer(x)}


class Run:
    """A training of 20 samples in batches of 4; `seen` has the `a` of every batch."""

    def __init__(self, tmp_path, schedule="linear/0.1/0.5", resume=None, compute_metrics=None, **options):
        torch.manual_seed(0)
        self.loss_fn, self.seen = adma.AdmaLoss(normalize=True), []
        generator = torch.Generator().manual_seed(0)
        data = [{"x": torch.randn(4, generator=generator), "labels": i % 3} for i in range(20)]
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=4, report_to=[], disable_tqdm=True, use_cpu=True,
            **{"num_train_epochs": 4, "logging_steps": 1, "save_strategy": "no", **options},
        )  # fmt: skip
        self.callback = ShapeSchedulerCallback(self.loss_fn, a=schedule)
        self.trainer = transformers.Trainer(
            Net(), arguments, train_dataset=data, eval_dataset=data, callbacks=[self.callback],
            compute_loss_func=self.loss, compute_metrics=compute_metrics,
        )  # fmt: skip
        self.trainer.train(resume_from_checkpoint=resume)

    def loss(self, outputs, labels, num_items_in_batch=None):
        self.seen.append(self.loss_fn.a)
        return self.loss_fn(outputs["logits"], labels)

    def logged(self):
        return [entry["shape/a"] for entry in self.trainer.state.log_history if "loss" in entry]


def test_each_step_of_the_optimizer_is_a_step_of_the_schedule_and_logged(tmp_path):
    run = Run(tmp_path)
    assert run.seen == pytest.approx([0.1 + 0.4 * k / 20 for k in range(20)])
    assert run.logged() == pytest.approx([0.1 + 0.4 * k / 20 for k in range(1, 21)])
    assert run.loss_fn.a == 0.5


def test_gradients_may_be_accumulated_and_steps_be_limited(tmp_path):
    run = Run(tmp_path, gradient_accumulation_steps=2, max_steps=4)
    assert run.loss_fn.a == 0.5
    assert sorted(set(run.seen)) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_a_training_that_resumes_is_one_that_was_never_interrupted(tmp_path):
    whole = Run(tmp_path, "cosine/0.01/0.4", save_strategy="steps", save_steps=7)
    resumed = Run(tmp_path / "again", "cosine/0.01/0.4", resume=str(tmp_path / "checkpoint-7"))
    assert resumed.seen == whole.seen[7:]  # to the last bit
    assert resumed.logged()[7:] == whole.logged()[7:]
    assert resumed.loss_fn.member == whole.loss_fn.member
    # also where the trainer is asked to make its callbacks anew
    anew = Run(
        tmp_path / "anew", "cosine/0.01/0.4", resume=str(tmp_path / "checkpoint-14"),
        restore_callback_states_from_checkpoint=True,
    )  # fmt: skip
    assert anew.seen == whole.seen[14:]


def test_the_best_model_has_the_shape_of_its_step(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 2.0])  # the second epoch's is the best
    run = Run(
        tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="score", compute_metrics=lambda _: {"score": next(scores)},
    )  # fmt: skip
    assert run.trainer.state.best_global_step == 10
    assert len(run.seen) > 20
    assert run.loss_fn.a == pytest.approx(0.3)


def test_mistakes_are_told_when_it_is_made():
    with pytest.raises(ValueError, match="adma has no number 'q' to change"):
        ShapeSchedulerCallback(adma.AdmaLoss(), q=0.3)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "adma.flex.transformers")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers: pip install 'adma\[transformers\]'"):
        import adma.flex.transformers  # noqa: F401
