"""Loss and gradient in one walk: the same numbers as the two-pass engine with autograd."""

from __future__ import annotations

import pytest
import torch

import adma
from adma.torch.kernels import eager

SPECS = ["cce", "adma:a=0.26", "gce:q=0.7", "focal:gamma=2", "poly1", "taylor:order=4"]
SHAPES = [(7, 5, 1), (3, 1, 1), (64, 10, 1), (2, 19, 33), (300, 1000, 1), (0, 4, 1)]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_agrees_with_autograd(spec, shape, dtype):
    member = adma.make_loss(spec).member
    torch.manual_seed(0)
    n, c, m = shape
    z = (torch.randn(shape, dtype=torch.float64) * 5).to(dtype)
    target = torch.randint(c, (n, m))
    scale = torch.randn(n, m, dtype=torch.float64).relu()  # half of the rows count nothing
    leaf = z.clone().requires_grad_()
    expected = eager.index_rows(leaf, target, member, scale != 0)
    (expected * scale).sum().backward()

    rows, gradient = eager.rows_and_gradient(z, target, member, scale)
    rtol = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(rows, expected.detach(), rtol=rtol, atol=0)
    torch.testing.assert_close(gradient, leaf.grad, rtol=8e-3 if dtype == torch.bfloat16 else rtol, atol=1e-30)

    again, same = eager.rows_and_gradient(z, target, member, scale, out=z)
    assert same is z
    assert torch.equal(again, rows)
    assert torch.equal(z, gradient)


def test_masked_classes_and_rows_that_do_not_count():
    z = torch.tensor([[1.0, float("-inf"), 0.5], [float("nan"), float("inf"), 0.0]]).unsqueeze(2)
    target, scale = torch.tensor([[0], [0]]), torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    rows, gradient = eager.rows_and_gradient(z, target, adma.make_loss("adma").member, scale)
    assert rows[1, 0] == 0
    assert torch.equal(gradient[1], torch.zeros(3, 1))
    assert gradient[0, 1, 0] == 0
    assert torch.isfinite(gradient).all()
