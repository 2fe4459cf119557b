"""Inside torch.compile a member is one operator of the graph, the kernel's; where it cannot be, plain operators.

On the CPU by the C++ kernel, and by Triton where test_operators runs this file in Triton's interpreter; on a GPU there.
"""

import os
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import adma
from adma import functional
from adma.family import Member
from adma.torch.kernels import choose, operators
from adma.torch.kernels.native import library
from adma.torch.kernels.program import program_of

ON_GPU = torch.cuda.is_available()
INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if ON_GPU else "cpu"
pytestmark = [
    pytest.mark.skipif(
        not (ON_GPU or INSIDE) and isinstance(library.load(), str),
        reason="neither a compiled kernel nor Triton runs here",
    ),
    pytest.mark.skipif(not choose._TELLS_CONSTANTS, reason="torch before 2.8 has plain operators in a graph"),
]
KEPT = {"adma.loss_and_gradient.default", "adma.rows.default"}


@dataclass(frozen=True)
class Half(Member):
    q: float = 0.5
    name: ClassVar[str] = "half of gce"

    def psi(self, t, xp):
        return -0.5 * xp.expm1(-self.q * t) / self.q

    def slope(self, t, xp):
        return 0.5 * xp.exp(-self.q * t)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


def case(*shape, dtype=torch.float32):
    z = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(3).to(dtype)
    y = torch.randint(shape[1], (shape[0], *shape[2:]), generator=torch.Generator().manual_seed(1))
    return z.to(DEVICE), y.to(DEVICE)


def compiled(function, backend="aot_eager", **options):
    """It in one graph; and a list that gets our operators' names in the graphs."""
    kept = []

    def spy(graph, example_inputs):
        kept.append([str(node.target) for node in graph.graph.nodes if str(node.target) in KEPT])
        return torch._dynamo.lookup_backend(backend)(graph, example_inputs)

    return torch.compile(function, fullgraph=True, backend=spy, **options), kept


def agree(function, z, y, backend="aot_eager"):
    """Values and gradients of the compiled function and of itself; the operators that it was compiled to."""
    inside, kept = compiled(function, backend)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, expected = inside(a, y), function(b, y)
    torch.testing.assert_close(value, expected)
    factor = torch.rand(value.shape, dtype=value.dtype).add(0.5).to(DEVICE)
    found, true = torch.autograd.grad(value, a, factor)[0], torch.autograd.grad(expected, b, factor)[0]
    torch.testing.assert_close(found, true)
    with torch.no_grad():
        torch.testing.assert_close(inside(z, y), expected.detach())
    return kept


@pytest.mark.parametrize(
    ("spec", "reduction"),
    [("adma:a=0.26", "mean"), ("adma:a=0.26", "sum"), ("adma:a=0.26", "none"), ("cce", "mean"),
     ("focal:gamma=2", "mean"), ("taylor:order=3", "none"), ("agce", "mean")],
)  # fmt: skip
def test_a_member_is_one_operator(spec, reduction):
    z, y = case(6, 4)
    y[2] = -100
    first, second = agree(adma.make_loss(spec, reduction=reduction), z, y)
    assert first == ["adma.rows.default" if reduction == "none" else "adma.loss_and_gradient.default"]
    assert second == ["adma.rows.default"]  # without a gradient none is made


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_types(dtype):
    z, y = case(6, 4, dtype=dtype)
    assert all(agree(adma.AdmaLoss(), z, y))


def test_options_and_layouts():
    z, y = case(2, 5, 3, 4)
    weight = torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0], device=DEVICE)
    assert all(agree(adma.AdmaLoss(weight, ignore_index=3), z, y))
    assert all(agree(adma.AdmaLoss(reduction="sum"), z.transpose(2, 3), y.transpose(1, 2)))
    assert all(agree(adma.AdmaLoss(), z[0].flatten(1).t(), y[0].flatten()))
    assert not any(agree(adma.AdmaLoss(label_smoothing=0.1), z, y))  # which wants every class's loss


def test_members_that_are_made_in_the_graph():
    """Whose parameters are those of the call, not of some other object of their kind."""
    z, y = case(6, 4)
    bound = adma.AdmaLoss(a=0.1).member
    for function in (
        lambda x, t: functional.adma_loss(x, t, a=0.4),
        lambda x, t: functional.flexible_loss(Half(0.7), x, t),
        lambda x, t: functional.flexible_loss(bound.bind(a=0.4), x, t),
        adma.FlexibleLoss(Half(0.3)),
    ):
        assert all(agree(function, z, y))
    (both, _) = agree(lambda x, t: functional.focal_loss(x, t, gamma=1.5) + functional.adma_loss(x, t, a=0.1), z, y)
    assert len(both) == 2


def test_a_parameter_that_changes_does_not_compile_again_and_again():
    z, y = case(6, 4)
    loss_fn = adma.AdmaLoss(a=0.1)
    inside, kept = compiled(loss_fn)
    for a in (0.1, 0.2, 0.3, 0.4, 0.15, 0.25, 0.35, 0.45, 0.12, 0.22):
        loss_fn.a = a
        torch.testing.assert_close(inside(z, y), adma.AdmaLoss(a=a)(z, y))
    assert len(kept) <= 3
    assert kept[0] == ["adma.rows.default"]
    assert kept[-1] == []  # plain operators, for any value


def test_a_batch_of_another_size():
    loss_fn = adma.AdmaLoss()
    inside, kept = compiled(loss_fn)
    for n in (6, 7, 11, 30):
        z, y = case(n, 4)
        torch.testing.assert_close(inside(z, y), loss_fn(z, y))
    assert len(kept) <= 2


def test_a_step_with_the_layer_before_it():
    z, y = case(8, 5)
    weight = torch.randn(5, 5, generator=torch.Generator().manual_seed(2)).to(DEVICE).requires_grad_()
    loss_fn = adma.AdmaLoss()

    def step(x, weight):
        return 2.0 * loss_fn(x @ weight, y)

    inside, kept = compiled(step)
    found = torch.autograd.grad(inside(z, weight), weight)[0]
    torch.testing.assert_close(found, torch.autograd.grad(step(z, weight), weight)[0])
    assert kept == [["adma.loss_and_gradient.default"]]


@pytest.mark.slow
@pytest.mark.skipif(INSIDE, reason="the interpreter and the compiler of Triton exclude each other")
def test_inductor():
    z, y = case(40, 70)
    assert all(agree(adma.AdmaLoss(), z, y, "inductor"))
    assert all(agree(adma.AdmaLoss(reduction="none"), z, y, "inductor"))


def test_transforms_inside_have_plain_operators():
    z, y = case(3, 4, dtype=torch.float64)
    loss_fn = adma.AdmaLoss(a=0.3)
    for transformed in (
        lambda x: torch.func.grad(lambda v: loss_fn(v, y))(x),
        lambda x: torch.func.vmap(loss_fn)(x, y),
    ):
        inside, kept = compiled(transformed)
        torch.testing.assert_close(inside(z), transformed(z))
        assert not any(kept)


def test_an_exported_graph_has_plain_operators():
    z, y = case(3, 4)
    for strict in (False, True):
        exported = torch.export.export(adma.AdmaLoss(), (z, y), strict=strict)
        assert "adma" not in exported.graph_module.code
        torch.testing.assert_close(exported.module()(z, y), adma.AdmaLoss()(z, y))


def test_a_torch_that_does_not_tell_constants_has_plain_operators(monkeypatch):
    """Before 2.8; test_drop_in, run with 2.6, compiles there."""
    monkeypatch.setattr(choose, "_TELLS_CONSTANTS", False)
    assert agree(adma.AdmaLoss(), *case(6, 4)) == [[], []]


def test_what_cannot_be_in_a_graph_is_refused():
    z, y = case(6, 4)
    x = z.clone().requires_grad_()
    with pytest.raises(Exception, match=r"inplace=True cannot be done: torch\.compile"):
        compiled(lambda v: functional.adma_loss(v * 1.0, y, inplace=True))[0](x)
    if not ON_GPU and not INSIDE:
        for wrong in (4, -1):
            y[1] = wrong
            with pytest.raises(IndexError, match=f"target {wrong} is out of range"):
                compiled(adma.AdmaLoss())[0](x, y)


def test_a_learned_parameter_has_plain_operators():
    z, y = case(6, 4, dtype=torch.float64)
    member = adma.AdmaLoss().member

    def loss(x, a):
        return functional.flexible_loss(member.bind(a=a), x, y)

    a = torch.tensor(0.3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    inside, kept = compiled(loss)
    found = torch.autograd.grad(inside(z, a), a)[0]
    torch.testing.assert_close(found, torch.autograd.grad(loss(z, a), a)[0])
    assert not any(kept)


@pytest.mark.parametrize("operator", ["rows", "loss_and_gradient"])
def test_what_torch_asks_of_an_operator(operator):
    program = program_of(adma.AdmaLoss().member)
    z, y = case(4, 6, dtype=torch.float64)
    scale = torch.tensor([[0.5], [0.0], [2.0], [1.0]], dtype=torch.float64, device=DEVICE)
    arguments = (z.unsqueeze(2).requires_grad_(), y.unsqueeze(1), scale != 0 if operator == "rows" else scale)
    torch.library.opcheck(
        getattr(operators, operator), (*arguments, program.text, list(program.constants)),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static"),
    )  # fmt: skip
