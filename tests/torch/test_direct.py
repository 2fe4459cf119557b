"""The most usual call goes the shortest way (`fused.direct`): held to the long way, which every other call goes."""

import pytest
import torch

import adma
from adma import functional
from adma.torch.kernels import fused
from adma.torch.kernels.native import library

pytestmark = pytest.mark.skipif(isinstance(library.load(), str), reason="there is no compiled kernel")


def logits(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(4).to(dtype)


def indices(z):
    shape = (z.shape[0], *z.shape[2:])
    return torch.randint(z.shape[1], shape, generator=torch.Generator().manual_seed(1))


LAYOUTS = {
    "few classes": logits(70, 10),
    "many classes": logits(70, 300),
    "one class": logits(4, 1),
    "images": logits(2, 5, 4, 6),
    "rows apart": logits(20, 7)[::2],
    "columns apart": logits(20, 14)[:, ::2],
    "transposed": logits(7, 20).t(),
    "one row expanded": logits(1, 7).expand(9, 7),
}


@pytest.fixture
def taken(monkeypatch):
    """Whether each call went the short way."""
    found = []

    def direct(*arguments, **options):
        value = original(*arguments, **options)
        found.append(value is not None)
        return value

    original = fused.direct
    monkeypatch.setattr(fused, "direct", direct)
    return found


def both(monkeypatch, call, z):
    """Value and gradient, the short way and the long way."""
    with monkeypatch.context() as patch:
        results = []
        for _ in range(2):
            x = z.detach().requires_grad_()
            value = call(x)
            results.append((value.detach(), *torch.autograd.grad(value * 1.0, x)))
            patch.setattr(fused, "direct", lambda *_, **__: None)
    return results


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignoring", ["none", "some", "all"])
def test_both_ways_give_the_same_bits(layout, dtype, reduction, ignoring, monkeypatch, taken):
    z, y = LAYOUTS[layout].to(dtype), indices(LAYOUTS[layout])
    if ignoring != "none":
        y[: 2 if ignoring == "some" else None] = 3 if ignoring == "some" else -100  # a class, or none
    ignore_index = 3 if ignoring == "some" else -100
    loss_fn = adma.FocalLoss(reduction=reduction, ignore_index=ignore_index)
    (value, gradient), (other, expected) = both(monkeypatch, lambda x: loss_fn(x, y), z)
    assert taken == [True]
    assert value.dtype == dtype
    assert torch.equal(value, other)
    assert torch.equal(gradient, expected)
    assert gradient.stride() == expected.stride()
    with torch.no_grad():
        assert torch.equal(loss_fn(z, y), value)


def test_a_factor_a_second_pass_and_the_curvature():
    z, y = logits(6, 4, dtype=torch.float64), torch.tensor([0, 1, -100, 3, 0, 1])

    def loss(x):
        return functional.adma_loss(x, y, a=0.3)

    def composed(x):  # a weight of ones is computed the long way
        return functional.adma_loss(x, y, torch.ones(4, dtype=torch.float64), a=0.3, reduction="none").sum() / 5

    x = z.clone().requires_grad_()
    value = loss(x)
    (expected,) = torch.autograd.grad(composed(x), x)
    for factor in (1.0, 3.0, 0.5):  # the first spends what was kept
        (found,) = torch.autograd.grad(value * factor, x, retain_graph=True)
        torch.testing.assert_close(found, factor * expected, rtol=1e-13, atol=0)
    hessian = torch.autograd.functional.hessian
    torch.testing.assert_close(hessian(loss, z), hessian(composed, z), rtol=1e-10, atol=1e-14)
    assert torch.autograd.gradcheck(loss, z.requires_grad_(), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, z)


def test_a_bfloat16_gradient_is_rounded_once():
    z, y = logits(50, 20, dtype=torch.bfloat16), indices(logits(50, 20))
    for factor in (3.0, 0.25):
        x, exact = z.clone().requires_grad_(), z.double().requires_grad_()
        (functional.focal_loss(x, y).double() * factor).backward()
        (functional.focal_loss(exact, y) * factor).backward()
        torch.testing.assert_close(x.grad, exact.grad.to(torch.bfloat16), rtol=0, atol=0)


def test_a_wrong_target_is_refused_and_nothing_is_written():
    x = logits(6, 4).requires_grad_() * 1.0
    before = x.detach().clone()
    for wrong in (4, -1, -101, 2**40):
        y = torch.tensor([0, 1, -100, 3, 0, wrong])
        with pytest.raises(IndexError, match=f"target {wrong} is out of range"):
            functional.adma_loss(x, y, inplace=True)
        assert torch.equal(x, before)
    with pytest.raises(TypeError, match="label_smoothing"):
        functional.adma_loss(x, indices(x), label_smoothing=False)
    with pytest.raises(TypeError, match="ignore_index"):
        functional.adma_loss(x, indices(x), ignore_index=True)


def test_in_place(taken):
    y = indices(logits(9, 5))
    expected = logits(9, 5).requires_grad_()
    functional.adma_loss(expected, y).backward()
    x = logits(9, 5).requires_grad_()
    z = x * 1.0
    version = z._version
    value = functional.adma_loss(z, y, inplace=True)
    assert taken == [True, True]
    assert z._version == version + 1
    assert torch.equal(z.detach(), expected.grad)
    value.backward(retain_graph=True)
    assert torch.equal(x.grad, expected.grad)
    with pytest.raises(RuntimeError, match="once only"):
        value.backward()
    needed = torch.tanh(x)  # whose own backward pass needs what is destroyed
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        functional.adma_loss(needed, y, inplace=True).backward()


def test_the_long_way_is_left_to_the_others(taken):
    z, y = logits(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    share = torch.full((6, 4), 0.25)
    loss = functional.adma_loss
    for call in (
        lambda: loss(z, y.byte()),
        lambda: loss(z, share),
        lambda: loss(z[0], y[0]),
        lambda: loss(z.half(), y),
        lambda: loss(z[:0], y[:0]),
        lambda: torch.func.grad(lambda x: loss(x, y))(z),
        lambda: torch.func.vmap(lambda x: loss(x, y))(z.expand(2, 6, 4)),
    ):
        call()
    with pytest.raises(ValueError, match="leaf"):
        loss(z.clone().requires_grad_(), y, inplace=True)
    with torch.autograd.forward_ad.dual_level():
        loss(z, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(z.bfloat16(), y).dtype == torch.float32
    assert len(taken) == 10
    assert not any(taken)


def test_a_default_device_is_not_where_the_loss_lies(taken):
    y = indices(LAYOUTS["few classes"])
    with torch.device("meta"):
        assert functional.adma_loss(LAYOUTS["few classes"], y).device.type == "cpu"
    assert taken == [True]
