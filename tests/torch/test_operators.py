"""The GPU kernels as operators: gradients of every order, and a graph of torch.compile that keeps them whole.

On a GPU with the kernels compiled; without one in Triton's interpreter, in a process of their own.
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
from adma.torch.kernels import eager, operators
from adma.torch.kernels.program import program_of

ON_GPU = torch.cuda.is_available()
INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if ON_GPU else "cpu"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: the GPU operators are not tested"
)
kernels_run = pytest.mark.skipif(not (ON_GPU or INSIDE), reason="runs in the interpreter, by test_in_the_interpreter")
MEMBER = adma.make_loss("adma:a=0.26").member
PROGRAM = program_of(MEMBER)
FORMULA = (PROGRAM.text, list(PROGRAM.constants))


@pytest.mark.skipif(ON_GPU or INSIDE, reason="the tests below run here")
def test_in_the_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-W",
        "ignore",
        "-p",
        "no:cacheprovider",
        __file__,
        str(Path(__file__).with_name("test_compiled.py")),
    ]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def inputs(dtype=torch.float64):
    torch.manual_seed(0)
    z = torch.randn(4, 6, 1, dtype=torch.float64).to(dtype).to(DEVICE)
    target = torch.randint(6, (4, 1)).to(DEVICE)
    scale = torch.tensor([[0.5], [0.0], [2.0], [1.0]], dtype=torch.float64, device=DEVICE)
    return z.requires_grad_(), target, scale


def gradient_of(loss, z):
    (found,) = torch.autograd.grad(loss, z)
    return found


@kernels_run
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_losses_and_gradients(dtype):
    z, target, scale = inputs(dtype)
    exact = eager.composed_index_rows(z.double(), target, MEMBER, scale != 0)
    close = {"rtol": 1e-12 if dtype == torch.float64 else 8e-3 if dtype == torch.bfloat16 else 1e-6, "atol": 0}
    rows, *_ = operators.rows(z, target, scale != 0, *FORMULA)
    total, _ = operators.loss_and_gradient(z, target, scale, *FORMULA)
    torch.testing.assert_close(rows, exact.detach(), **{**close, "rtol": min(close["rtol"], 1e-5)})
    expected = gradient_of((exact * scale).sum(), z)
    torch.testing.assert_close(gradient_of((rows * scale).sum(), z), expected, **close)
    torch.testing.assert_close(gradient_of(total, z), expected, **close)
    whole, *_ = operators.rows(z, target, None, *FORMULA)
    assert whole.ne(0).all()


@kernels_run
def test_a_factor_behind_the_loss_and_a_second_pass():
    z, target, scale = inputs()
    total, _ = operators.loss_and_gradient(z, target, scale, *FORMULA)
    once = gradient_of(operators.loss_and_gradient(z, target, scale, *FORMULA)[0], z)
    for factor in (3.0, 0.5, 1.0):  # each pass gets its own, though the first spends what was saved
        (found,) = torch.autograd.grad(total * factor, z, retain_graph=True)
        torch.testing.assert_close(found, factor * once, rtol=1e-13, atol=0)


@kernels_run
def test_second_derivatives():
    z, target, scale = inputs()

    def summed(z):
        return operators.loss_and_gradient(z, target, scale, *FORMULA)[0]

    def by_rows(z):
        return (operators.rows(z, target, scale != 0, *FORMULA)[0] * scale).sum()

    def exact(z):
        return (eager.composed_index_rows(z, target, MEMBER, scale != 0) * scale).sum()

    wanted = torch.autograd.functional.hessian(exact, z.detach())
    for function in (summed, by_rows):
        found = torch.autograd.functional.hessian(function, z.detach())
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


@kernels_run
@pytest.mark.parametrize("operator", ["rows", "loss_and_gradient"])
def test_what_torch_asks_of_an_operator(operator):
    z, target, scale = inputs()
    second = scale != 0 if operator == "rows" else scale
    tests = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static")
    torch.library.opcheck(getattr(operators, operator), (z, target, second, *FORMULA), test_utils=tests)


@kernels_run
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.skipif(
    not ON_GPU, reason="the interpreter and the compiler of Triton exclude each other"))])  # fmt: skip
def test_a_compiled_step_keeps_the_kernel(backend):
    z, target, scale = inputs(torch.float32)
    weight = torch.randn(6, 6, device=DEVICE, requires_grad=True)

    def step(z, weight):
        logits = (z.squeeze(2) @ weight).unsqueeze(2)
        return 2.0 * operators.loss_and_gradient(logits, target, scale, *FORMULA)[0]

    seen = []

    def spy(graph, example_inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return torch._dynamo.lookup_backend(backend)(graph, example_inputs)

    expected = torch.autograd.grad(step(z, weight), (z, weight))
    found = torch.autograd.grad(torch.compile(step, fullgraph=True, backend=spy)(z, weight), (z, weight))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert any("loss_and_gradient" in name for name in seen)


@kernels_run
def test_the_reason_against_is_said():
    from adma.torch.kernels import triton as kernels

    z, _, _ = inputs(torch.float32)
    assert kernels.reason_against(z, MEMBER) == ""
    assert "bool" in kernels.reason_against(z.detach() > 0, MEMBER)
    assert "meta" in kernels.reason_against(z.detach().to("meta"), MEMBER)
    learned = MEMBER.bind(a=torch.tensor(0.3, requires_grad=True))
    assert "no program" in kernels.reason_against(z, learned)
