"""The GPU kernel's logic in Triton's interpreter, on CPU tensors: the eager engine's numbers, member by member.

The interpreter is chosen when Triton is imported, so these tests run in a process of their own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import adma
from adma.torch.kernels import eager
from adma.torch.kernels import triton as kernels
from adma.torch.kernels.program import program_of
from adma.torch.kernels.triton import Plan

INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: the GPU kernel is not tested"
)
inside = pytest.mark.skipif(not INSIDE, reason="runs in the interpreter's own process, by test_in_the_interpreter")

SPECS = [
    "cce", "adma:a=0.26", "adma:a=0.01,base=20", "adma:a=0.4,normalize=true", "gce:q=0.7", "mae", "focal:gamma=2",
    "focal:gamma=0", "poly1:epsilon=-1", "poly1:epsilon=3", "taylor:order=1", "taylor:order=6", "agce", "aue", "aexp",
]  # fmt: skip
PLANS = {
    "default": None,
    "one row, held": Plan(False, 2, 4, 1, hold=8),
    "one row, two walks": Plan(False, 2, 4, 1),
    "one row, held in part": Plan(False, 1, 4, 1, hold=2),
    "rows side by side, two walks": Plan(True, 4, 4, 1),
    "persistent": Plan(False, 2, 4, 1, resident=2),
}


def test_in_the_interpreter():
    if INSIDE:
        pytest.skip("this is the interpreter")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "ignore", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.fixture(autouse=True)
def every_access_lies_in_a_tensor(monkeypatch):
    """The interpreter reads and writes whatever address it is told; a GPU does not."""
    if not INSIDE:
        return
    from triton.runtime import interpreter

    known = []
    begin = interpreter.GridExecutor._init_args_hst

    def note(self, args, kwargs):
        storages = [a.untyped_storage() for a in args if isinstance(a, torch.Tensor)]
        known[:] = [(s.data_ptr(), s.data_ptr() + s.nbytes()) for s in storages]
        return begin(self, args, kwargs)

    def checked(method):
        def call(self, pointers, *rest):
            mask = next((r for r in rest if getattr(getattr(r, "data", None), "dtype", "") == np.bool_), None)
            places = pointers.data if mask is None else pointers.data[np.broadcast_to(mask.data, pointers.data.shape)]
            size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
            inside = np.zeros(np.shape(places), bool)
            for low, high in known:
                if "load" in method.__name__:  # whole vectors of 16 bytes, of which a part is in the tensor
                    low, high = low // 16 * 16, -(-high // 16) * 16
                inside |= (places >= low) & (places + size <= high)
            assert inside.all(), f"{method.__name__}: {int((~inside).sum())} addresses lie in no tensor"
            return method(self, pointers, *rest)

        return call

    builder = interpreter.InterpreterBuilder
    monkeypatch.setattr(interpreter.GridExecutor, "_init_args_hst", note)
    for name in ("create_masked_load", "create_masked_store"):
        monkeypatch.setattr(builder, name, checked(getattr(builder, name)))


def inputs(shape, dtype, spread=5.0):
    torch.manual_seed(0)
    n, c, m = shape
    z = (torch.randn(shape, dtype=torch.float64) * spread).to(dtype)
    target = torch.randint(c, (n, m))
    scale = torch.rand(n, m, dtype=torch.float64) + 0.1
    scale.view(-1)[1::3] = 0
    return z, target, scale


def compare(z, target, scale, spec, plan=None):
    member = adma.make_loss(spec).member
    program = program_of(member)
    rows, gradient = eager.rows_and_gradient(z, target, member, scale)
    found, slope = kernels.rows_and_gradient(z, target, program, scale, plan=plan)
    assert found.dtype == torch.float64
    assert slope.dtype == z.dtype
    rtol = {torch.float64: 1e-12, torch.float32: 1e-6}.get(z.dtype, 2e-5)
    torch.testing.assert_close(found, rows, rtol=rtol, atol=0)
    torch.testing.assert_close(slope, gradient, rtol=max(rtol, 1e-2 * (z.element_size() == 2)), atol=1e-30)

    losses, saved = kernels.rows(z, target, program, scale != 0, plan=plan)
    torch.testing.assert_close(losses, found, rtol=1e-12, atol=0)
    again = kernels.gradient(z, target, saved, program, scale, plan=plan)
    torch.testing.assert_close(again, slope, rtol=max(rtol, 1e-2 * (z.element_size() == 2)), atol=1e-30)

    place = torch.empty_strided(z.shape, z.stride(), dtype=z.dtype, device=z.device).copy_(z)
    same, back = kernels.rows_and_gradient(place, target, program, scale, out=place, plan=plan)
    assert back is place
    assert torch.equal(same, found)
    assert torch.equal(place, slope)


@inside
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_generated_function_is_the_member(dtype):
    import triton
    import triton.language as tl

    from adma.torch.kernels import triton_program

    t = np.concatenate([[0.0], np.logspace(-300, -5, 250), np.logspace(-4, 4, 260), [np.inf]])

    def evaluate(t_at, psi_at, slope_at, constants, PSI_SLOPE: tl.constexpr, COUNT: tl.constexpr):
        at = tl.arange(0, COUNT)
        psi, slope = PSI_SLOPE(tl.load(t_at + at), constants)
        tl.store(psi_at + at, psi)
        tl.store(slope_at + at, slope)

    kernel = triton.jit(evaluate)
    kernel.fn.__globals__["tl"] = tl  # the interpreter looks names up where the kernel's module keeps them
    points = torch.tensor(t).to(dtype)
    for spec in SPECS:
        member = adma.make_loss(spec).member
        program = program_of(member)
        psi, slope = torch.empty_like(points), torch.empty_like(points)
        kernel[(1,)](
            points, psi, slope, triton_program.arguments(program.constants), triton_program.function(program), t.size
        )
        with np.errstate(all="ignore"):
            exact = member.psi(points.double().numpy(), np), member.slope(points.double().numpy(), np)
        rtol, atol = (1e-12, 1e-300) if dtype == torch.float64 else (2e-5, 1e-37)
        np.testing.assert_allclose(psi.double().numpy(), exact[0], rtol=rtol, atol=atol, err_msg=spec)
        np.testing.assert_allclose(slope.double().numpy(), exact[1], rtol=rtol, atol=atol, err_msg=spec)


@inside
@pytest.mark.parametrize("spec", SPECS)
def test_every_member(spec):
    compare(*inputs((5, 7, 1), torch.float32), spec)


@inside
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_plan_and_type(name, dtype):
    if dtype == torch.bfloat16:
        from triton.runtime.interpreter import InterpreterBuilder

        if not hasattr(InterpreterBuilder, "get_bf16"):
            pytest.skip("the interpreter of this Triton has no constants in bfloat16: NOT TESTED")
    compare(*inputs((2, 13, 1), dtype), "adma:a=0.26", PLANS[name])


@inside
def test_float16():
    compare(*inputs((3, 13, 1), torch.float16), "adma:a=0.26")


@inside
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 40, 1), (2, 5, 3), (2, 21, 6), (0, 4, 1), (2, 4, 0)])
def test_shapes(shape):
    compare(*inputs(shape, torch.float32), "focal:gamma=2")


@inside
@pytest.mark.parametrize("name", ["default", "rows side by side, two walks", "one row, two walks"])
def test_any_strides(name):
    z, target, scale = inputs((2, 9, 3), torch.float32)
    spread = torch.full((2, 3, 2, 12), float("nan")).permute(0, 3, 2, 1)[:, :9, 1, :]
    spread.copy_(z)
    assert spread.stride() != z.stride()
    compare(spread, target.t().contiguous().t(), scale[:1, :1].expand(2, 3), "gce:q=0.7", PLANS[name])
    rows, _ = kernels.rows_and_gradient(z, target, program_of(adma.make_loss("cce").member), scale, out=spread)
    exact, slope = eager.rows_and_gradient(z, target, adma.make_loss("cce").member, scale)
    torch.testing.assert_close(rows, exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(spread, slope, rtol=1e-6, atol=1e-30)


@inside
@pytest.mark.parametrize("name", PLANS)
def test_rows_that_do_not_count_and_masked_classes(name):
    nan, inf = float("nan"), float("inf")
    z = torch.tensor([[1.0, -inf, 0.5, 80.0], [nan, inf, 0.0, nan], [-inf, 0.0, 1.0, -inf], [-inf, 2.0, -inf, -inf]])
    target, scale = torch.tensor([[0], [1], [0], [1]]), torch.tensor([[1.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    member = adma.make_loss("adma:a=0.5").member
    rows, gradient = kernels.rows_and_gradient(z.unsqueeze(2), target, program_of(member), scale, plan=PLANS[name])
    assert rows[1, 0] == 0
    assert torch.equal(gradient[1], torch.zeros(4, 1))
    assert gradient[0, 1, 0] == 0
    assert rows[2, 0] == member.supremum  # the true class is masked: the worst loss, and no gradient
    assert torch.equal(gradient[2], torch.zeros(4, 1))
    assert rows[3, 0] == 0  # no other class is possible
    assert torch.isfinite(gradient).all()


@inside
@pytest.mark.parametrize("name", ["default", "one row, two walks"])
def test_far_logits_keep_their_accuracy(name):
    z = torch.tensor([[80.0, -13.7, -79.9, 3.1, 78.3], [0.3, 40.123, -60.7, 1e30, -1e30]]).unsqueeze(2)
    target, scale = torch.tensor([[1], [0]]), torch.ones(2, 1, dtype=torch.float64)
    member = adma.make_loss("adma:a=0.26").member
    rows, gradient = kernels.rows_and_gradient(z, target, program_of(member), scale, plan=PLANS[name])
    exact, slope = eager.rows_and_gradient(z.double(), target, member, scale)
    torch.testing.assert_close(rows, exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-6, atol=1e-37)


@inside
def test_a_target_that_is_no_class_is_loud():
    z, target, scale = torch.randn(2, 3, 1), torch.tensor([[1], [3]]), torch.ones(2, 1, dtype=torch.float64)
    rows, gradient = kernels.rows_and_gradient(z, target, program_of(adma.make_loss("cce").member), scale)
    assert torch.isfinite(rows[0, 0])
    assert rows[1, 0].isnan()
    assert gradient[1].isnan().all()


def test_parameters_are_arguments_and_not_code():
    pytest.importorskip("triton")
    from adma.torch.kernels import triton_program

    one, two = (program_of(adma.make_loss(f"adma:a={a}").member) for a in (0.26, 0.3))
    assert triton_program.function(one) is triton_program.function(two)
    assert triton_program.arguments(one.constants) != triton_program.arguments(two.constants)
    assert all(-(2**31) <= part < 2**31 for part in triton_program.arguments((0.0, -0.0, 1e300, -2.5, float("inf"))))


@inside
@pytest.mark.parametrize("spec", ["cce", "adma:a=0.26", "focal:gamma=2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_one_program_takes_as_a_shared_one(spec, dtype):
    z, target, scale = inputs((5, 60, 1), dtype)
    z[scale[:, 0] == 0] = float("nan")
    member = adma.make_loss(spec).member
    plan = Plan(False, 16, 4, 1, resident=1, shared=True)
    rows, gradient = kernels.rows_and_gradient(z, target, program_of(member), scale, plan=plan)
    expected, slope = eager.rows_and_gradient(z.double(), target, member, scale)
    half = dtype == torch.bfloat16
    torch.testing.assert_close(rows, expected, rtol=2e-5 if half else 1e-6, atol=1e-6 if half else 0)
    torch.testing.assert_close(gradient.double(), slope, rtol=8e-3 if half else 1e-6, atol=1e-37)


@inside
def test_the_parts_of_a_shared_row_fit_together():
    # programs run one after the other here, so what the others say is said beforehand
    import triton.language as tl

    from adma.torch.kernels import triton_program, triton_split

    classes, lanes, neighbours = 61, 4, 4
    z, target, scale = inputs((4, classes, 1), torch.float32)
    target[0], target[1] = 0, classes - 1
    member = adma.make_loss("focal:gamma=2").member
    program = program_of(member)
    parts = -(-classes // (lanes * neighbours))
    others = torch.full((4, parts * lanes * neighbours), float("-inf"))
    others[:, :classes] = torch.where(scale != 0, z[..., 0].scatter(1, target, float("-inf")), float("-inf"))
    others = others.view(4, parts, -1)
    tops = others.amax(2).clamp(min=torch.finfo(torch.float32).min)
    sums = torch.exp(others - tops[..., None]).sum(2)
    arrived, out = torch.full((4,), parts, dtype=torch.int32), torch.full((4, classes), 9.0)
    rows = torch.zeros(4, 1, dtype=torch.float64)
    triton_split.split_kernel[(parts,)](
        z, out, target, scale, rows, tops, sums, arrived, 4 * parts, classes, classes, classes, 1, 1,
        triton_program.arguments(program.constants), PSI_SLOPE=triton_program.function(program), PARTS=parts, WIDTH=4,
        A=lanes, V=neighbours, UNIT=1, WORK=tl.float32, ROW=tl.float64, EXACT=True,
    )  # fmt: skip
    expected, slope = eager.rows_and_gradient(z.double(), target, member, scale)
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(out.unsqueeze(2).double(), slope, rtol=1e-6, atol=1e-37)
