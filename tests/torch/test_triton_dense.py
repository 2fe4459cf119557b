"""The GPU kernel for targets that give every class a weight, in Triton's interpreter, held to the composed operators.

The interpreter is chosen when Triton is imported, so these tests run in a process of their own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import adma
from adma.torch.kernels import dense
from adma.torch.kernels import triton as kernels
from adma.torch.kernels.program import program_of

INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: the GPU kernel is not tested"
)
inside = pytest.mark.skipif(not INSIDE, reason="runs in the interpreter's own process, by test_in_the_interpreter")

SPECS = ["cce", "adma:a=0.26", "gce:q=0.7", "mae", "focal:gamma=2", "poly1:epsilon=-1", "taylor:order=6", "agce"]


def test_in_the_interpreter():
    if INSIDE:
        pytest.skip("this is the interpreter")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "ignore", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def inputs(shape, dtype, spread=5.0):
    torch.manual_seed(0)
    n, c, m = shape
    z = (torch.randn(shape, dtype=torch.float64) * spread).to(dtype)
    target = torch.randint(c, (n, m))
    soft = torch.rand(shape, dtype=torch.float64).to(dtype)
    soft[:, 1::3] = 0
    scale = torch.rand(n, m, dtype=torch.float64) + 0.1
    scale.view(-1)[1::3] = 0
    return z, target, soft, scale


def compare(z, target, scale, spec, smoothing=0.1, weight=None, block=None):
    member = adma.make_loss(spec).member
    x = z.double().requires_grad_()
    y = target.double() if target.is_floating_point() else target
    shares = dense.Shares(smoothing, None if weight is None else weight.double())
    expected = dense.composed(member, shares)(x, y)
    expected = torch.where(scale != 0, expected, 0.0)
    (slopes,) = torch.autograd.grad((expected * scale).sum(), x)
    program = program_of(member)
    rows, gradient = kernels.dense_rows(z, target, program, scale, smoothing, weight, block=block)
    assert rows.dtype == torch.float64
    assert gradient.dtype == z.dtype
    eps = torch.finfo(z.dtype).eps
    half = z.element_size() == 2
    torch.testing.assert_close(rows, expected.detach(), rtol=2e-5 if half else 1e-12, atol=1e-6 if half else 0)
    torch.testing.assert_close(gradient.double(), slopes, rtol=max(1e-11, eps), atol=1e-6 if half else 1e-13)
    alone, none = kernels.dense_rows(z, target, program, scale, smoothing, weight, backward=False, block=block)
    assert none is None
    assert torch.equal(alone, rows)
    place = torch.empty_strided(z.shape, z.stride(), dtype=z.dtype).copy_(z)
    _, back = kernels.dense_rows(place, target, program, scale, smoothing, weight, out=place, block=block)
    assert back is place
    assert torch.equal(place, gradient)


@inside
@pytest.mark.parametrize("spec", SPECS)
def test_every_member(spec):
    z, target, soft, scale = inputs((4, 7, 1), torch.float32)
    compare(z, target, scale, spec)
    compare(z, soft, scale, spec, smoothing=0.0)


@inside
@pytest.mark.parametrize(
    ("dtype", "block"), [(torch.float64, 4), (torch.float32, None), (torch.bfloat16, 4), (torch.float16, None)]
)
def test_every_type_and_more_classes_than_a_step(dtype, block):
    z, target, soft, scale = inputs((1, 9, 2), dtype)
    weight = torch.rand(9).to(dtype)
    weight[2] = 0
    compare(z, target, scale, "adma:a=0.26", block=block)
    compare(z, target, scale, "adma:a=0.26", smoothing=1.0, weight=weight, block=block)
    compare(z, soft, scale, "cce", smoothing=0.2, weight=weight, block=block)


@inside
def test_any_strides():
    z, target, soft, scale = inputs((2, 9, 3), torch.float32)
    spread = torch.full((2, 3, 2, 12), float("nan")).permute(0, 3, 2, 1)[:, :9, 1, :]
    spread.copy_(z)
    compare(spread, target.t().contiguous().t(), scale[:1, :1].expand(2, 3), "gce:q=0.7")
    compare(spread, soft.permute(2, 1, 0).contiguous().permute(2, 1, 0), scale, "gce:q=0.7")


@inside
@pytest.mark.parametrize("shape", [(3, 1, 1), (0, 4, 1), (2, 4, 0)])
def test_shapes(shape):
    z, target, soft, scale = inputs(shape, torch.float32)
    compare(z, target, scale, "focal:gamma=2")
    compare(z, soft, scale, "focal:gamma=2")


@inside
@pytest.mark.parametrize("block", [None, 2])
def test_rows_that_do_not_count_masked_classes_and_no_class(block):
    nan, inf = float("nan"), float("inf")
    z = torch.tensor([[1.0, -inf, 0.5, 80.0], [nan, inf, 0.0, nan], [-inf, 0.0, -inf, -inf], [0.0, 1.0, 2.0, 3.0]])
    z = z.unsqueeze(2)
    target, scale = torch.tensor([[0], [1], [1], [4]]), torch.tensor([[1.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    member = adma.make_loss("adma:a=0.5").member
    rows, gradient = kernels.dense_rows(z, target, program_of(member), scale, 0.2, None, block=block)
    assert rows[1, 0] == 0
    assert not gradient[1].any()
    assert torch.isfinite(gradient[[0, 2]]).all()
    torch.testing.assert_close(rows[2, 0].item(), 0.15 * member.supremum)
    assert rows[3].isnan().all()
    assert gradient[3].isnan().all()
    rows, _ = kernels.dense_rows(z, target, program_of(adma.make_loss("cce").member), scale, 0.2, None, block=block)
    assert rows[0, 0] == inf


@inside
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_way_of_a_call_on_a_gpu(soft, inplace, monkeypatch):
    """What the engine calls there, on tensors of the CPU."""
    monkeypatch.setattr(dense, "_on_device", lambda z: True)
    z, target, probabilities, scale = inputs((3, 5, 2), torch.float64)
    y = probabilities if soft else target
    member, shares = adma.make_loss("adma:a=0.26").member, dense.Shares(0.1, torch.rand(5, dtype=torch.float64))
    x = z.clone().requires_grad_()
    rows = torch.where(scale != 0, dense.composed(member, shares)(x, y), 0.0)
    expected = (rows * scale).sum()
    (slopes,) = torch.autograd.grad(3 * expected, x)

    def leaf():
        first = z.clone().requires_grad_()
        return first, first * 1.0

    x, held = leaf()
    total = dense.reduced(held, y, member, shares, scale, torch.float64, inplace=inplace)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * total, x)[0], slopes)
    x, held = leaf()
    found = dense.index_or_soft_rows(held, y, member, shares, scale != 0, inplace=inplace)
    torch.testing.assert_close(found, rows)
    torch.testing.assert_close(torch.autograd.grad(found, x, 3 * scale)[0], slopes)
    with torch.no_grad():
        torch.testing.assert_close(dense.reduced(z, y, member, shares, scale, torch.float64), expected.detach())
        even = dense.reduced(z, y, member, shares, 0.5, torch.float64)
        torch.testing.assert_close(even, 0.5 * dense.composed(member, shares)(z, y).sum())
    if not inplace:
        x, held = leaf()
        total = dense.reduced(held, y, member, shares, scale, torch.float64)
        (first,) = torch.autograd.grad(total, x, create_graph=True)
        torch.testing.assert_close(3 * first, slopes)
        assert torch.autograd.grad(first.square().sum(), x)[0].any()
