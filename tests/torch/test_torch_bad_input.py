"""Mistakes in a call: the message names the argument, its value and what would be right. And bad values in tensors."""

import math
import re

import pytest
import torch
from torch.nn import functional as F

import adma
import exact
from adma import functional

Z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0])
P = torch.softmax(Z, 1)
SPECS = [*exact.EACH, *exact.CLASSICS]
# a semantic loss is of the logits, not of the softmax's probabilities alone
OF_PROBABILITIES = [spec for spec in SPECS if not str(spec).startswith("semantic")]


# arguments, options, the error, what its message must hold
MISTAKES = {
    "class too high": ((Z, torch.tensor([0, 1, 3, 0])), {}, IndexError, ["target", "3", "[0, 2]", "-100"]),
    "class negative": ((Z, torch.tensor([0, -1, 2, 0])), {}, IndexError, ["target", "-1", "3 classes", "[0, 2]"]),
    "unbatched class": ((Z[0], torch.tensor(9)), {}, IndexError, ["target", "9", "[0, 2]"]),
    "one class": ((Z[:, :1], Y), {}, IndexError, ["target", "1", "[0, 0]"]),
    "ignored elsewhere": ((Z, torch.tensor([0, -100, 2, 0])), {"ignore_index": 7}, IndexError, ["-100", "7"]),
    "int32 target": ((Z, Y.int()), {}, TypeError, ["target", "int64", "int32"]),
    "float target": ((Z, Y.float()), {}, ValueError, ["target", "(4, 3)", "(4,)"]),
    "whole-number probabilities": ((Z, torch.ones(4, 3).long()), {}, TypeError, ["target", "floating", "int64"]),
    "short target": ((Z, Y[:2]), {}, ValueError, ["target", "(4,)", "(4, 3)", "(2,)"]),
    "image target": ((torch.randn(2, 3, 4, 5), torch.ones(2, 5, 4).long()), {}, ValueError, ["(2, 4, 5)", "(2, 5, 4)"]),
    "target of a list": ((Z, [0, 1, 2, 0]), {}, TypeError, ["target", "tensor", "list"]),
    "input of a list": (([[1.0]], Y), {}, TypeError, ["input", "tensor", "list"]),
    "input of whole numbers": ((Z.long(), Y), {}, TypeError, ["input", "floating", "int64"]),
    "complex input": ((Z.to(torch.complex64), Y), {}, TypeError, ["input", "floating", "complex64"]),
    "scalar input": ((torch.tensor(1.0), torch.tensor(0)), {}, ValueError, ["input", "scalar", "(N, C)"]),
    "no classes": ((torch.randn(4, 0), Y), {}, ValueError, ["input", "no classes", "(4, 0)"]),
    "weight too long": ((Z, Y, torch.ones(4)), {}, ValueError, ["weight", "(3,)", "(4,)"]),
    "weight of whole numbers": ((Z, Y, torch.ones(3).long()), {}, TypeError, ["weight", "int64"]),
    "weight of another type": ((Z, Y, torch.ones(3).double()), {}, TypeError, ["weight", "float32", "float64"]),
    "weight of a list": ((Z, Y, [1.0, 1.0, 1.0]), {}, TypeError, ["weight", "tensor", "list"]),
    "weight elsewhere": ((Z, Y, torch.ones(3, device="meta")), {}, ValueError, ["weight", "meta", "cpu"]),
    "target elsewhere": ((Z, Y.to("meta")), {}, ValueError, ["target", "meta", "cpu"]),
    "smoothing": ((Z, Y), {"label_smoothing": 1.5}, ValueError, ["label_smoothing", "[0, 1]", "1.5"]),
    "smoothing of text": ((Z, Y), {"label_smoothing": "0.1"}, TypeError, ["label_smoothing", "'0.1'"]),
    "reduction": ((Z, Y), {"reduction": "avg"}, ValueError, ["reduction", "avg", "mean"]),
    "ignore_index of a fraction": ((Z, Y), {"ignore_index": 0.5}, TypeError, ["ignore_index", "0.5", "int"]),
    "ignore_index and probabilities": ((Z, P), {"ignore_index": 1}, ValueError, ["ignore_index", "1", "prob"]),
    "logits as probabilities": (
        (torch.tensor([[2.5, -1.0]]), Y[:1]),
        {"from_probabilities": True},
        ValueError,
        ["input", "[0, 1]", "2.5", "from_probabilities"],
    ),
    "probabilities that sum to more": (
        (torch.tensor([[0.5, 0.75]]), Y[:1]),
        {"from_probabilities": True},
        ValueError,
        ["input", "sum to 1", "1.25", "from_probabilities"],
    ),
}


@pytest.mark.parametrize("loss_fn", [functional.adma_loss, functional.cross_entropy, functional.bi_tempered_loss])
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case, loss_fn):
    args, options, kind, said = MISTAKES[case]
    with pytest.raises(kind) as caught:
        loss_fn(*args, **options)
    for word in said:
        assert word in str(caught.value), word


@pytest.mark.parametrize(
    ("args", "options", "kind", "said"),
    [
        ((Z.long(), P), {}, TypeError, ["input", "int64"]),
        ((Z, P.long()), {}, TypeError, ["target", "int64"]),
        ((Z, P[:, :2]), {}, ValueError, ["target", "(4, 3)", "(4, 2)"]),
        ((Z, P * 0 - 0.25), {}, ValueError, ["target", "[0, 1]", "-0.25"]),
        ((Z, P * 0 + 1.5), {}, ValueError, ["target", "[0, 1]", "1.5"]),
        ((Z, P), {"weight": torch.ones(4)}, ValueError, ["weight", "(4, 3)", "(4,)"]),
        ((Z, P), {"weight": torch.ones(2, 4, 3)}, ValueError, ["weight", "(4, 3)", "(2, 4, 3)"]),
        ((Z, P), {"pos_weight": torch.ones(4)}, ValueError, ["pos_weight", "(4, 3)", "(4,)"]),
        ((Z, P), {"pos_weight": 2.0}, TypeError, ["pos_weight", "tensor", "float"]),
        ((Z, P), {"reduction": "sums"}, ValueError, ["reduction", "'sums'", "'sum'"]),
    ],
)
def test_a_mistake_with_binary_labels_is_named(args, options, kind, said):
    with pytest.raises(kind) as caught:
        functional.binary_adma_loss(*args, **options)
    for word in said:
        assert word in str(caught.value), word


IMAGE = torch.randn(2, 3, 4, 5)
REFUSED = {
    "fewer targets": ((Z, Y[:3]), {}),
    "more targets": ((Z, torch.cat([Y, Y])), {}),
    "targets with an axis too many": ((Z, Y[:, None]), {}),
    "a scalar target for a batch": ((Z, torch.tensor(0)), {}),
    "a vector target for one sample": ((Z[0], Y), {}),
    "an image's target transposed": ((IMAGE, torch.zeros(2, 5, 4, dtype=torch.long)), {}),
    "an image's target without rows": ((IMAGE, torch.zeros(2, 4, dtype=torch.long)), {}),
    "int16 targets": ((Z, Y.short()), {}),
    "bool targets": ((Z, Y.bool()), {}),
    "float targets of the indices' shape": ((Z, Y.float()), {}),
    "probabilities of another shape": ((Z, P[:, :2]), {}),
    "whole numbers of the input's shape": ((Z, (P > 0.5).long()), {}),
    "a class too high": ((Z, torch.tensor([0, 1, 3, 0])), {}),
    "a negative class": ((Z, torch.tensor([0, 1, -1, 0])), {}),
    "a class too high, image": ((IMAGE, torch.full((2, 4, 5), 3)), {}),
    "a weight too short": ((Z, Y, torch.ones(2)), {}),
    "a weight for each sample and class": ((Z, Y, torch.ones(4, 3)), {}),
    "a weight too long, probabilities": ((Z, P, torch.ones(4)), {}),
    "a weight of another type": ((Z, Y, torch.ones(3, dtype=torch.float64)), {}),
    "smoothing above 1": ((Z, Y), {"label_smoothing": 1.5}),
    "smoothing above 1, probabilities": ((Z, P), {"label_smoothing": 1.5}),
    "reduction avg": ((Z, Y), {"reduction": "avg"}),
    "reduction None": ((Z, Y), {"reduction": None}),
    "an index to ignore among probabilities": ((Z, P), {"ignore_index": 0}),
    "an index to ignore that is a fraction": ((Z, Y), {"ignore_index": 1.5}),
    "logits of whole numbers": ((torch.ones(4, 3, dtype=torch.long), Y), {}),
    "scalar logits": ((torch.tensor(1.0), torch.tensor(0)), {}),
    "a target that is a list": ((Z, Y.tolist()), {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_refuses_every_kind_of_loss_refuses(case):
    args, options = REFUSED[case]
    with pytest.raises((TypeError, ValueError, IndexError, RuntimeError)):
        F.cross_entropy(*args, **options)
    for loss_fn in (functional.cross_entropy, functional.adma_loss, functional.mean_squared_error):
        with pytest.raises((TypeError, ValueError, IndexError)):
            loss_fn(*args, **options)


@pytest.mark.parametrize(
    ("build", "kind", "said"),
    [
        (lambda: adma.AdmaLoss(a=0.0), ValueError, "a must be in (0, inf), got 0"),
        (lambda: adma.AdmaLoss(a=math.nan), ValueError, "a must be in (0, inf), got nan"),
        (lambda: adma.AdmaLoss(base=1.0), ValueError, "base must be in (1, inf), got 1"),
        (lambda: adma.AdmaLoss(normalize=1), TypeError, "normalize must be True or False, got 1"),
        (lambda: adma.GeneralizedCrossEntropyLoss(q=1.5), ValueError, "q must be in (0, 1], got 1.5"),
        (lambda: adma.FocalLoss(gamma=-1), ValueError, "gamma must be in [0, inf), got -1"),
        (lambda: adma.Poly1Loss(epsilon=-2), ValueError, "epsilon must be in [-1, inf), got -2"),
        (lambda: adma.BiTemperedLoss(t1=1.2), ValueError, "t1 must be in [0, 1], got 1.2"),
        (lambda: adma.BiTemperedLoss(t2=0), ValueError, "t2 must be in (0, 5], got 0"),
        (lambda: adma.AdmaLoss(label_smoothing=2), ValueError, "label_smoothing must be in [0, 1], got 2"),
        (lambda: adma.AdmaLoss(reduction="avg"), ValueError, "reduction 'avg' is not known"),
        (lambda: adma.AdmaLoss(weight=[1.0, 2.0]), TypeError, "weight must be a tensor, got list"),
        (lambda: adma.AdmaLoss(from_probabilities="yes"), TypeError, "from_probabilities must be True or False"),
        (lambda: adma.BinaryAdmaLoss(pos_weight=3.0), TypeError, "pos_weight must be a tensor, got float"),
        (lambda: adma.FlexibleLoss("adma"), TypeError, "member must be an adma.family.Member, got str"),
        (lambda: adma.make_loss("admma"), ValueError, "did you mean 'adma'"),
        (lambda: adma.make_loss("mse", binary=True), ValueError, "mse has no binary form"),
    ],
)
def test_a_mistake_at_construction_is_named(build, kind, said):
    with pytest.raises(kind, match=re.escape(said)):
        build()


@pytest.mark.parametrize("spec", OF_PROBABILITIES, ids=exact.name)
def test_a_probability_of_zero_gives_no_nan(spec):
    p = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]], requires_grad=True)
    rows = adma.make_loss(spec, reduction="none", from_probabilities=True)(p, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(rows.sum(), p)
    assert not rows.isnan().any()
    assert not gradient.isnan().any()
    if not isinstance(spec, str):
        expected = torch.full((2,), spec.supremum)
        torch.testing.assert_close(rows, expected)
        assert gradient.isfinite().all()
        assert (gradient[:, 0] <= 0).all()


@pytest.mark.parametrize("spec", SPECS, ids=exact.name)
@pytest.mark.parametrize("target", ["hard", "soft"])
def test_a_nan_stays_in_its_sample(spec, target):
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    z[3, 1] = math.nan
    z.requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0])
    if target == "soft":
        y = torch.nn.functional.one_hot(y, 4).float() * 0.75 + 0.0625
    rows = adma.make_loss(spec, reduction="none")(z, y)
    (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
    others = [0, 1, 2, 4]
    assert rows[3].isnan()
    assert gradient[3].isnan().any()  # it cannot be overlooked
    assert rows[others].isfinite().all()
    assert gradient[others].isfinite().all()


@pytest.mark.parametrize("spec", SPECS, ids=exact.name)
def test_ignored_rows_of_nan_are_nothing(spec):
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))
    y = torch.tensor([[0, 9, 3], [9, 1, 2]])
    z[0, :, 1] = math.nan
    z[1, :, 0] = math.nan
    z.requires_grad_()
    for smoothing in (0.0, 0.1):
        rows = adma.make_loss(spec, reduction="none", ignore_index=9, label_smoothing=smoothing)(z, y)
        (gradient,) = torch.autograd.grad(rows.sum(), z)
        ignored = y == 9
        assert not rows[ignored].any()
        assert not gradient.transpose(1, 2)[ignored].any()
        assert gradient.transpose(1, 2)[~ignored].any(1).all()


@pytest.mark.parametrize("spec", OF_PROBABILITIES, ids=exact.name)
def test_a_single_class_costs_nothing(spec):
    z = torch.tensor([[3.0], [-1e30]], requires_grad=True)
    rows = adma.make_loss(spec, reduction="none")(z, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(rows.sum(), z)
    assert not rows.any()
    assert not gradient.any()


@pytest.mark.parametrize("spec", SPECS, ids=exact.name)
def test_one_sample_is_a_batch_of_one(spec):
    for y, batch in ((Y[1], Y[1:2]), (P[1], P[1:2])):
        for reduction in ("none", "mean", "sum"):
            for smoothing in (0.0, 0.1):
                loss_fn = adma.make_loss(spec, reduction=reduction, label_smoothing=smoothing)
                z = Z[1].clone().requires_grad_()
                value = loss_fn(z, y)
                assert value.shape == ()
                torch.testing.assert_close(value, loss_fn(Z[1:2], batch).reshape(()))
                assert torch.autograd.grad(value, z)[0].shape == (3,)
