"""The compiled kernel on every instruction set of this machine, held to plain operators and to exact arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

import adma
import exact
from adma import functional
from adma.torch.kernels import eager, fused, native
from adma.torch.kernels.choose import choose_rows
from adma.torch.kernels.native import library
from adma.torch.kernels.program import Instruction, Program

LOADED = library.load()
if isinstance(LOADED, str):
    pytest.skip(f"THE COMPILED KERNEL WAS NOT TESTED: {LOADED}", allow_module_level=True)
SETS = native.instruction_sets(LOADED)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
LIMIT = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 4e-3}

every_set = pytest.mark.parametrize("instructions", SETS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def logits(*shape, dtype=torch.float64, seed=0, spread=5.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(spread).to(dtype)


def layouts():
    """Memory layouts of (N, C, M) and the ways of the kernel that they take."""
    yield "few classes", logits(70, 10, 1)
    yield "one class", logits(5, 1, 1)
    yield "two classes", logits(300, 2, 1)
    yield "many classes", logits(70, 300, 1)
    yield "a vector more", logits(3, 129, 1)
    yield "very many classes", logits(3, 70001, 1)
    yield "positions side by side", logits(2, 19, 300)
    yield "few positions side by side", logits(3, 5, 3)
    yield "many classes apart", logits(2, 9000, 17)
    yield "channels last", logits(2, 33, 100).transpose(1, 2)
    yield "many channels last", logits(2, 9, 100).transpose(1, 2)
    yield "columns apart", logits(50, 30, 1)[:, ::2]
    yield "rows apart", logits(50, 30, 1)[::2]
    yield "rows backwards in memory", logits(30, 7, 1).permute(1, 0, 2)
    yield "one row expanded", logits(1, 7, 1).expand(9, 7, 1)
    yield "no rows", logits(0, 4, 1)


LAYOUTS = dict(layouts())


def run(z, target, member, scale, instructions, *, threads=1, out=None):
    out = torch.empty_like(z) if out is None else out
    rows = torch.full(target.shape, float("nan"), dtype=torch.float64)
    total = native.rows_and_gradient(
        z, target, member, scale, out=out, rows=rows, instructions=instructions, threads=threads
    )
    return rows, out, total


@every_set
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_the_eager_engine(instructions, dtype, layout):
    z = LAYOUTS[layout].to(dtype)
    n, c, m = z.shape
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(c, (n, m), generator=generator)
    scale = torch.randn(n, m, dtype=torch.float64, generator=generator).relu()  # half of the rows count nothing
    for member in exact.EACH if z.numel() < 5000 else exact.EACH[2:4]:
        expected, slopes = eager.rows_and_gradient(z, target, member, scale)
        rows, gradient, total = run(z, target, member, scale, instructions)
        rtol = {torch.float64: 1e-12, torch.float32: 2e-6}.get(dtype, 2 * torch.finfo(dtype).eps)
        torch.testing.assert_close(rows, expected, rtol=min(rtol, 2e-6), atol=0)
        torch.testing.assert_close(gradient, slopes, rtol=rtol, atol=8 * float(torch.finfo(dtype).smallest_normal))
        assert total == pytest.approx((rows * scale).sum().item(), rel=1e-12)
        assert native.rows_and_gradient(z, target, member, scale, out=None, instructions=instructions) == total

        strides = (c * m, m, 1) if 0 in z.stride() else z.stride()
        place, other = (torch.empty_strided(z.shape, strides, dtype=dtype) for _ in range(2))
        place.copy_(z)
        run(place, target, member, scale, instructions, out=other)
        run(place, target, member, scale, instructions, out=place)
        assert torch.equal(place, other)


@every_set
@every_dtype
def test_loss_and_gradient_are_exact(instructions, dtype):
    tiny = float(torch.finfo(dtype).tiny)
    for classes, count in ((2, 24), (10, 24), (60, 12), (1000, 6)):
        z, target = exact.hard_rows(classes, count, seed=classes)
        z, y = torch.tensor(z).to(dtype).unsqueeze(2), torch.tensor(target).unsqueeze(1)
        truth = exact.truth(z[:, :, 0].double().numpy(), target)
        for member in exact.MEMBERS if classes == 10 else exact.EACH:
            rows, gradient, _ = run(z, y, member, 1.0, instructions)
            found, slopes = rows[:, 0].to(dtype).double().numpy(), gradient[:, :, 0].double().numpy()
            assert exact.excess(found, truth.rows(member), tiny) <= LIMIT[dtype], (member, classes)
            assert exact.excess(slopes, truth.gradient(member), tiny) <= LIMIT[dtype], (member, classes)


def operation(name, x, instructions, *constants):
    program = Program((Instruction(name, tuple(range(1 + len(constants)))),), constants, 1 + len(constants), 0)
    return native.values(program, torch.tensor(x), instructions=instructions)[0].numpy()


def ulps(found, true):
    """The largest error in units in the last place, of finite values."""
    pairs = [(float(f), t) for f, t in zip(found, true, strict=True) if 0 < abs(float(t)) < np.inf]
    return max(abs(float((mpf(f) - t) / mpf(float(np.spacing(abs(float(t))))))) for f, t in pairs)


@every_set
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p"])
def test_an_elementary_function_is_exact_to_two_places(instructions, name):
    rng = np.random.default_rng(0)
    x = {
        "exp": np.concatenate([rng.uniform(-745, 709, 200), rng.uniform(-1, 1, 100)]),
        "expm1": np.concatenate([rng.uniform(-60, 709, 100), rng.uniform(-1.2, 1.2, 300), -np.logspace(-300, 1, 100)]),
        "log": np.concatenate([10.0 ** rng.uniform(-320, 308, 200), rng.uniform(0.5, 2, 200)]),
        "log1p": np.concatenate([10.0 ** rng.uniform(-300, 308, 200), rng.uniform(-0.999, 2, 200)]),
    }[name]
    assert ulps(operation(name, x, instructions), [getattr(mp, name)(mpf(float(v))) for v in x]) < 2
    limits = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 5e-324, -5e-324, 1e308, -1e308, 710.0, -746.0])
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(limits)
    np.testing.assert_allclose(operation(name, limits, instructions), expected, rtol=1e-15, atol=0)


@every_set
@pytest.mark.parametrize("power", [0.3, 1.0, 2.0, 5.0, -0.7, 17.3, 0.0])
def test_a_power_is_exact_to_two_places(instructions, power):
    rng = np.random.default_rng(0)
    x = np.concatenate([10.0 ** rng.uniform(-300, 300, 100), rng.uniform(0.5, 2, 100)])
    with np.errstate(all="ignore"):
        assert ulps(operation("pow", x, instructions, power), [mpf(float(v)) ** mpf(power) for v in x]) < 2
        limits = np.array([0.0, -0.0, np.inf, np.nan, 5e-324, -2.0, 1.0])
        np.testing.assert_array_equal(operation("pow", limits, instructions, power), limits**power)


@every_set
def test_the_other_operations(instructions):
    t = np.array([0.0, 0.5, 1.0, 2.0, np.inf, np.nan, 1e-300])
    for name, expected in (
        ("neg", -t), ("abs", abs(t)), ("add", t + 1.0), ("sub", t - 1.0), ("mul", t * 1.5), ("div", t / 1.5),
        ("less", np.where(t < 1.0, 1.0, 0.0)), ("less_equal", np.where(t <= 1.0, 1.0, 0.0)),
    ):  # fmt: skip
        constants = {"neg": (), "abs": (), "mul": (1.5,), "div": (1.5,)}.get(name, (1.0,))
        np.testing.assert_array_equal(operation(name, t, instructions, *constants), expected)
    np.testing.assert_array_equal(operation("abs", -t, instructions), abs(t))
    np.testing.assert_array_equal(operation("where", t, instructions, 3.0, 4.0), np.where(t != 0, 3.0, 4.0))


@every_set
@every_dtype
@pytest.mark.parametrize("classes", [3, 60], ids=["lanes", "rows"])
def test_masked_classes_and_rows_that_do_not_count(instructions, dtype, classes):
    z = torch.zeros(4, classes, 1, dtype=dtype)
    z[0, 1] = float("-inf")  # another class
    z[1] = float("nan")  # a row that does not count
    z[2, :] = float("-inf")  # all others
    z[2, 0] = 1.0
    z[3, 0] = float("-inf")  # the true one
    target, scale = torch.tensor([[0], [10**9], [0], [0]]), torch.tensor([[1.0], [0.0], [1.0], [1.0]]).double()
    member = adma.make_loss("adma").member
    rows, gradient, total = run(z, target, member, scale, instructions)
    assert rows[1, 0] == rows[2, 0] == 0
    assert not gradient[1].any()
    assert not gradient[2].any()
    assert gradient[0, 1, 0] == 0
    assert rows[3, 0] == pytest.approx(np.e - 1, rel=1e-15)
    assert not gradient[3].any()
    assert torch.isfinite(gradient).all()
    assert total == rows.sum()
    z[0, 2] = float("nan")
    rows, gradient, _ = run(z, target, member, scale, instructions)
    assert rows.isnan().tolist() == [[True], [False], [False], [False]]
    assert gradient[0].isnan().all()


@every_set
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_read_and_rounded_as_torch_does(instructions, dtype):
    """Every number of the type as a logit, and its gradient against one rounding of the float64 one."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite() & (every.abs() < 60)]
    z = torch.stack([every, torch.zeros_like(every)], 1).unsqueeze(2)
    target = torch.zeros(len(every), 1, dtype=torch.long)
    member = adma.make_loss("cce").member
    rows, gradient, _ = run(z, target, member, 1.0, instructions)
    wide, slopes, _ = run(z.double(), target, member, 1.0, instructions)
    torch.testing.assert_close(rows, wide, rtol=1e-6, atol=0)
    error = (gradient.double() - slopes).abs()
    step = torch.maximum(slopes.abs() * torch.finfo(dtype).eps, torch.tensor(2.0**-24 if dtype is torch.float16 else 0))
    assert (error <= step * 0.5001).all()


@every_set
@every_dtype
@pytest.mark.parametrize("layout", ["few classes", "many classes", "positions side by side", "many classes apart"])
def test_the_number_of_threads_does_not_change_a_bit(instructions, dtype, layout):
    z = torch.cat([LAYOUTS[layout]] * 8).to(dtype)
    target = torch.randint(z.shape[1], (z.shape[0], z.shape[2]), generator=torch.Generator().manual_seed(0))
    member = adma.make_loss("focal").member
    one = run(z, target, member, 0.3, instructions, threads=1)
    for threads in (2, 3):
        more = run(z, target, member, 0.3, instructions, threads=threads)
        assert torch.equal(one[0], more[0])
        assert torch.equal(one[1], more[1])
        assert one[2] == more[2]


@every_set
@pytest.mark.parametrize("shape", [(280, 30001, 1), (1, 5, 1700001)], ids=["rows", "lanes"])
@pytest.mark.parametrize("offset", [0, 1])
def test_a_gradient_larger_than_the_cache(instructions, shape, offset):
    """Which is written past it, where memory is aligned."""
    n, _, m = shape
    z, target = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.zeros(n, m, dtype=torch.long)
    out = torch.full((z.numel() + 1,), float("nan"))[offset : offset + z.numel()].view(shape)
    assert out.nbytes >= 32 << 20
    member = adma.make_loss("cce").member
    native.rows_and_gradient(z, target, member, 1.0, out=out, instructions=instructions)
    expected = z.softmax(1)
    expected[:, 0] -= 1
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-7)


@every_set
@every_dtype
@pytest.mark.parametrize("classes", [1, 3, 10, 16, 17, 47, 60])
def test_nothing_is_written_beside_the_gradient(instructions, dtype, classes):
    """Rows with a gap between them, rows without, and what lies behind the last one."""
    z = logits(37, classes, 1, dtype=dtype)
    target = torch.randint(classes, (37, 1), generator=torch.Generator().manual_seed(0))
    member = adma.make_loss("adma").member
    expected = run(z, target, member, 1.0, instructions)[1]
    for gap in (0, 3):
        memory = torch.full((37 * (classes + gap) + 40,), 7.0, dtype=dtype)
        out = memory[20:-20].view(37, classes + gap)[:, :classes].unsqueeze(2)
        run(z, target, member, 1.0, instructions, out=out)
        assert torch.equal(out, expected)
        out.fill_(7.0)
        assert memory.eq(7.0).all()


def reduced(spec, z, y, **options):
    z = z.clone().requires_grad_()
    loss_fn = adma.make_loss(spec, **options)
    value = loss_fn(z, y)
    value.backward()
    return value.detach(), z.grad


def without(monkeypatch, call):
    """What a call gives where there is no compiled kernel."""
    with monkeypatch.context() as patch:
        for module in (native, library):
            patch.setattr(module, "load", lambda: "turned off by a test")
        assert choose_rows(torch.zeros(1, 2, 1), torch.zeros(1, 1, dtype=torch.long), exact.EACH[0]).engine == "eager"
        return call()


@pytest.mark.parametrize("spec", ["cce", "adma:a=0.26", "focal:gamma=2", "taylor:order=3"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_reductions_agree_with_the_eager_engine(spec, reduction, weighted, ignoring, dtype, monkeypatch):
    z, y = logits(4, 5, 6, dtype=dtype), torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(0))
    if ignoring:
        y[1, :3] = -100
    weight = torch.tensor([0.5, 1.0, 0.0, 2.0, 3.0], dtype=dtype) if weighted else None
    assert fused.one_walk("native", dtype)
    got = reduced(spec, z, y, weight=weight, reduction=reduction)
    expected = without(monkeypatch, lambda: reduced(spec, z, y, weight=weight, reduction=reduction))
    torch.testing.assert_close(got, expected)


def test_nothing_counts():
    value, gradient = reduced("adma", logits(3, 4), torch.full((3,), -100))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("factor", [1.0, 0.25, 3.0, 0.0, -1.75])
@every_dtype
def test_a_factor_behind_the_loss(factor, dtype):
    z, y = logits(30, 7, dtype=dtype), torch.arange(30) % 7
    x = z.clone().requires_grad_()
    (factor * functional.adma_loss(x, y)).backward()
    wide = z.double().requires_grad_()
    (factor * functional.adma_loss(wide, y)).backward()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        x.grad.double(), wide.grad, rtol=max(0.51 * eps, 4e-7 if eps > 1e-10 else 1e-12), atol=1e-7
    )


def test_a_loss_scale_saves_float16_gradients():
    """A scaled loss's gradient is made scaled: what would be 0 in float16 is there."""
    z, y = logits(4096, 10, dtype=torch.float16, spread=3.0), torch.arange(4096) % 10
    x = z.clone().requires_grad_()
    (functional.adma_loss(x, y).float() * 2.0**14).backward()
    wide = z.double().requires_grad_()
    (functional.adma_loss(wide, y) * 2.0**14).backward()
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-3, atol=1e-7)
    assert ((x.grad == 0) & (wide.grad.abs() > 1e-6)).sum() == 0


def test_derivatives_of_higher_order():
    z, y = logits(6, 5, spread=1.0).requires_grad_(), torch.tensor([0, 1, -100, 3, 4, 0])
    loss_fn = adma.AdmaLoss(weight=torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: loss_fn(x, y), z, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: loss_fn(x, y), z)
    (first,) = torch.autograd.grad(loss_fn(z, y), z, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), z)
    curvature = torch.func.hessian(lambda x: loss_fn(x, y))(z.detach()).reshape(30, 30)
    torch.testing.assert_close(second.flatten(), 2 * curvature @ first.detach().flatten())
    _, tangent = torch.func.jvp(lambda x: loss_fn(x, y), (z.detach(),), (torch.ones_like(z),))
    torch.testing.assert_close(tangent, first.detach().sum())


def test_the_gradient_is_handed_out_once_and_made_again():
    z, y = logits(6, 5).requires_grad_(), torch.arange(6) % 5
    value = functional.adma_loss(z, y)
    first, second, third = (torch.autograd.grad(value, z, retain_graph=True)[0] for _ in range(3))
    first.zero_()
    assert torch.equal(second, third)
    assert second.any()


def test_a_learned_class_weight_gets_its_gradient():
    z, y = logits(6, 3).requires_grad_(), torch.arange(6) % 3
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    functional.adma_loss(z, y, weight, reduction="sum").backward()
    rows = functional.adma_loss(z.detach(), y, reduction="none")
    torch.testing.assert_close(weight.grad, torch.stack([rows[y == c].sum() for c in range(3)]))


# in place


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
def test_in_place_gives_the_same_in_the_same_memory(dtype, compiled, monkeypatch):
    z, y = logits(40, 70, dtype=dtype), torch.arange(40) % 70
    y[3] = -100

    def step(inplace):
        leaf = z.clone().requires_grad_()
        held = leaf * 2
        address = held.data_ptr()
        value = functional.adma_loss(held, y, inplace=inplace)
        seen = []
        held.register_hook(lambda g: seen.append(g.data_ptr()))
        value.backward()
        return value.detach(), leaf.grad, seen[0] == address

    kept = step(False) if compiled else without(monkeypatch, lambda: step(False))
    placed = step(True) if compiled else without(monkeypatch, lambda: step(True))
    assert placed[2]
    assert not kept[2]
    if compiled:
        assert torch.equal(placed[0], kept[0])
        assert torch.equal(placed[1], kept[1])
    else:
        torch.testing.assert_close(placed[:2], kept[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_logits_that_something_else_needs_are_missed(dtype):
    """tanh keeps its result for its own backward pass; float16 logits are written there, the others before."""
    x = logits(8, 5, dtype=dtype).requires_grad_()
    value = functional.adma_loss(torch.tanh(x), torch.arange(8) % 5, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_in_place_is_for_one_backward_pass():
    twice = functional.adma_loss(logits(8, 5).requires_grad_() * 1.0, torch.arange(8) % 5, inplace=True)
    twice.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        twice.backward()
    x = logits(8, 5).requires_grad_()
    value = functional.adma_loss(x * 1.0, torch.arange(8) % 5, inplace=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        torch.autograd.grad(value, x, create_graph=True)


def test_in_place_where_no_gradient_is_asked_for_leaves_the_logits():
    z = logits(8, 5)
    before = z.clone()
    for x in (z, z.clone().requires_grad_()):
        with torch.no_grad():
            functional.adma_loss(x, torch.arange(8) % 5, inplace=True)
        assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("leaf", lambda x, y: ((x.detach().requires_grad_(), y), {})),
        ("leaf", lambda x, y: ((x.detach().requires_grad_()[:], y), {})),
        ("share memory", lambda x, y: ((x[:1].expand(8, 5), y), {})),
        ("from_probabilities", lambda x, y: ((x.softmax(1), y), {"from_probabilities": True})),
    ],
)
def test_in_place_says_where_it_cannot_be_done(match, change):
    x = logits(8, 5).requires_grad_() * 1.0
    arguments, options = change(x, torch.arange(8) % 5)
    with pytest.raises(ValueError, match=f"inplace=True cannot be done: .*{match}"):
        adma.AdmaLoss(inplace=True, **options)(*arguments)


def test_in_place_has_no_place_in_transforms_and_other_losses():
    y = torch.arange(8) % 5
    with pytest.raises(ValueError, match=r"torch\.func transforms"):
        torch.func.grad(lambda x: functional.adma_loss(x, y, inplace=True))(logits(8, 5))
    with pytest.raises(ValueError, match="every class's probability"):
        functional.mean_squared_error(logits(8, 5), y, inplace=True)


# memory that does not hold the values


def negated_when_read(x):
    """`x` as the imaginary part of a conjugate, which torch negates only when it reads it."""
    found = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert found.is_neg()
    return found


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("lazily", ["logits", "target", "weight"])
def test_a_tensor_that_is_negated_when_read_is_read_so(lazily, options):
    x, y, w = logits(8, 5), torch.rand(8, 5, dtype=torch.float64), torch.linspace(0.5, 2.0, 5, dtype=torch.float64)
    y = y if lazily == "target" else torch.arange(8) % 5
    w = w if lazily == "weight" else None
    true = functional.adma_loss(x, y, w, **options)
    if lazily == "target":
        y = negated_when_read(y)
    if lazily == "weight":
        w = negated_when_read(w)
    z = x.clone().requires_grad_()
    value = functional.adma_loss(negated_when_read(z) if lazily == "logits" else z, y, w, **options)
    torch.testing.assert_close(value, true)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    z = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(functional.adma_loss(z, y, w, **options).sum(), z)
    torch.testing.assert_close(gradient, expected)


# which kernel


def test_the_choice_has_a_reason():
    z, y, member = torch.zeros(1, 2, 1), torch.zeros(1, 1, dtype=torch.long), exact.EACH[0]
    assert choose_rows(z, y, member).engine == "native"
    learned = adma.family.Adma().bind(a=torch.tensor(0.3))
    assert choose_rows(z, y, learned).engine == "composed"
    assert "tensor" in choose_rows(z, y, learned).reason
    assert "meta" in choose_rows(z.to("meta"), y.to("meta"), member).reason


def adma_with(setting, code):
    environment = {**os.environ, "ADMA_NATIVE": setting}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


VALUE = (
    "import torch, adma; torch.manual_seed(0); z = torch.randn(50, 300, requires_grad=True);"
    "v = adma.AdmaLoss()(z, torch.arange(50)); v.backward(); print(v.item(), z.grad.norm().item())"
)


@pytest.mark.slow
def test_an_instruction_set_can_be_forced():
    found = {}
    for setting in ("", "0", *SETS):
        code, out, error = adma_with(setting, VALUE)
        assert code == 0, error
        found[setting] = np.array(out.split(), dtype=float)
    for values in found.values():
        np.testing.assert_allclose(values, found["0"], rtol=1e-6)
    code, _, error = adma_with("sse9", VALUE)
    assert code != 0
    assert "ADMA_NATIVE must be 0, baseline, avx2 or avx512, got 'sse9'" in error
