"""The GPU kernel on a GPU: against composed operators in float64 there, at real sizes."""

from __future__ import annotations

import pytest
import torch

import adma
from adma.torch.kernels import eager, operators
from adma.torch.kernels import triton as kernels
from adma.torch.kernels.program import program_of
from adma.torch.kernels.triton import Plan

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or bool(kernels.why_not(torch.device("cuda"))),
    reason="no GPU that Triton serves: the GPU kernel is not tested",
)

SPECS = ["cce", "adma:a=0.26", "gce:q=0.7", "mae", "focal:gamma=2", "poly1:epsilon=-1", "taylor:order=6", "agce", "aue"]
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def inputs(shape, dtype, spread=5.0):
    generator = torch.Generator("cuda").manual_seed(0)
    n, c, m = shape
    z = (torch.randn(shape, dtype=torch.float32, device="cuda", generator=generator) * spread).to(dtype)
    target = torch.randint(c, (n, m), device="cuda", generator=generator)
    scale = torch.rand(n, m, dtype=torch.float64, device="cuda", generator=generator) + 0.1
    scale.view(-1)[1::5] = 0
    return z, target, scale


def compare(z, target, scale, spec, plan=None):
    member = adma.make_loss(spec).member
    program = program_of(member)
    rows, gradient = eager.rows_and_gradient(z.double(), target, member, scale)
    found, slope = kernels.rows_and_gradient(z, target, program, scale, plan=plan)
    half = z.element_size() == 2
    # a half type's rows are computed in float32, 5e-6 at the far end; exp(-80) needs more bits than bfloat16 has
    rtol = {torch.float64: 1e-12, torch.float32: 1e-6}.get(z.dtype, 2e-5)
    torch.testing.assert_close(found, rows, rtol=rtol, atol=0)
    atol = 1e-7 if z.dtype == torch.float16 else 1e-37
    torch.testing.assert_close(slope.double(), gradient, rtol=8e-3 if half else rtol, atol=atol)
    losses, saved = kernels.rows(z, target, program, scale != 0, plan=plan)
    torch.testing.assert_close(losses, found, rtol=rtol, atol=0)
    again = kernels.gradient(z, target, saved, program, scale, plan=plan)
    torch.testing.assert_close(again, slope, rtol=1.6e-2 if half else rtol, atol=atol)
    place = torch.empty_strided(z.shape, z.stride(), dtype=z.dtype, device=z.device).copy_(z)
    kernels.rows_and_gradient(place, target, program, scale, out=place, plan=plan)
    assert torch.equal(place, slope)


@pytest.mark.parametrize("spec", SPECS)
def test_every_member(spec):
    compare(*inputs((300, 1000, 1), torch.float32), spec)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "shape",
    [(1000, 10, 1), (7, 1, 1), (512, 1000, 1), (200, 5000, 1), (128, 32000, 1), (32, 50257, 1), (16, 128256, 1),
     (8, 262144, 1), (2, 19, 4096), (2, 300, 100)],
    ids=str,
)  # fmt: skip
def test_shapes(shape, dtype):
    compare(*inputs(shape, dtype), "adma:a=0.26")


def test_far_logits():
    compare(*inputs((64, 1000, 1), torch.float32, spread=30.0), "gce:q=0.7")


def test_any_strides():
    z, target, scale = inputs((6, 500, 24), torch.float32)
    compare(z.transpose(1, 2).contiguous().transpose(1, 2), target, scale, "focal:gamma=2")
    spread = torch.zeros(6, 24, 1100, device="cuda").permute(0, 2, 1)[:, ::2][:, :500]
    compare(spread.copy_(z), target, scale[:1].expand_as(scale), "focal:gamma=2")


def test_more_than_two_to_the_31_logits():
    z, target, scale = inputs((17_000, 128_256, 1), torch.bfloat16)
    assert z.numel() > 2**31
    member = adma.make_loss("adma:a=0.26").member
    rows, gradient = kernels.rows_and_gradient(z, target, program_of(member), scale)
    exact, slope = eager.rows_and_gradient(z[-8:].double(), target[-8:], member, scale[-8:])
    torch.testing.assert_close(rows[-8:], exact, rtol=2e-5, atol=0)
    torch.testing.assert_close(gradient[-8:].double(), slope, rtol=8e-3, atol=1e-37)


def test_rows_that_do_not_count_are_not_looked_at():
    z, target, scale = inputs((64, 20000, 1), torch.bfloat16)
    z[1::5] = float("nan")
    rows, gradient = kernels.rows_and_gradient(z, target, program_of(adma.make_loss("cce").member), scale)
    assert torch.isfinite(rows).all()
    assert torch.isfinite(gradient).all()
    assert not gradient[1::5].any()


def test_nothing_waits_for_the_device():
    z, target, scale = inputs((64, 1000, 1), torch.float32)
    program = program_of(adma.make_loss("adma:a=0.2").member)
    operators.loss_and_gradient(z.clone().requires_grad_(), target, scale, program.text, list(program.constants))[
        0
    ].backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for a in (0.21, 0.22):  # parameters not seen before
            program = program_of(adma.make_loss(f"adma:a={a}").member)
            kernels.rows_and_gradient(z, target, program, scale)
            leaf = z.detach().requires_grad_()
            loss, _ = operators.loss_and_gradient(leaf, target, scale, program.text, list(program.constants))
            (3.0 * loss).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("shape", [(256, 1000, 1), (16, 50000, 1)])
def test_is_captured_in_a_graph(shape):
    z, target, scale = inputs(shape, torch.bfloat16)
    program = program_of(adma.make_loss("adma:a=0.26").member)
    out = torch.empty_like(z)
    kernels.rows_and_gradient(z, target, program, scale, out=out)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        rows, _ = kernels.rows_and_gradient(z, target, program, scale, out=out)
    z.copy_(z.flip(0))
    graph.replay()
    found, gradient = kernels.rows_and_gradient(z, target, program, scale)
    assert torch.equal(rows, found)
    assert torch.equal(out, gradient)


def test_the_same_call_gives_the_same_bits():
    z, target, scale = inputs((64, 60000, 1), torch.float32)
    program = program_of(adma.make_loss("adma:a=0.26").member)
    one, two = (kernels.rows_and_gradient(z, target, program, scale) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_gradient_is_scaled_by_what_only_the_device_knows(dtype):
    values = torch.randn(10_007, device="cuda").to(dtype)
    before = values.clone()
    assert torch.equal(kernels.scale_(values, torch.ones((), dtype=torch.float64, device="cuda")), before)
    kernels.scale_(values, torch.tensor(0.37, dtype=torch.float64, device="cuda"))
    torch.testing.assert_close(
        values, (before.double() * 0.37).to(dtype), rtol=1e-2 if dtype.itemsize == 2 else 1e-6, atol=0
    )


@pytest.mark.parametrize("spec", ["cce", "adma:a=0.26", "focal:gamma=2"])
@pytest.mark.parametrize(
    ("shape", "dtype", "plan"),
    [
        ((700, 128256, 1), torch.bfloat16, Plan(False, 1024, 8, 4, resident=3, shared=True)),
        ((700, 128256, 1), torch.float16, Plan(False, 512, 8, 4, resident=4, shared=True)),
        ((300, 32000, 1), torch.float32, Plan(False, 1024, 4, 4, resident=3, shared=True)),
        ((3, 50257, 1), torch.float32, Plan(False, 1024, 4, 4, resident=3, shared=True)),
    ],
    ids=str,
)
def test_programs_that_share_a_row(shape, dtype, plan, spec):
    z, target, scale = inputs(shape, dtype)
    member = adma.make_loss(spec).member
    for _ in range(3):  # whoever comes first
        rows, gradient = kernels.rows_and_gradient(z, target, program_of(member), scale, plan=plan)
    half = z.element_size() == 2
    for a, b, c, found, slope in zip(
        z.split(50), target.split(50), scale.split(50), rows.split(50), gradient.split(50), strict=True
    ):
        expected, exact = eager.rows_and_gradient(a.double(), b, member, c)
        torch.testing.assert_close(found, expected, rtol=2e-5 if half else 1e-6, atol=0)
        atol = 1e-7 if dtype == torch.float16 else 1e-37
        torch.testing.assert_close(slope.double(), exact, rtol=8e-3 if half else 1e-6, atol=atol)
    place = z.clone()
    kernels.rows_and_gradient(place, target, program_of(member), scale, out=place, plan=plan)
    assert torch.equal(place, gradient)
