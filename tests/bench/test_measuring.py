"""What is measured of dense targets, against computations that see all logits at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score
from torch import Tensor, nn

import adma
from adma.bench import measuring
from adma.bench.calibration import fit_temperature, measures, scaled_measures
from adma.bench.data.dataset import IGNORED
from adma.bench.measuring import Counts, Measuring, Tally
from adma.bench.parallel import ALONE


def drawn(n: int, classes: int, size: tuple[int, ...], *, ignored: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, *size, generator=g)
    target = torch.multinomial(torch.softmax(logits.movedim(1, -1).flatten(0, -2), 1), 1, generator=g).reshape(n, *size)
    return logits, target.masked_fill(torch.rand(n, *size, generator=g) < ignored, IGNORED)


def flat(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    keep = target.flatten() != IGNORED
    return logits.movedim(1, -1).reshape(-1, logits.shape[1])[keep], target.flatten()[keep]


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6), step=st.integers(1, 5), chunk=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_pieces_add_up_to_what_all_labels_at_once_say(seed: int, classes: int, step: int, chunk: int) -> None:
    logits, target = drawn(5, classes, (3, 4), seed=seed)
    loss_fn = adma.AdmaLoss(a=0.4)
    tally = Tally(classes, loss_fn, temperature=1.7)
    whole, measuring._CHUNK = measuring._CHUNK, chunk
    try:
        for i in range(0, 5, step):
            tally.add(logits[i : i + step], target[i : i + step])
    finally:
        measuring._CHUNK = whole
    found = tally.measures()
    expected = measures(*flat(logits, target), loss_fn)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    scaled = measures(flat(logits, target)[0].double() / 1.7, flat(logits, target)[1], adma.CrossEntropyLoss())
    for name in ("nll", "brier", "ece"):
        assert found[f"{name}_scaled"] == pytest.approx(scaled[name], rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 8), labels=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_the_mean_overlap_is_that_of_scikit_learn(seed: int, classes: int, labels: int) -> None:
    """Of few labels some classes are neither true nor predicted: they are in no mean."""
    logits, target = drawn(1, classes, (labels,), ignored=0.0, seed=seed)
    tally = Tally(classes, adma.CrossEntropyLoss())
    tally.add(logits, target)
    truth, predicted = target[0].numpy(), logits[0].argmax(0).numpy()
    met = np.union1d(truth, predicted)
    expected = jaccard_score(truth, predicted, labels=met, average=None, zero_division=0)
    iou = tally.iou().numpy()
    np.testing.assert_allclose(iou[met], expected, rtol=1e-12)
    assert np.isnan(np.delete(iou, met)).all()


def test_the_overlap_is_that_of_torchmetrics_and_ignores_what_does_not_count() -> None:
    from torchmetrics.functional.classification import multiclass_jaccard_index

    logits, target = drawn(4, 5, (6, 7))
    tally = Tally(5, adma.CrossEntropyLoss())
    tally.add(logits, target)
    expected = multiclass_jaccard_index(logits, target, 5, average="none", ignore_index=IGNORED)
    torch.testing.assert_close(tally.iou().float(), expected)


def test_logits_that_are_not_finite_give_no_number() -> None:
    logits, target = drawn(4, 3, (2, 2))
    logits[2, 1, 0, 0] = math.inf
    tally = Tally(3, adma.AdmaLoss(a=0.3))
    tally.add(logits, target)
    assert not tally.finite
    assert all(math.isnan(value) for value in tally.measures().values())
    assert tally.iou().isnan().all()


class Known(nn.Module):
    """A network whose outputs are known: inputs are places among them."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x]


def measured(parts: dict[str, tuple[Tensor, Tensor]], loss_fn: nn.Module, **options: int) -> Measuring:
    n = len(parts["val"][0])
    model = Known(torch.cat([parts["val"][0], parts["test"][0]]))
    start = {"val": 0, "test": n}

    def batch_of(part: str, index: slice) -> Tensor:
        return torch.arange(index.start, index.stop) + start[part]

    y = {part: target for part, (_, target) in parts.items()}
    return Measuring(
        model, loss_fn, batch_of, y, num_classes=parts["val"][0].shape[1], batch_size=options.get("batch_size", 3),
        seed=options.get("seed", 0), parallel=ALONE, pulse=lambda: False,
    )  # fmt: skip


def test_a_row_is_what_both_parts_say_and_the_temperature_is_that_of_all_labels() -> None:
    parts = {"val": drawn(7, 4, (5, 5), seed=1), "test": drawn(4, 4, (5, 5), seed=2)}
    loss_fn = adma.AdmaLoss(a=0.3)
    row, finite = measured(parts, loss_fn).row()
    assert finite
    expected = scaled_measures(*flat(*parts["val"]), *flat(*parts["test"]))
    for part in ("val", "test"):
        expected |= {f"{part}_{k}": v for k, v in measures(*flat(*parts[part]), loss_fn).items()}
    assert {k for k in row if not k.endswith("mean_iou")} == set(expected)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-6), name


def test_of_many_labels_a_sample_fixes_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_FITTED", 4 * 40 * 25)  # a quarter of the positions
    parts = {"val": drawn(40, 4, (10, 10), seed=1), "test": drawn(4, 4, (10, 10), seed=2)}
    rows = [measured(parts, adma.CrossEntropyLoss(), seed=seed).row()[0] for seed in (0, 0, 1)]
    assert rows[0] == rows[1]
    for row, seed in zip(rows, (0, 0, 1), strict=True):
        places = torch.randperm(100, generator=torch.Generator().manual_seed(seed))[:25]
        some = flat(*(part.flatten(-2)[..., places] for part in parts["val"]))
        assert row["temperature"] == pytest.approx(fit_temperature(*some), rel=1e-6)
    assert rows[0]["temperature"] != rows[2]["temperature"]


def test_tokens_have_no_overlap_and_one_label_a_sample_is_measured_as_ever() -> None:
    parts = {"val": drawn(6, 3, (8,), seed=1), "test": drawn(6, 3, (8,), seed=2)}
    row, _ = measured(parts, adma.CrossEntropyLoss()).row()
    assert not any("iou" in name for name in row)
    plain = {part: (logits[..., 0], target[..., 0].clamp(min=0)) for part, (logits, target) in parts.items()}
    found = measured(plain, adma.CrossEntropyLoss())
    row, finite = found.row()
    assert finite
    assert found.iou == {}
    assert row["test_nll"] == measures(*plain["test"], adma.CrossEntropyLoss())["nll"]


def test_counts_are_those_of_labels() -> None:
    y = torch.tensor([[0, 1, IGNORED], [1, 1, 1], [IGNORED, 0, IGNORED]])
    counts = Counts(y)
    assert counts.same is None
    assert counts.of(torch.tensor([0, 2])) == 3
    assert Counts(y[1:2]).same == 3
    assert Counts(torch.tensor([0, 1, 2])).of(torch.tensor([0, 1])) == 2
