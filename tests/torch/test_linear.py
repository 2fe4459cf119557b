"""The last layer and the loss together: the numbers of `F.linear` and the plain loss, and none of its memory."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import adma
import exact
from adma import functional as AF
from adma.family import Adma, CrossEntropy, Member
from adma.torch import linear, linear_walk
from adma.torch.linear_checks import LinearLossOptions

N, H, C = 23, 7, 11
NAMES = sorted(n.removeprefix("linear_") for n in AF.__all__ if n.startswith("linear_") and n != "linear_flexible_loss")
BOTH = [None, LinearLossOptions(batch_chunk_size=5)]


def tensors(dtype=torch.float64, rows=(N,), bias=True, scale=3.0):
    """Input, weight and bias that want gradients, and targets."""
    torch.manual_seed(0)
    x = torch.randn(*rows, H, dtype=torch.float64).to(dtype).requires_grad_()
    w = (torch.randn(C, H, dtype=torch.float64) * scale / H**0.5).to(dtype).requires_grad_()
    b = torch.randn(C, dtype=torch.float64).to(dtype).requires_grad_() if bias else None
    return x, w, b, torch.randint(C, rows)


def plain(member, x, w, y, *, linear_bias=None, softcap=None, z_loss=0.0, reduction="mean", weight=None,
          ignore_index=-100, label_smoothing=0.0, options=None):  # fmt: skip
    """The same in plain steps, written for itself."""
    z = F.linear(x, w, linear_bias)
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    classes_second = z.movedim(-1, 1) if z.dim() > 2 else z
    soft = y.is_floating_point()
    y_second = y.movedim(-1, 1) if soft and z.dim() > 2 else y
    loss = AF.flexible_loss(
        member, classes_second, y_second, weight, reduction=reduction, label_smoothing=label_smoothing,
        **({} if soft else {"ignore_index": ignore_index}),
    )  # fmt: skip
    if z_loss:
        keep = torch.ones(z.shape[:-1], dtype=z.dtype) if soft else (y != ignore_index).to(z.dtype)
        extra = z_loss * keep * torch.logsumexp(z, -1) ** 2
        loss = loss + {"none": extra, "sum": extra.sum(), "mean": extra.sum() / keep.sum()}[reduction]
    return loss


def gradients(function, member, inputs, y, seed=1, **options):
    """The loss, and the gradient of it (or of a weighed sum of its rows) in each input that wants one."""
    x, w, b = inputs
    loss = function(member, x, w, y, linear_bias=b, **options)
    torch.manual_seed(seed)
    factor = torch.rand(loss.shape, dtype=torch.float64).to(loss.dtype) + 0.5
    return loss.detach(), torch.autograd.grad((loss * factor).sum(), [t for t in inputs if t is not None])


def agree(member, inputs, y, rtol=1e-10, atol=1e-12, **options):
    loss, found = gradients(AF.linear_flexible_loss, member, inputs, y, **options)
    expected, wanted = gradients(plain, member, inputs, y, **options)
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=atol)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_every_member_agrees_with_the_separate_layers(member, reduction):
    *inputs, y = tensors()
    agree(member, inputs, y, reduction=reduction, options=LinearLossOptions(batch_chunk_size=5))


@pytest.mark.parametrize("rows", [(), (1,), (4, 3), (2, 3, 2), (0,), (0, 3)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_any_leading_dimensions(rows, reduction):
    *inputs, y = tensors(rows=rows)
    loss, found = gradients(AF.linear_flexible_loss, Adma(), inputs, y, reduction=reduction)
    x, w, b = inputs
    flat = x.reshape(-1, H)
    whole = AF.adma_loss(F.linear(flat, w, b), y.reshape(-1), reduction=reduction)
    assert loss.shape == (rows if reduction == "none" else ())
    torch.testing.assert_close(loss.reshape(whole.shape), whole.detach(), rtol=1e-10, atol=1e-12)
    torch.manual_seed(1)
    factor = torch.rand(loss.shape, dtype=torch.float64) + 0.5
    for a, b in zip(found, torch.autograd.grad((whole * factor.reshape(whole.shape)).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, N, 1000])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_chunks_of_any_size_agree(size, reduction):
    *inputs, y = tensors()
    y[::3] = -100
    options = {"softcap": 4.0, "z_loss": 0.01, "reduction": reduction}
    agree(Adma(), inputs, y, options=LinearLossOptions(batch_chunk_size=size), **options)
    agree(Adma(), inputs, y, options=LinearLossOptions(batch_chunk_size=size, skip_ignored=False), **options)


@settings(max_examples=40)
@given(
    member=st.sampled_from(exact.EACH),
    shape=st.tuples(*3 * [st.integers(1, 9)]),
    size=st.integers(1, 10),
    skip=st.sampled_from([None, False]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    softcap=st.sampled_from([None, 3.0]),
    data=st.data(),
)
def test_any_sizes_agree(member, shape, size, skip, reduction, softcap, data):
    n, h, c = shape
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((n, h), (c, h), (c,)))
    y = torch.tensor(data.draw(st.lists(st.integers(-1, c - 1), min_size=n, max_size=n)))
    agree(member, (x, w, b), y, ignore_index=-1, reduction=reduction, softcap=softcap,
          options=LinearLossOptions(batch_chunk_size=size, skip_ignored=skip))  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", BOTH)
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_options_together(bias, options, skip, reduction):
    *inputs, y = tensors(bias=bias)
    y[[0, 4, 5, 20]] = 3
    weight = torch.rand(C, dtype=torch.float64)
    weight[0] = 0
    size = None if options is None else options.batch_chunk_size
    options = LinearLossOptions(batch_chunk_size=size, skip_ignored=skip)
    common = {"weight": weight, "ignore_index": 3, "reduction": reduction, "options": options}
    agree(Adma(), inputs, y, **common)
    agree(Adma(), inputs, y, **common, softcap=2.0, z_loss=0.1)
    agree(Adma(), inputs, y, **common, softcap=2.0, z_loss=0.1, label_smoothing=0.2)
    soft = torch.softmax(torch.randn(N, C, dtype=torch.float64), 1)
    agree(Adma(), inputs, soft, weight=weight, reduction=reduction, options=options, z_loss=0.1, label_smoothing=0.2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("skip", [True, False, None])
def test_when_nothing_counts_loss_and_gradients_are_zero(reduction, skip):
    *inputs, _ = tensors()
    y = torch.full((N,), -100)
    options = LinearLossOptions(batch_chunk_size=5, skip_ignored=skip)
    loss, found = gradients(
        AF.linear_flexible_loss, Adma(), inputs, y, reduction=reduction, z_loss=0.1, options=options
    )
    assert not loss.any()
    assert all(not g.any() for g in found)


def test_ignored_rows_are_not_computed(monkeypatch):
    *inputs, y = tensors()
    y[: N - 3] = -100
    seen = []

    def counted(z, *rest, **options):
        seen.append(z.shape[0])
        return whole(z, *rest, **options)

    whole = linear_walk.rows_and_gradient
    monkeypatch.setattr(linear_walk, "rows_and_gradient", counted)
    gradients(AF.linear_flexible_loss, Adma(), inputs, y)
    gradients(AF.linear_flexible_loss, Adma(), inputs, y, options=LinearLossOptions(skip_ignored=False))
    assert seen == [3, N]


def test_a_row_that_does_not_count_may_hold_anything():
    x, w, b, y = tensors()
    with torch.no_grad():
        x[3] = float("inf")
    y[3] = -100
    loss, found = gradients(AF.linear_flexible_loss, Adma(), (x, w, b), y, z_loss=0.1, softcap=3.0)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in found)
    assert not found[0][3].any()


def test_masked_classes_by_a_bias():
    x, w, b, _ = tensors()
    with torch.no_grad():
        b[8:] = float("-inf")
    agree(Adma(), (x, w, b), torch.randint(8, (N,)), z_loss=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", BOTH)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_other_types_are_as_near_as_their_precision(dtype, options, reduction):
    x, w, b, y = tensors(dtype)
    wide = [t.detach().double().requires_grad_() for t in (x, w, b)]
    for extra in ({}, {"softcap": 5.0, "z_loss": 1e-3}, {"label_smoothing": 0.1}):
        loss, found = gradients(
            AF.linear_flexible_loss, Adma(), (x, w, b), y, reduction=reduction, options=options, **extra
        )
        expected, wanted = gradients(plain, Adma(), wide, y, reduction=reduction, **extra)
        assert loss.dtype == dtype
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(loss.double(), expected, rtol=20 * eps, atol=20 * eps)
        for leaf, a, b_ in zip((x, w, b), found, wanted, strict=True):
            assert a.dtype == leaf.dtype
            assert (a.double() - b_).norm() <= 10 * eps * b_.norm()


def test_many_chunks_of_a_half_type_are_summed_in_float32():
    torch.manual_seed(0)
    n = 1000
    x = torch.rand(n, H).bfloat16()
    w = torch.zeros(C, H).bfloat16().requires_grad_()
    y = torch.zeros(n, dtype=torch.long)
    x64, w64 = x.double(), w.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(plain(CrossEntropy(), x64, w64, y, reduction="sum"), w64)

    def error(**options):
        loss = AF.linear_cross_entropy(x, w, y, reduction="sum", options=LinearLossOptions(**options))
        (found,) = torch.autograd.grad(loss, w)
        assert found.dtype == torch.bfloat16
        return ((found.double() - wanted).norm() / wanted.norm()).item()

    assert error(batch_chunk_size=1) < 3e-3  # about the rounding of a bfloat16
    assert error() < 3e-3
    assert error(batch_chunk_size=1, acc_dtype=torch.bfloat16) > 0.1  # what it is there for


@pytest.mark.parametrize("extra", [{}, {"z_loss": 1e-3}])
def test_a_loss_scale_reaches_the_gradients_of_float16_in_time(extra):
    torch.manual_seed(0)
    n, c = 64, 20_000  # a mean's gradient in a logit is 8e-7, a dozen steps of float16
    x, w, y = torch.randn(n, H).half(), torch.randn(c, H).mul(0.1).half(), torch.randint(c, (n,))

    def scaled(function, *leaves):
        return torch.autograd.grad(4096 * function(*leaves, y, **extra).float(), leaves)

    found = scaled(AF.linear_cross_entropy, x.requires_grad_(), w.requires_grad_())
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    for a, e in zip(found, scaled(lambda x, w, y, **o: plain(CrossEntropy(), x, w, y, **o), *wide), strict=True):
        assert a.dtype == torch.float16
        others = torch.ones(len(a), dtype=torch.bool)
        if len(a) == c:
            others[y] = False  # whose part is large
        assert (a.double() - e)[others].norm() <= 2e-3 * e[others].norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keep", [True, False])
def test_a_factor_is_not_rounded_to_a_half_type(dtype, keep, monkeypatch):
    monkeypatch.setattr(linear_walk, "_SCALED", 10)
    x, w, b, y = tensors(dtype)
    eps = torch.finfo(dtype).eps
    factor = 1 + 0.375 * eps  # rounded to 1 it would leave the gradient as it is
    with torch.autocast("cpu", dtype=dtype):  # so that the loss is float32
        (one,) = torch.autograd.grad(AF.linear_adma_loss(x, w, y, linear_bias=b), w)
        loss = factor * AF.linear_adma_loss(x, w, y, linear_bias=b)
    (many,) = torch.autograd.grad(loss, w, retain_graph=keep)
    assert (many.double() / one.double()).mean().item() == pytest.approx(factor, abs=0.15 * eps)


def test_the_memory_decides_the_chunk():
    rows = torch.empty(2048, 4)

    def size(n=2048, classes=32000, dtype=torch.float32, **options):
        call, _ = linear.canonical(
            Adma(), rows[:n].to(dtype), torch.empty(classes, 4, dtype=dtype), torch.zeros(n, dtype=torch.long), None,
            None, None, 0.0, options.pop("softcap", None), 0.0, LinearLossOptions(**options),
        )  # fmt: skip
        return call.chunk_size(n)

    assert size() == 512  # 62.5 MiB
    assert size(dtype=torch.bfloat16) == 1024
    assert size(n=100) == 100
    assert size(n=1025) == 384  # three even chunks, not two and one row
    assert size(chunk_bytes=32000 * 4 * 3) == 3
    assert size(chunk_bytes=1) == 1
    assert size(softcap=30.0) < 256
    assert size(batch_chunk_size=5000) == 2048


@pytest.mark.parametrize("name", NAMES)
def test_every_function_has_its_linear_form(name):
    *inputs, y = tensors()
    x, w, b = inputs
    function = getattr(AF, "linear_" + name)
    torch.testing.assert_close(function(x, w, y, linear_bias=b), getattr(AF, name)(F.linear(x, w, b), y))
    assert function.__name__ == "linear_" + name
    shape = set(inspect.signature(getattr(AF, name)).parameters) & set(inspect.signature(function).parameters)
    assert set(inspect.signature(function).parameters) - shape == {
        "linear_weight", "linear_bias", "softcap", "z_loss", "options"
    }  # fmt: skip


def test_there_is_one_for_each_member():
    multiclass = {n for n in dir(adma) if n.endswith("Loss") and issubclass(getattr(adma, n), adma.FlexibleLoss)}
    assert {n for n in dir(adma) if n.startswith("Linear") and n.endswith("Loss")} == {"Linear" + n for n in multiclass}
    assert len(NAMES) + 1 == len(multiclass)  # and FlexibleLoss


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="this torch has no linear_cross_entropy")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("chunked", [True, False])
def test_torchs_own_cross_entropy_agrees(reduction, chunked):
    x, w, b, y = tensors()
    y[::4] = 2
    weight = torch.rand(C, dtype=torch.float64)
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=4) if chunked else None
    common = {"linear_bias": b, "weight": weight, "ignore_index": 2, "reduction": reduction}
    expected = F.linear_cross_entropy(x, w, y, **common, options=options)
    found = AF.linear_cross_entropy(x, w, y, **common)
    torch.testing.assert_close(found, expected)
    for a, e in zip(*(torch.autograd.grad(v.sum(), (x, w, b)) for v in (found, expected)), strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="this torch has no linear_cross_entropy")
def test_the_call_is_torchs():
    theirs = inspect.signature(F.linear_cross_entropy).parameters
    ours = inspect.signature(AF.linear_cross_entropy).parameters
    assert [n for n in ours if n in theirs] == list(theirs)
    assert all(ours[n].kind == p.kind and ours[n].default == p.default for n, p in theirs.items())
    theirs = inspect.signature(nn.LinearCrossEntropyLoss).parameters
    ours = inspect.signature(adma.LinearCrossEntropyLoss).parameters
    assert set(theirs) - set(ours) == {"out_features"}
    assert all(ours[n].kind == p.kind and ours[n].default == p.default for n, p in theirs.items() if n in ours)
    other = nn.LinearCrossEntropyLoss(H, C, bias=True)
    adma.LinearAdmaLoss(H, C, bias=True).load_state_dict(other.state_dict())


@pytest.mark.parametrize("options", [None, LinearLossOptions(batch_chunk_size=2)])
@pytest.mark.parametrize("extra", [{}, {"softcap": 2.0, "z_loss": 0.1}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck_twice(options, extra, reduction):
    torch.manual_seed(0)
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((4, 2), (3, 2), (3,)))
    y = torch.tensor([0, 2, -100, 1])

    def function(x, w, b):
        return AF.linear_adma_loss(x, w, y, linear_bias=b, reduction=reduction, options=options, **extra)

    assert torch.autograd.gradcheck(function, (x, w, b))
    assert torch.autograd.gradgradcheck(function, (x, w, b))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_transformations_give_the_same_numbers(reduction):
    x, w, b, y = tensors()
    y[1] = -100

    def loss(x, w, b):
        value = AF.linear_adma_loss(x, w, y, linear_bias=b, reduction=reduction, softcap=4.0, z_loss=0.01)
        return (value * torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)).sum()

    expected = torch.autograd.grad(loss(x, w, b), (x, w, b))
    detached = tuple(t.detach() for t in (x, w, b))
    for a, e in zip(torch.func.grad(loss, (0, 1, 2))(*detached), expected, strict=True):
        torch.testing.assert_close(a, e)
    tangents = tuple(torch.randn_like(t) for t in detached)
    _, rate = torch.func.jvp(loss, detached, tangents)
    torch.testing.assert_close(rate, sum((t * e).sum() for t, e in zip(tangents, expected, strict=True)))
    each = torch.func.vmap(lambda r, t: AF.linear_adma_loss(r, detached[1], t))(detached[0], y.clamp(min=0))
    torch.testing.assert_close(each, AF.linear_adma_loss(x, w, y.clamp(min=0), reduction="none").detach())
    batched = torch.autograd.grad(
        AF.linear_adma_loss(x, w, y, reduction=reduction), (x, w),
        torch.ones(2, *(() if reduction == "mean" else (N,)), dtype=x.dtype), is_grads_batched=True,
    )  # fmt: skip
    for a, leaf in zip(batched, torch.autograd.grad(AF.linear_adma_loss(x, w, y, reduction=reduction).sum(), (x, w)),
                       strict=True):  # fmt: skip
        torch.testing.assert_close(a[1], leaf)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_without_a_break(reduction):
    x, w, b, y = tensors(torch.float32)

    def loss(x, w, b):
        return AF.linear_adma_loss(x, w, y, linear_bias=b, reduction=reduction, z_loss=0.01).sum()

    expected = torch.autograd.grad(loss(x, w, b), (x, w, b))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for a, e in zip(torch.autograd.grad(compiled(x, w, b), (x, w, b)), expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-6)


def test_autocast_keeps_the_gradients_wide():
    x, w, b, y = tensors(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = AF.linear_adma_loss(x, w, y, linear_bias=b, options=LinearLossOptions(batch_chunk_size=5))
        separate = AF.adma_loss(F.linear(x, w, b), y)
        half = AF.linear_adma_loss(x.bfloat16(), w.bfloat16(), y)
    assert loss.dtype == separate.dtype == half.dtype == torch.float32
    torch.testing.assert_close(loss, separate, rtol=1e-2, atol=1e-3)
    found, expected = (torch.autograd.grad(v, (x, w, b)) for v in (loss, separate))
    for a, e in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - e).norm() <= 2e-2 * e.norm()


def test_a_tensor_as_parameter_gets_its_gradient():
    x, w, b, y = tensors()
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    member = Adma().bind(a=a)
    (found,) = torch.autograd.grad(AF.linear_flexible_loss(member, x, w, y, linear_bias=b), a)
    (expected,) = torch.autograd.grad(AF.flexible_loss(member, F.linear(x, w, b), y), a)
    torch.testing.assert_close(found, expected)


def test_targets_and_class_weights_may_want_gradients():
    x, w, b, y = tensors()
    soft = torch.softmax(torch.randn(N, C, dtype=torch.float64), 1).requires_grad_()
    weight = torch.rand(C, dtype=torch.float64, requires_grad=True)
    for target, leaves in ((soft, (x, w, b, soft, weight)), (y, (x, w, b, weight))):
        found = torch.autograd.grad(AF.linear_adma_loss(x, w, target, linear_bias=b, weight=weight), leaves)
        expected = torch.autograd.grad(plain(Adma(), x, w, target, linear_bias=b, weight=weight), leaves)
        for a, e in zip(found, expected, strict=True):
            torch.testing.assert_close(a, e)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
def test_what_is_frozen_costs_no_product(frozen, monkeypatch):
    inputs = list(tensors()[:3])
    y = tensors()[3]
    for i in frozen:
        inputs[i] = inputs[i].detach()
    expected = torch.autograd.grad(plain(Adma(), *inputs[:2], y, linear_bias=inputs[2]),
                                   [t for t in inputs if t.requires_grad])  # fmt: skip
    made = []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: made.append(a[0].shape) or product(*a, **k))
    found = torch.autograd.grad(AF.linear_adma_loss(*inputs[:2], y, linear_bias=inputs[2]),
                                [t for t in inputs if t.requires_grad])  # fmt: skip
    for a, e in zip(found, expected, strict=True):
        torch.testing.assert_close(a, e)
    assert len(made) == (0 not in frozen) + (1 not in frozen)


def test_nothing_is_made_where_no_gradient_is_wanted(monkeypatch):
    x, w, b, y = tensors()
    expected = AF.linear_adma_loss(x, w, y, linear_bias=b).detach()
    monkeypatch.setattr(linear, "loss_and_gradients", None)
    monkeypatch.setattr(linear_walk, "rows_and_gradient", None)
    with torch.no_grad():
        torch.testing.assert_close(AF.linear_adma_loss(x, w, y, linear_bias=b), expected)
    loss = AF.linear_adma_loss(x.detach(), w.detach(), y, linear_bias=b.detach())
    torch.testing.assert_close(loss, expected)
    assert not loss.requires_grad


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_backward_twice_and_any_factor(reduction):
    x, w, b, y = tensors()
    loss = AF.linear_adma_loss(x, w, y, linear_bias=b, reduction=reduction).sum()
    first = torch.autograd.grad(loss, (x, w, b), retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(3 * loss, (x, w, b), retain_graph=True)
    third = torch.autograd.grad(loss * 2, (x, w, b))
    for a, s, t, g in zip(kept, second, third, first, strict=True):
        torch.testing.assert_close(s, 3 * a)
        torch.testing.assert_close(t, 2 * a)
        assert torch.equal(g, a)  # what was given away is not written to


def test_the_gradient_is_handed_over_and_not_copied(monkeypatch):
    x, w, b, y = tensors()
    made = []
    whole = linear.loss_and_gradients

    def remembered(*given):
        result = whole(*given)
        made.extend(g.data_ptr() for g in result[1])
        return result

    monkeypatch.setattr(linear, "loss_and_gradients", remembered)
    for factor in (1.0, 0.5):
        made.clear()
        x.grad = w.grad = b.grad = None
        (factor * AF.linear_adma_loss(x, w, y, linear_bias=b)).backward()
        assert [t.grad.data_ptr() for t in (x, w, b)] == made


def test_a_change_of_the_weight_between_the_passes_is_noticed():
    x, w, b, y = tensors()
    loss = AF.linear_adma_loss(x, w, y, linear_bias=b)
    with torch.no_grad():
        w.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_strides_of_any_kind():
    torch.manual_seed(0)
    x = torch.randn(H, N, dtype=torch.float64).t().requires_grad_()
    w = torch.randn(H, C, dtype=torch.float64).t().requires_grad_()
    agree(Adma(), (x, w, None), torch.randint(C, (N,)), options=LinearLossOptions(batch_chunk_size=4))
    expanded = torch.randn(1, H, dtype=torch.float64).expand(N, H).requires_grad_()
    agree(Adma(), (expanded, w, None), torch.randint(C, (N,)))


def test_tied_embeddings_get_both_gradients():
    def gradient(fused, twice=False):
        torch.manual_seed(0)
        embedding = nn.Embedding(C, H, dtype=torch.float64)
        head = adma.LinearAdmaLoss(H, C, linear_weight=embedding.weight)
        assert [n for n, _ in nn.ModuleList([embedding, head]).named_parameters()] == ["0.weight"]
        tokens = torch.randint(C, (3, 9))
        hidden, target = embedding(tokens[:, :-1]), tokens[:, 1:]
        if fused:
            loss = head(hidden, target)
        else:
            loss = AF.adma_loss(F.linear(hidden, embedding.weight).reshape(-1, C), target.reshape(-1))
        (first,) = torch.autograd.grad(loss, embedding.weight, create_graph=twice)
        return torch.autograd.grad(first.square().sum(), embedding.weight)[0] if twice else first

    torch.testing.assert_close(gradient(True), gradient(False))
    torch.testing.assert_close(gradient(True, twice=True), gradient(False, twice=True))


@dataclass(frozen=True)
class Halved(Member):
    name: ClassVar[str] = "halved"

    def psi(self, t, xp):
        return 0.5 * t

    def slope(self, t, xp):
        return 0.5 + 0.0 * xp.exp(-t)


def test_the_module():
    x, _, _, y = tensors(torch.float32)
    head = adma.LinearFlexibleLoss(H, C, "adma:a=0.3", bias=True, softcap=5.0, z_loss=0.01, weight=torch.ones(C))
    assert repr(head).startswith("LinearFlexibleLoss(\n  adma, a=0.3")
    assert head.spec == "adma:a=0.3"
    expected = plain(Adma(a=0.3), x, head.linear.weight, y, linear_bias=head.linear.bias, softcap=5.0, z_loss=0.01)
    torch.testing.assert_close(head(x, y), expected)
    torch.testing.assert_close(AF.adma_loss(head.logits(x), y, a=0.3), plain(
        Adma(a=0.3), x, head.linear.weight, y, linear_bias=head.linear.bias, softcap=5.0))  # fmt: skip
    p = head.posterior(x.reshape(1, N, H))
    assert p.shape == (1, N, C)
    torch.testing.assert_close(p[0], AF.posterior(Adma(a=0.3), head.logits(x)))
    own = adma.LinearFlexibleLoss(H, C, Halved())
    own.load_state_dict(adma.LinearCrossEntropyLoss(H, C).state_dict())
    other = adma.LinearCrossEntropyLoss(H, C, linear_weight=own.linear.weight)
    torch.testing.assert_close(2 * own(x, y), other(x, y))
    named = adma.LinearAdmaLoss(H, C, a=0.1, reduction="none", options=LinearLossOptions(batch_chunk_size=3))
    named.a = 0.2
    assert named.member == Adma(a=0.2)
    assert "a=0.2" in repr(named)
    assert "batch_chunk_size=3" in repr(named)
    assert named(x, y).shape == (N,)
    assert list(inspect.signature(adma.LinearAdmaLoss).parameters)[:2] == ["in_features", "num_classes"]
    assert "a" in inspect.signature(adma.LinearAdmaLoss).parameters
    tied = adma.LinearAdmaLoss(H, C, linear_weight=own.linear.weight, bias=True)
    assert tied.linear.bias.shape == (C,)
    assert tied.linear.bias.abs().max() <= H**-0.5


X, W, Y = torch.zeros(4, H), torch.zeros(C, H), torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"member": "adma"}, TypeError, "member must be an adma.family.Member, got str"),
        ({"input": X.long()}, TypeError, "input must be a floating-point tensor, got torch.int64"),
        ({"input": X[:, :3]}, ValueError, r"input must have shape \(7,\) or \(..., 7\).*got \(4, 3\)"),
        ({"input": X.double()}, TypeError, "linear_weight must be torch.float64 as input is, got torch.float32"),
        ({"linear_weight": W[None]}, ValueError, r"linear_weight must have shape \(classes, features\), got \(1, 11"),
        ({"linear_weight": W[:0]}, ValueError, r"linear_weight must have shape .*got \(0, 7\)"),
        ({"linear_bias": torch.zeros(3)}, ValueError, r"linear_bias must have shape \(11,\).*got \(3,\)"),
        ({"linear_bias": torch.zeros(C).half()}, TypeError, "linear_bias must be torch.float32 .*got torch.float16"),
        ({"target": [0]}, TypeError, "target must be a tensor, got list"),
        ({"target": Y[:2]}, ValueError, r"target of class indices must have .*\(4,\).*got \(2,\)"),
        ({"target": Y.int()}, TypeError, "target of class indices must be torch.int64 .*got torch.int32"),
        ({"target": Y + C}, IndexError, r"target 11 is out of range: with 11 classes"),
        ({"target": torch.zeros(4, 3)}, ValueError, r"target of probabilities must have shape \(4, 11\), got \(4, 3\)"),
        ({"target": torch.zeros(4, C).long()}, TypeError, r"target has shape \(4, 11\).*got torch.int64"),
        ({"target": torch.zeros(4, C), "ignore_index": 1}, ValueError, "ignore_index = 1 goes with class indices"),
        ({"weight": torch.ones(2)}, ValueError, r"weight must have shape \(11,\), one a class, got \(2,\)"),
        ({"weight": torch.ones(C).double()}, TypeError, "weight must be torch.float32 .*got torch.float64"),
        ({"reduction": "average"}, ValueError, "reduction 'average' is not known"),
        ({"ignore_index": 1.5}, TypeError, "ignore_index must be an int or None, got 1.5"),
        ({"label_smoothing": 2}, ValueError, r"label_smoothing must be in \[0, 1\], got 2"),
        ({"softcap": 0}, ValueError, r"softcap must be in \(0, inf\), got 0; None leaves the logits"),
        ({"z_loss": -1}, ValueError, r"z_loss must be in \[0, inf\), got -1"),
        ({"options": 5}, TypeError, "options must be adma.LinearLossOptions or None, got int"),
        ({"options": LinearLossOptions(acc_dtype=torch.float16)}, ValueError, "acc_dtype must be .*got torch.float16"),
    ],
)
def test_a_bad_call_is_told_what_would_be_right(change, kind, said):
    call = {"member": Adma(), "input": X, "linear_weight": W, "target": Y, **change}
    with pytest.raises(kind, match=said):
        AF.linear_flexible_loss(**call)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: LinearLossOptions(batch_chunk_size=0), ValueError, "batch_chunk_size must be a whole number"),
        (lambda: LinearLossOptions(batch_chunk_size=True), TypeError, "batch_chunk_size must be a whole number"),
        (lambda: LinearLossOptions(chunk_bytes=2.0), TypeError, "chunk_bytes must be a whole number"),
        (lambda: LinearLossOptions(batch_chunk_size=2, chunk_bytes=2), ValueError, "give one"),
        (lambda: LinearLossOptions(acc_dtype=torch.int8), ValueError, "acc_dtype must be torch.float32 or"),
        (lambda: LinearLossOptions(skip_ignored=1), TypeError, "skip_ignored must be True or False, got 1"),
        (lambda: adma.LinearAdmaLoss(0, 5), ValueError, "in_features must be a whole number"),
        (lambda: adma.LinearAdmaLoss(5, 5.0), TypeError, "num_classes must be a whole number"),
        (lambda: adma.LinearFlexibleLoss(5, 5, "mse"), TypeError, "member must be an adma.family.Member or the spec"),
        (lambda: adma.LinearAdmaLoss(5, 5, weight=torch.ones(4)), ValueError, r"weight must have shape \(5,\)"),
        (lambda: adma.LinearAdmaLoss(5, 5, options=4), TypeError, "options must be adma.LinearLossOptions or None"),
        (lambda: adma.LinearAdmaLoss(5, 5, linear_weight=W), TypeError, "linear_weight must be an nn.Parameter"),
        (lambda: adma.LinearAdmaLoss(5, 5, linear_weight=nn.Parameter(W)), ValueError,
         r"linear_weight must have shape \(num_classes, in_features\) = \(5, 5\), got \(11, 7\)"),
        (lambda: adma.LinearAdmaLoss(H, C, linear_weight=nn.Parameter(W), dtype=torch.float64), ValueError,
         "dtype = torch.float64 is not that of linear_weight"),
    ],
)  # fmt: skip
def test_bad_options_and_modules(make, kind, said):
    with pytest.raises(kind, match=said):
        make()


def test_a_schedule_moves_its_shape():
    head = adma.LinearAdmaLoss(H, C, normalize=True)
    x, _, _, y = tensors(torch.float32)
    shape = adma.flex.ShapeScheduler(head, total_steps=10, a="linear/0.1/0.3")
    for _ in range(10):
        shape.step()
    assert head.a == pytest.approx(0.3)
    expected = AF.adma_loss(head.logits(x), y, a=head.a, normalize=True)
    torch.testing.assert_close(head(x, y), expected)


def test_an_own_member_runs_through_the_walk_too():
    *inputs, y = tensors()
    agree(Halved(), inputs, y, options=LinearLossOptions(batch_chunk_size=4))


PEAKS = """
import re, torch
import torch.nn.functional as F
import adma
from adma import functional as AF

def status(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

n, h, c = 1024, 64, 32000  # logits of 125 MiB
x, w = torch.randn(n, h, requires_grad=True), torch.randn(c, h, requires_grad=True)
y = torch.randint(c, (n,))
AF.linear_adma_loss(x[:2], w[:3], y[:2] % 3).backward()  # libraries are loaded
AF.adma_loss(F.linear(x[:2], w[:3]), y[:2] % 3).backward()
x.grad = w.grad = None
before = status("VmRSS")
options = adma.LinearLossOptions(chunk_bytes=8 << 20)
with torch.no_grad():
    AF.linear_adma_loss(x, w, y, options=options)
print(status("VmHWM") - before)
AF.linear_adma_loss(x, w, y, options=options).backward()
print(status("VmHWM") - before)
x.grad = w.grad = None
AF.adma_loss(F.linear(x, w), y).backward()
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_the_logits_are_never_whole():
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, timeout=200, check=True)
    loss, fused, separate = map(float, done.stdout.split())  # MiB, each peak above those before it
    gradients = (1024 * 64 + 32000 * 64) * 4 / 2**20
    assert loss < 40
    assert fused < gradients + 40
    assert separate > gradients + 200  # what is measured is seen
