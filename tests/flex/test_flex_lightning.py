"""A scheduled shape in real trainings with Lightning: its steps, its logs, its checkpoints."""

from __future__ import annotations

import sys

import pytest
import torch

import adma

lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed: ITS CALLBACK WAS NOT TESTED")

from adma.flex.lightning import ShapeSchedulerCallback  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*(num_workers|logging interval|isinstance.treespec|checkpoint directory|resuming from a checkpoint):"
    ),
]


class Net(lightning.LightningModule):
    """Remembers the `a` of every batch."""

    def __init__(self, manual: bool = False) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.loss_fn = adma.AdmaLoss(normalize=True)
        self.seen: list[float] = []
        self.automatic_optimization = not manual

    def training_step(self, batch, batch_idx):
        self.seen.append(self.loss_fn.a)
        loss = self.loss_fn(self.layer(batch[0]), batch[1])
        if not self.automatic_optimization:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(loss, retain_graph=True)
                optimizer.step()
        return loss

    def configure_optimizers(self):
        if self.automatic_optimization:
            return torch.optim.SGD(self.parameters(), lr=0.1)
        return [torch.optim.SGD(self.layer.parameters(), lr=0.1) for _ in range(2)]


class Measured(Net):
    def validation_step(self, batch, batch_idx):
        self.log("a", self.loss_fn.a)

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return self.loss_fn.posterior(self.layer(batch[0]))


def loader():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=generator), torch.randint(3, (20,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)  # 5 batches


def trainer(tmp_path, callback, **options):
    return lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=[callback], **{"max_epochs": 4, **options},
    )  # fmt: skip


def fit(tmp_path, net, callback, ckpt_path=None, **options):
    torch.manual_seed(0)
    made = trainer(tmp_path, callback, **options)
    made.fit(net, loader(), ckpt_path=ckpt_path)
    return made


def line(steps: int, total: int, a: float = 0.1, b: float = 0.5) -> list[float]:
    return [a + (b - a) * k / total for k in range(steps)]


def test_each_step_of_the_optimizer_is_a_step_of_the_schedule_and_logged(tmp_path):
    net = Net()
    callback = ShapeSchedulerCallback(net.loss_fn, a="linear/0.1/0.5")
    logged = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer, *_):
            logged.append(float(trainer.callback_metrics["shape/a"]))

    made = trainer(tmp_path, callback)
    made.callbacks.append(Watch())
    made.fit(net, loader())
    assert net.seen == pytest.approx(line(20, 20))
    assert logged == pytest.approx(net.seen, rel=1e-6)  # a metric is a float32
    assert net.loss_fn.a == 0.5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # five batches an epoch: the last of each is a step of its own
        ({"accumulate_grad_batches": 2, "max_epochs": 2}, [line(6, 6)[k] for k in (0, 0, 1, 1, 2, 3, 3, 4, 4, 5)]),
        ({"max_steps": 8, "max_epochs": -1}, line(8, 8)),
        ({"limit_train_batches": 3, "max_epochs": 2}, line(6, 6)),
    ],
    ids=["accumulation", "max_steps", "limit"],
)  # fmt: skip
def test_however_the_trainer_counts_the_end_is_the_schedules_end(tmp_path, options, expected):
    net = Net()
    fit(tmp_path, net, ShapeSchedulerCallback(net.loss_fn, a="linear/0.1/0.5"), **options)
    assert net.seen == pytest.approx(expected)
    assert net.loss_fn.a == 0.5


def test_with_manual_optimization_each_batch_is_a_step(tmp_path):
    net = Net(manual=True)  # two optimizers
    fit(tmp_path, net, ShapeSchedulerCallback(net.loss_fn, a="linear/0.1/0.5"), max_epochs=2)
    assert net.seen == pytest.approx(line(10, 10))
    assert net.loss_fn.a == 0.5


def test_a_training_that_resumes_is_one_that_was_never_interrupted(tmp_path):
    whole = Net()
    fit(tmp_path, whole, ShapeSchedulerCallback(whole.loss_fn, a="geometric/0.01/0.4"))

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 7:  # in the middle of an epoch
                trainer.save_checkpoint(tmp_path / "seven.ckpt")
                trainer.should_stop = True

    half = Net()
    torch.manual_seed(0)
    made = trainer(tmp_path, ShapeSchedulerCallback(half.loss_fn, a="geometric/0.01/0.4"))
    made.callbacks.append(Stop())
    made.fit(half, loader())
    state = torch.load(tmp_path / "seven.ckpt", weights_only=True)["callbacks"]
    kept = next(v for k, v in state.items() if "ShapeSchedulerCallback" in k)
    assert kept == {"schedules": {"a": "geometric/0.01/0.4"}, "total_steps": 20, "last_step": 7}

    resumed = Net()
    fit(tmp_path, resumed, ShapeSchedulerCallback(resumed.loss_fn, a="geometric/0.01/0.4"), tmp_path / "seven.ckpt")
    assert resumed.seen == whole.seen[7:]  # to the last bit
    assert resumed.loss_fn.member == whole.loss_fn.member

    longer = Net()
    with pytest.raises(ValueError, match="the state has total_steps 20, this scheduler has 30"):
        fit(tmp_path, longer, ShapeSchedulerCallback(longer.loss_fn, a="geometric/0.01/0.4"), tmp_path / "seven.ckpt",
            max_epochs=6)  # fmt: skip


def test_a_checkpoint_is_measured_with_the_values_that_it_had(tmp_path):
    """The probabilities that a loss gives depend on its shape: that of the end does not go with earlier weights."""

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 10:
                trainer.save_checkpoint(tmp_path / "ten.ckpt")

    net = Measured()
    made = trainer(tmp_path, ShapeSchedulerCallback(net.loss_fn, a="linear/0.1/0.5"))
    made.callbacks.append(Save())
    made.fit(net, loader())
    assert net.loss_fn.a == 0.5
    other = Measured()
    fresh = trainer(tmp_path, ShapeSchedulerCallback(other.loss_fn, a="linear/0.1/0.5"))
    for task in (fresh.test, fresh.validate):
        other.loss_fn.a = 0.1
        assert task(other, loader(), tmp_path / "ten.ckpt", verbose=False)[0]["a"] == pytest.approx(0.3)
    other.loss_fn.a = 0.1
    found = fresh.predict(other, loader(), ckpt_path=tmp_path / "ten.ckpt")
    assert torch.equal(found[0], adma.AdmaLoss(a=0.3, normalize=True).posterior(other.layer(next(iter(loader()))[0])))
    # the trainer of the training, too; and it trains on
    made.test(net, loader(), tmp_path / "ten.ckpt", verbose=False)
    assert net.loss_fn.a == pytest.approx(0.3)
    made.fit_loop.max_epochs = 6
    made.fit(net, loader())
    assert net.seen[20:] == pytest.approx(line(30, 30)[20:])


def test_a_training_longer_than_the_fit_is_said_by_total_steps(tmp_path):
    net = Net()
    fit(tmp_path, net, ShapeSchedulerCallback(net.loss_fn, total_steps=40, a="linear/0.1/0.5"))
    assert net.seen == pytest.approx(line(20, 40))
    with pytest.raises(ValueError, match="total_steps is 10, but the trainer plans 20 steps; give at least that many"):
        fit(tmp_path, net, ShapeSchedulerCallback(net.loss_fn, total_steps=10, a="linear/0.1/0.5"))
    with pytest.raises(ValueError, match="no max_epochs or max_steps to schedule over; give total_steps"):
        fit(tmp_path, net, ShapeSchedulerCallback(net.loss_fn, a="linear/0.1/0.5"), max_epochs=-1)


def test_mistakes_are_told_when_it_is_made_and_callbacks_of_two_losses_keep_apart():
    first, second = adma.AdmaLoss(normalize=True), adma.AdmaLoss(normalize=True)
    with pytest.raises(ValueError, match="adma has no number 'q' to change"):
        ShapeSchedulerCallback(first, q=0.3)
    keys = {
        ShapeSchedulerCallback(x, a=s).state_key for x, s in ((first, "linear/0.1/0.2"), (second, "linear/0.1/0.3"))
    }
    assert len(keys) == 2


def test_without_lightning_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "adma.flex.lightning")
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(ImportError, match=r"needs Lightning: pip install 'adma\[lightning\]'"):
        import adma.flex.lightning  # noqa: F401
