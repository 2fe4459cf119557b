"""One logit a label: against the float64 reference, against torch's BCEWithLogitsLoss, against two-class softmax."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import adma
import exact
from adma import functional
from adma import numpy as reference


def draw(*shape, scale=4.0):
    rng = np.random.default_rng(0)
    return rng.normal(scale=scale, size=shape), rng.random(shape)


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_reference(member, labels):
    z, y = draw(6, 4)
    y = (y > 0.5).astype(float) if labels == "hard" else y
    rng = np.random.default_rng(1)
    for shape, pos_shape in (((), ()), ((4,), (4,)), ((6, 1), (6, 4)), ((6, 4), (1, 4))):
        weight, pos_weight = rng.uniform(0.2, 3, shape), rng.uniform(0.2, 3, pos_shape)
        for options in (
            {},
            {"weight": weight},
            {"pos_weight": pos_weight},
            {"weight": weight, "pos_weight": pos_weight},
        ):
            tensors = {k: torch.tensor(v) for k, v in options.items()}
            x = torch.tensor(z, requires_grad=True)
            for reduction in ("none", "mean", "sum"):
                value = functional.binary_flexible_loss(member, x, torch.tensor(y), reduction=reduction, **tensors)
                true = reference.binary_loss(member, z, y, reduction=reduction, **options)
                np.testing.assert_allclose(value.detach().numpy(), true, rtol=1e-11)
            (gradient,) = torch.autograd.grad(value, x)
            true = reference.binary_gradient(member, z, y, **options)
            np.testing.assert_allclose(gradient.numpy(), true, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_is_torchs(dtype, shape, reduction):
    generator = torch.Generator().manual_seed(0)
    z = 5 * torch.randn(shape, generator=generator, dtype=dtype)
    y = torch.rand(shape, generator=generator, dtype=dtype)
    factors = [None, torch.rand(shape, generator=generator, dtype=dtype)]
    if shape:
        factors += [torch.rand(shape[-1], generator=generator, dtype=dtype), torch.rand(1, dtype=dtype)]
    for weight in factors:
        for pos_weight in factors:
            a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
            ours = adma.BinaryCrossEntropyLoss(weight, reduction=reduction, pos_weight=pos_weight)(a, y)
            theirs = nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=pos_weight)(b, y)
            torch.testing.assert_close(ours, theirs)
            torch.testing.assert_close(torch.autograd.grad(ours.sum(), a), torch.autograd.grad(theirs.sum(), b))


def test_gradients_of_the_labels_are_torchs():
    z, y = (torch.tensor(x, requires_grad=True) for x in draw(5, 3))
    weight, pos_weight = (torch.tensor(x) for x in (draw(3)[1], draw(5, 1)[1]))
    ours = functional.binary_cross_entropy(z, y, weight, pos_weight=pos_weight)
    theirs = F.binary_cross_entropy_with_logits(z, y, weight, pos_weight=pos_weight)
    torch.testing.assert_close(torch.autograd.grad(ours, (z, y)), torch.autograd.grad(theirs, (z, y)))


def test_gradients_of_the_weights():
    """Which torch refuses."""
    z, y = (torch.tensor(x) for x in draw(5, 3))
    weight, pos_weight = (torch.tensor(x, requires_grad=True) for x in (draw(3)[1], draw(5, 1)[1]))
    assert torch.autograd.gradcheck(
        lambda w, p: functional.binary_adma_loss(z, y, w, pos_weight=p), (weight, pos_weight)
    )


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_hostile_logits(member, dtype):
    z = torch.tensor([3e38, -3e38, 1e30, -1e30, 1e4, -1e4, 89.0, -89.0, 0.0, -0.0, 1e-40, -1e-40], dtype=dtype)
    z.requires_grad_()
    for label in (0.0, 1.0, 0.5):
        rows = functional.binary_flexible_loss(member, z, torch.full_like(z, label).detach(), reduction="none")
        (gradient,) = torch.autograd.grad(rows.sum(), z)
        assert gradient.isfinite().all()
        assert not rows.isnan().any()
        assert (rows >= 0).all()
        if np.isfinite(member.supremum):
            assert rows.isfinite().all()
            assert (rows.double() <= member.supremum * (1 + torch.finfo(dtype).eps)).all()


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_a_hard_label_is_a_softmax_of_two(member):
    z, y = (torch.tensor(x) for x in draw(200, scale=20.0))
    y = (y > 0.5).long()
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    binary = functional.binary_flexible_loss(member, a, y.double(), reduction="none")
    two = functional.flexible_loss(member, torch.stack([torch.zeros_like(b), b], 1), y, reduction="none")
    torch.testing.assert_close(binary, two, rtol=1e-12, atol=0)
    (ga,), (gb,) = torch.autograd.grad(binary.sum(), a), torch.autograd.grad(two.sum(), b)
    torch.testing.assert_close(ga, gb, rtol=1e-11, atol=0)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_derivatives(member):
    z, y = (torch.tensor(x) for x in draw(6))

    def loss(x):
        return functional.binary_flexible_loss(member, x, y, reduction="none")

    z.requires_grad_()
    assert torch.autograd.gradcheck(loss, z, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, z, check_batched_grad=True)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_a_nan_stays_in_its_label(member):
    z = torch.tensor([0.5, float("nan"), -1.0], requires_grad=True)
    rows = functional.binary_flexible_loss(member, z, torch.tensor([1.0, 0.0, 0.0]), reduction="none")
    (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
    assert rows.isnan().tolist() == gradient.isnan().tolist() == [False, True, False]
