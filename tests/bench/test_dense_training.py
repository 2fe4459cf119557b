"""Training with a label for each pixel or token: the loop against a plain one, and its promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dense_samples import counting, squares

from adma.bench.checkpoint import Keeper
from adma.bench.data import Dataset
from adma.bench.data.dataset import IGNORED
from adma.bench.errors import BenchError
from adma.bench.loading import labels_of, split_of
from adma.bench.models import build_model
from adma.bench.prepare import make_study
from adma.bench.result import DONE, CellResult
from adma.bench.study import Cell, Setting
from adma.bench.studyfile import Task
from adma.bench.train import StoppedError, train


def cell(data: Dataset, loss: str = "cce", **options: object) -> Cell:
    model = "dense_samples:tagger" if data.kind.vocabulary else "unet:depth=1,width=4"
    options = {"model": model, "epochs": 2, "batch_size": 8, "lr": 0.01, **options}
    setting = Setting(data.name, data.fingerprint, **options)  # type: ignore[arg-type]
    return Cell(setting, loss, 0)


def numbers(result: CellResult) -> dict[str, list[str]]:
    return {name: list(map(repr, values)) for name, values in result.epochs.items() if name != "seconds"}


@pytest.mark.parametrize(  # batch normalisation would see the pieces of pixels
    ("data", "pieces"), [(squares(), 1), (counting(), 1), (counting(), 3)], ids=["pixels", "tokens", "tokens in pieces"]
)
def test_the_loop_does_what_a_plain_loop_does(data: Dataset, pieces: int) -> None:
    """One epoch written out with torch's own cross-entropy: the mean is over labels that count, of the whole batch."""
    c = cell(data, epochs=1, weight_decay=0.0, optimizer="sgd", lr=0.1)
    if data.kind.vocabulary:
        c = replace(c, setting=replace(c.setting, model="dense_samples:plain_tagger"))
    result = train(c, data, pieces=pieces)
    split = split_of(c, data)
    x, y = torch.from_numpy(data.x[split.train]), torch.from_numpy(data.y[split.train])
    mean, scale = (x.double().mean(), x.double().std(correction=0)) if not data.kind.vocabulary else (0, 1)

    def inputs(some: torch.Tensor) -> torch.Tensor:
        return some if data.kind.vocabulary else ((some - mean) / scale).float()

    torch.manual_seed(c.stream_seed("init"))
    model = build_model(c.setting.model, data.sample_shape, data.num_classes)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(c.stream_seed("order", 1)))
    torch.manual_seed(c.stream_seed("dropout", 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total, right, labels = 0.0, 0, 0
    for index in order.split(8):
        logits = model(inputs(x[index]))
        loss = F.cross_entropy(logits, y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        n = int((y[index] != IGNORED).sum())
        total, labels = total + loss.item() * n, labels + n
        right += int((logits.argmax(1) == y[index]).sum())
    assert result.final("train_loss") == pytest.approx(total / labels, rel=1e-4)
    assert result.final("train_accuracy") == pytest.approx(right / labels, abs=2 / labels)
    model.eval()
    logits, y = model(inputs(torch.from_numpy(data.x[split.test]))), torch.from_numpy(data.y[split.test])
    assert result.final("test_nll") == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-3)
    accuracy = (logits.argmax(1) == y).sum() / (y != IGNORED).sum()
    assert result.final("test_accuracy") == pytest.approx(accuracy.item(), abs=1e-6)


def test_it_learns_the_pixels_and_says_what_each_class_comes_to() -> None:
    data = squares()
    result = train(cell(data, "adma:a=0.5,normalize=true", epochs=12, lr=0.02), data)
    assert result.status == DONE
    assert result.final("test_mean_iou") > 0.5
    iou = result.env["iou"]["test"]
    assert result.final("test_mean_iou") == pytest.approx(np.mean(iou))
    assert iou[0] > iou[2]  # the dot is rare and small
    split = split_of(result.cell, data)
    counts = [int((data.y[split.train] == k).sum()) for k in range(3)]
    assert result.env["conditions"] == {
        "class_counts": counts, "false_labels": {"train": 0.0, "val": 0.0, "test": 0.0}
    }  # fmt: skip


def test_tokens_are_learned_up_to_the_coin_and_have_no_overlap() -> None:
    data = counting(120)
    result = train(cell(data, epochs=10, lr=0.05), data)
    assert np.log(2) - 0.05 < result.final("test_nll") < np.log(2) + 0.2
    assert np.isnan(result.epochs["test_mean_iou"]).all()
    assert "iou" not in result.env


@pytest.mark.parametrize(("data", "loss"), [(squares(), "adma:a=0.3"), (counting(120), "adma:a=learn")])
def test_a_stopped_training_goes_on_to_the_same_bits(data: Dataset, loss: str, tmp_path: Path) -> None:
    some = cell(data, loss, epochs=6)
    whole = train(some, data)
    if loss.endswith("learn"):
        assert whole.trace["a"][-1] != whole.trace["a"][0]
    left = iter([False] * 7)
    with pytest.raises(StoppedError):
        train(some, data, keeper=Keeper(tmp_path, some), pulse=lambda: next(left, None) is not False)
    again = train(some, data, keeper=Keeper(tmp_path, some))
    assert numbers(again) == numbers(whole)
    assert again.env.get("iou") == whole.env.get("iou")
    assert again.env["weights"] == whole.env["weights"]
    assert "resumed_at" in again.env
    kept = train(some, data, keeper=Keeper(tmp_path, some))  # nothing is left to do but to say it
    assert kept.env.get("iou") == whole.env.get("iou")


@pytest.mark.parametrize(
    "loss", ["mse", "squared_hinge", "focal:gamma=2", "gce", "sce", "nce_rce", "bi_tempered", "kornia.losses:DiceLoss"]
)
def test_every_kind_of_loss_takes_them(loss: str) -> None:
    if loss.startswith("kornia"):
        pytest.importorskip("kornia")
    data = squares(12)
    result = train(cell(data, loss, epochs=1), data)
    assert result.status == DONE
    assert np.isfinite(result.final("train_loss"))


def test_a_network_that_diverges_is_a_result() -> None:
    data = squares()
    result = train(cell(data, optimizer="sgd", lr=1e12, epochs=4), data)
    assert result.status == "diverged"
    assert "epoch" in result.reason


def test_a_text_may_have_one_label() -> None:
    texts = counting(120)
    labels = ((texts.x == 0).sum(1) > 1).astype(np.int64)  # whether a token occurs twice
    assert 0.3 < labels.mean() < 0.7
    data = replace(texts, y=labels, class_names=("no", "yes"))
    setting = Setting("texts", data.fingerprint, model="dense_samples:reader", epochs=25, batch_size=16, lr=0.05)
    result = train(Cell(setting, "adma:a=0.5", 0), data)
    assert result.final("test_accuracy") > 0.9
    assert np.isnan(result.epochs["test_mean_iou"]).all()


# -- what is refused before anything trains ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"label_noise": "0.2"}, "--label-noise 0.2: it is drawn for each class's samples"),
        ({"imbalance": "10"}, "--imbalance 10: it thins out"),
        ({"augment": "flip"}, "--augment flip: it would move the pixels and not their labels"),
    ],
)
def test_what_has_no_meaning_for_dense_targets_is_refused(option: dict[str, str], words: str) -> None:
    with pytest.raises(BenchError) as caught:
        make_study(Task("t", "t", "", {"losses": ("cce",), **option}), squares())
    assert words in str(caught.value)
    assert "squares has a label for each position" in str(caught.value)


def test_the_default_networks() -> None:
    study, sizes, _ = make_study(Task("t", "t", "", {"losses": ("cce",), "train_fraction": 0.5}), squares())
    assert study.setting.model == "unet"
    assert sizes == {"train": 7, "val": 5, "test": 5}
    with pytest.raises(BenchError, match="token ids, for which no network is built in"):
        make_study(Task("t", "t", "", {"losses": ("cce",)}), counting())
    own = {"losses": ("adma:a=learn",), "model": "dense_samples:tagger"}
    assert make_study(Task("t", "t", "", own), counting())[0].setting.model == "dense_samples:tagger"


def test_labels_are_those_of_the_data() -> None:
    data = squares()
    c = cell(data)
    split = split_of(c, data)
    for part, labels in labels_of(c, data, split).items():
        np.testing.assert_array_equal(labels, data.y[getattr(split, part)])
