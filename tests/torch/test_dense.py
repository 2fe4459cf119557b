"""Targets that give every class a weight, by the compiled kernel: held to a reference and to exact arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mpmath import mp, mpf

import adma
import exact
from adma import functional
from adma import numpy as reference
from adma.torch.kernels import dense as engine
from adma.torch.kernels import native
from adma.torch.kernels.choose import choose_dense
from adma.torch.kernels.native import dense, library
from adma.torch.kernels.program import Instruction, Program

LOADED = library.load()
if isinstance(LOADED, str):
    pytest.skip(f"THE COMPILED KERNEL WAS NOT TESTED: {LOADED}", allow_module_level=True)
SETS = native.instruction_sets(LOADED)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CCE = exact.EACH[0]

every_set = pytest.mark.parametrize("instructions", SETS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(*shape, dtype=torch.float64, seed=0, spread=5.0):
    return torch.randn(*shape, generator=random(seed), dtype=torch.float64).mul(spread).to(dtype)


def layouts():
    """Memory layouts of (N, C, M) and the ways of the kernel that they take."""
    yield "few classes", logits(70, 10, 1)
    yield "one class", logits(5, 1, 1)
    yield "many classes", logits(9, 300, 1)
    yield "a vector more", logits(3, 129, 1)
    yield "very many classes", logits(2, 9001, 1)
    yield "positions side by side", logits(2, 19, 70)
    yield "few positions side by side", logits(3, 5, 3)
    yield "many classes apart", logits(2, 600, 17)
    yield "channels last", logits(2, 33, 60).transpose(1, 2)
    yield "few channels last", logits(2, 40, 9).transpose(1, 2)
    yield "columns apart", logits(20, 30, 1)[:, ::2]
    yield "rows backwards in memory", logits(30, 7, 1).permute(1, 0, 2)
    yield "no rows", logits(0, 4, 1)


LAYOUTS = dict(layouts())


def targets(z, seed=1):
    """Class indices, and class probabilities with zeros, rows of which sum to anything, some negative."""
    n, c, m = z.shape
    soft = torch.rand(z.shape, generator=random(seed), dtype=torch.float64)
    soft[:, ::3] = 0
    if n:
        soft[0, -1] = -0.25
    # in another layout than the logits
    return torch.randint(c, (n, m), generator=random(seed)), soft.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def run(z, target, member, scale, instructions=None, *, smoothing=0.1, weight=None, threads=1, out=None):
    out = torch.empty_like(z) if out is None else out
    rows = torch.full((z.shape[0], z.shape[2]), float("nan"), dtype=torch.float64)
    total = dense.rows_and_gradient(
        z, target, member, scale, smoothing=smoothing, weight=weight, out=out, rows=rows, instructions=instructions,
        threads=threads,
    )  # fmt: skip
    return rows, out, total


def arrays(z, target, smoothing, weight):
    """Logits, target, options of the reference, and the weights of the classes, in NumPy."""
    y = target.double().numpy() if target.is_floating_point() else target.numpy()
    w = np.ones(z.shape[1]) if weight is None else weight.numpy()
    hot = y if target.is_floating_point() else np.moveaxis(np.eye(z.shape[1])[y], -1, 1)
    shares = ((1 - smoothing) * hot + smoothing / z.shape[1]) * w.reshape(1, -1, 1)
    return z.double().numpy(), y, {"label_smoothing": smoothing, "weight": w, "reduction": "none"}, shares


def allowed(true, terms, dtype, simple):
    """How far an entry of a gradient may be from the true one: by its own rounding, and that of the two terms in it.

    In the simple case (cross-entropy, smoothed indices) these are float32 for float32 logits.
    """
    eps = float(torch.finfo(dtype).eps)
    rounding = {torch.float64: 1e-13, torch.float32: 2e-7}.get(dtype, 0.51 * eps)
    within = 1e-13 if dtype == torch.float64 or not simple else 5e-7
    return rounding * np.abs(true) + within * terms + 2 * float(torch.finfo(dtype).smallest_normal)


def compare(z, target, member, scale, smoothing, weight, instructions):
    at, y, options, shares = arrays(z, target, smoothing, weight)
    rows, gradient, total = run(z, target, member, scale, instructions, smoothing=smoothing, weight=weight)
    counts, factor = (scale != 0).numpy(), scale.unsqueeze(1).numpy()
    expected = reference.loss(member, at, y, **options) * counts
    simple = member is CCE and weight is None and not target.is_floating_point()
    loss_limit = 5e-7 if simple and z.dtype != torch.float64 else 1e-13
    size = (np.abs(shares) * member.psi(reference.nll(at))).sum(1) * counts  # negative shares may cancel
    np.testing.assert_array_less(np.abs(rows.numpy() - expected), loss_limit * size + 1e-300)
    slopes = reference.gradient(member, at, y, **options) * factor
    t = reference.nll(at)
    g = np.abs(shares * member.slope(t) * factor)
    terms = g + np.exp(-t) * g.sum(1, keepdims=True)
    error = np.abs(gradient.double().numpy() - slopes)
    np.testing.assert_array_less(error, allowed(slopes, terms, z.dtype, simple))
    assert total == pytest.approx((rows * scale).sum().item(), rel=1e-12)


@every_set
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_the_reference(instructions, dtype, layout):
    z = LAYOUTS[layout].to(dtype)
    index, soft = targets(z)
    scale = torch.randn(z.shape[0], z.shape[2], dtype=torch.float64, generator=random(2)).relu()  # half count nothing
    weight = torch.rand(z.shape[1], dtype=torch.float64, generator=random(3))
    weight[0] = 0
    for member in (CCE, exact.EACH[2]):
        compare(z, index, member, scale, 0.1, None, instructions)
        compare(z, index, member, scale, 1.0, weight, instructions)
        compare(z, soft, member, scale, 0.0, None, instructions)
        compare(z, soft.to(dtype), member, scale, 0.3, weight, instructions)


@every_set
@every_dtype
@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_every_member_agrees_with_the_reference(instructions, dtype, member):
    for shape in ((9, 6, 1), (3, 70, 1)):
        z = logits(*shape, dtype=dtype)
        index, soft = targets(z)
        scale = torch.full((shape[0], 1), 0.3, dtype=torch.float64)
        compare(z, index, member, scale, 0.1, None, instructions)
        compare(z, soft, member, scale, 0.0, None, instructions)


@every_set
@every_dtype
@pytest.mark.parametrize("classes", [10, 60], ids=["lanes", "rows"])
def test_loss_and_gradient_are_exact_at_gaps_to_80(instructions, dtype, classes):
    count, smoothing = 8, 0.1
    hard, target = exact.hard_rows(classes, count, seed=classes)
    z, y = torch.tensor(hard).to(dtype).unsqueeze(2), torch.tensor(target).unsqueeze(1)
    truth = exact.truth(z[:, :, 0].double().numpy(), target)
    for member in exact.EACH[:9:2] if classes == 60 else exact.EACH:
        rows, gradient, _ = run(z, y, member, 1.0, instructions, smoothing=smoothing)
        simple = member is CCE
        limit = 5e-7 if simple and dtype != torch.float64 else 1e-13
        for i, s in enumerate(truth.s):
            w = [mpf(smoothing) / classes + (1 - mpf(smoothing)) * (j == target[i]) for j in range(classes)]
            loss = mp.fsum(a * exact.loss_of(member, p) for a, p in zip(w, s, strict=True))
            g = [a * exact.slope_of(member, p) for a, p in zip(w, s, strict=True)]
            every = mp.fsum(g)
            slopes = np.array([float(p * every - own) for p, own in zip(s, g, strict=True)])
            terms = np.array([float(p * every + own) for p, own in zip(s, g, strict=True)])
            assert abs(rows[i, 0].item() - float(loss)) <= limit * float(loss), (member, i)
            error = np.abs(gradient[i, :, 0].double().numpy() - slopes)
            np.testing.assert_array_less(error, allowed(slopes, terms, dtype, simple), err_msg=str(member))


@every_set
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("classes", [10, 60], ids=["lanes", "rows"])
def test_one_hot_probabilities_are_as_exact_as_class_indices(instructions, dtype, classes):
    """Also where p is 1 but for 1e-30: what is left of the loss and of the gradient is not a difference."""
    hard, target = exact.hard_rows(classes, 24, seed=classes)
    z, y = torch.tensor(hard).to(dtype).unsqueeze(2), torch.tensor(target).unsqueeze(1)
    hot = F.one_hot(y[:, 0], classes).to(dtype).unsqueeze(2)
    for member in exact.EACH:
        rows, gradient, _ = run(z, hot, member, 1.0, instructions, smoothing=0.0)
        expected = torch.empty_like(rows)
        slopes = torch.empty_like(z)
        native.rows_and_gradient(z, y, member, 1.0, out=slopes, rows=expected)
        rtol, tiny = (1e-12, 1e-300) if dtype == torch.float64 else (1e-6, 2.4e-38)
        torch.testing.assert_close(rows, expected, rtol=rtol, atol=1e-300)
        torch.testing.assert_close(gradient, slopes, rtol=rtol, atol=tiny)


@every_set
@every_dtype
@pytest.mark.parametrize("classes", [3, 60], ids=["lanes", "rows"])
@pytest.mark.parametrize("spec", ["cce", "adma", "focal"])
def test_masked_classes_and_rows_that_do_not_count(instructions, dtype, classes, spec):
    z = torch.zeros(6, classes, 1, dtype=dtype)
    z[0, 1] = float("-inf")
    z[1] = float("nan")  # a row that does not count
    z[2, 1:] = float("-inf")  # one class is possible
    z[3, 2] = float("nan")
    z[4, 0] = 200.0
    z[5] = float("-inf")
    member = adma.make_loss(spec).member
    scale = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64).unsqueeze(1)
    index = torch.tensor([0, 10**9, 0, 0, 1, 0]).unsqueeze(1)
    soft = torch.zeros(6, classes, 1, dtype=dtype)
    soft[:, 0], soft[4, :2] = 1.0, 0.5
    for target, smoothing in ((index, 0.2), (soft, 0.0), (soft, 0.2)):
        rows, gradient, _ = run(z, target, member, scale, instructions, smoothing=smoothing)
        assert rows[1, 0] == 0
        assert not gradient[1].any()
        for i in (3, 5):
            assert rows[i].isnan().all()
            assert gradient[i].isnan().all()
        fine = [0, 2, 4]
        shares = engine.Shares(smoothing, None)
        x = z[fine].double().requires_grad_()
        expected = engine.composed(member, shares)(x, target[fine].double() if target is soft else target[fine])
        (slopes,) = torch.autograd.grad(expected.sum(), x)
        torch.testing.assert_close(rows[fine], expected.detach(), rtol=1e-6, atol=0)  # infinite for an unbounded loss
        eps = max(1e-6, float(torch.finfo(dtype).eps))
        torch.testing.assert_close(gradient[fine].double(), slopes, rtol=eps, atol=6e-8)
        assert (rows[0].isinf() == (spec != "adma" and smoothing > 0)).all()


@every_set
@every_dtype
@pytest.mark.parametrize("layout", ["few classes", "many classes", "positions side by side", "many classes apart"])
def test_the_number_of_threads_and_the_place_do_not_change_a_bit(instructions, dtype, layout):
    z = torch.cat([LAYOUTS[layout]] * 4).to(dtype)
    index, soft = targets(z)
    for member, target in ((CCE, index), (exact.EACH[5], index), (exact.EACH[5], soft)):
        one = run(z, target, member, 0.3, instructions, threads=1)
        for threads in (2, 3):
            more = run(z, target, member, 0.3, instructions, threads=threads)
            assert torch.equal(one[0], more[0])
            assert torch.equal(one[1], more[1])
            assert one[2] == more[2]
        place = z.clone()
        run(place, target, member, 0.3, instructions, out=place)
        assert torch.equal(place, one[1])


@every_set
@pytest.mark.parametrize("shape", [(280, 30001, 1), (1, 5, 1700001)], ids=["rows", "lanes"])
def test_a_gradient_larger_than_the_cache(instructions, shape):
    """Which is written past it, where memory is aligned."""
    n, c, m = shape
    z, target = torch.randn(shape, generator=random()), torch.zeros(n, m, dtype=torch.long)
    for offset in (0, 1):
        out = torch.full((z.numel() + 1,), float("nan"))[offset : offset + z.numel()].view(shape)
        assert out.nbytes >= 32 << 20
        dense.rows_and_gradient(z, target, CCE, 1.0, smoothing=0.5, weight=None, out=out, instructions=instructions)
        expected = z.softmax(1) - 0.5 / c
        expected[:, 0] -= 0.5
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=5e-7)


@every_set
def test_exp_and_expm1_of_the_same_are_computed_together_and_exact(instructions):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-745, 709, 200), rng.uniform(-1.2, 1.2, 300), -np.logspace(-300, 2, 100)])
    limits = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e308, -1e308, 710.0, -746.0, 60.5, -61.0])
    pair = (Instruction("expm1", (0,)), Instruction("exp", (0,)))
    for code, psi, slope in ((pair, 1, 2), (pair[::-1], 2, 1), ((*pair, pair[1]), 1, 3), ((*pair, pair[0]), 3, 2)):
        program = Program(code, (), psi, slope)
        for function, found in zip(
            ("expm1", "exp"), native.values(program, torch.tensor(x), instructions=instructions), strict=True
        ):
            for value, at in zip(found.tolist(), x, strict=True):
                true = getattr(mp, function)(mpf(float(at)))
                if abs(true) > 1e-300:
                    assert abs(value - true) <= 4.5e-16 * abs(true), (function, at)
        with np.errstate(all="ignore"):
            for function, found in zip(
                (np.expm1, np.exp), native.values(program, torch.tensor(limits), instructions=instructions), strict=True
            ):
                np.testing.assert_allclose(found.numpy(), function(limits), rtol=1e-15, atol=0)


# from a call of the library


def without(monkeypatch, call):
    """What a call gives where there is no compiled kernel."""
    with monkeypatch.context() as patch:
        for module in (native, library, dense):
            patch.setattr(module, "load", lambda: "turned off by a test")
        assert choose_dense(torch.zeros(1, 2, 1), torch.zeros(1, 1, dtype=torch.long), CCE).engine == "eager"
        return call()


def measured(spec, z, y, factor=1.0, **options):
    z = z.clone().requires_grad_()
    value = adma.make_loss(spec, **options)(z, y)
    (value.sum() * factor).backward()
    return value.detach(), z.grad


@pytest.mark.parametrize("spec", ["cce", "adma:a=0.26", "taylor:order=3"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@every_dtype
def test_calls_agree_with_the_eager_engine(spec, reduction, weighted, dtype, monkeypatch):
    z, y = logits(4, 5, 6, dtype=dtype), torch.randint(5, (4, 6), generator=random())
    weight = torch.tensor([0.5, 1.0, 0.0, 2.0, 3.0], dtype=dtype) if weighted else None
    ignored = torch.where(torch.rand(4, 6, generator=random()) < 0.3, -100, y)
    soft = torch.rand(4, 5, 6, dtype=torch.float64, generator=random()).to(dtype)
    for target, smoothing in ((y, 0.1), (ignored, 0.3), (y, 1.0), (soft, 0.0), (soft, 0.2)):
        options = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
        got = measured(spec, z, target, **options)
        expected = without(monkeypatch, lambda o=options, t=target: measured(spec, z, t, **o))
        near = {} if dtype in (torch.float64, torch.float32) else {"rtol": 4e-3, "atol": 2e-3}
        torch.testing.assert_close(got, expected, **near)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cross_entropy_agrees_with_torch(dtype):
    z, y = logits(40, 70, dtype=dtype), torch.arange(40) % 70
    y[5] = -100
    weight = torch.rand(70, generator=random(), dtype=torch.float64).to(dtype)
    for target in (y, logits(40, 70, dtype=dtype, seed=1).softmax(1)):
        for reduction in ("mean", "sum", "none"):
            x = z.clone().requires_grad_()
            theirs = F.cross_entropy(x, target, weight, reduction=reduction, label_smoothing=0.1)
            theirs.sum().backward()
            ours = measured("cce", z, target, weight=weight, reduction=reduction, label_smoothing=0.1)
            torch.testing.assert_close(ours, (theirs.detach(), x.grad))


def test_nothing_counts_and_no_rows():
    for z, y in ((logits(3, 4), torch.full((3,), -100)), (logits(0, 4), torch.zeros(0, dtype=torch.long))):
        value, gradient = measured("adma", z, y, label_smoothing=0.1)
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("factor", [1.0, 0.25, 3.0, 0.0, -1.75])
@every_dtype
def test_a_factor_behind_the_loss(factor, dtype):
    z, y = logits(30, 7, dtype=dtype), torch.arange(30) % 7
    _, got = measured("adma", z, y, factor, label_smoothing=0.1)
    _, wide = measured("adma", z.double(), y, factor, label_smoothing=0.1)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got.double(), wide, rtol=max(0.51 * eps, 4e-7 if eps > 1e-10 else 1e-12), atol=1e-7)


def test_a_loss_scale_saves_float16_gradients():
    z, y = logits(4096, 10, dtype=torch.float16, spread=3.0), torch.arange(4096) % 10
    x = z.clone().requires_grad_()
    (functional.adma_loss(x, y, label_smoothing=0.1).float() * 2.0**14).backward()
    _, wide = measured("adma", z.double(), y, 2.0**14, label_smoothing=0.1)
    torch.testing.assert_close(x.grad.double(), wide, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_derivatives_of_higher_order(reduction):
    z, y = logits(6, 5, spread=1.0).requires_grad_(), torch.tensor([0, 1, -100, 3, 4, 0])
    soft = logits(6, 5, seed=1).softmax(1)
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    loss_fn = adma.AdmaLoss(weight=weight, label_smoothing=0.1, reduction=reduction)
    for target in (y, soft):
        assert torch.autograd.gradcheck(lambda x, t=target: loss_fn(x, t), z, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(lambda x, t=target: loss_fn(x, t), z)
        value = loss_fn(z, target).sum()
        (first,) = torch.autograd.grad(value, z, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), z)
        curvature = torch.func.hessian(lambda x, t=target: loss_fn(x, t).sum())(z.detach()).reshape(30, 30)
        torch.testing.assert_close(second.flatten(), 2 * curvature @ first.detach().flatten())
        _, tangent = torch.func.jvp(lambda x, t=target: loss_fn(x, t).sum(), (z.detach(),), (torch.ones_like(z),))
        torch.testing.assert_close(tangent, first.detach().sum())


def test_the_gradient_is_handed_out_once_and_made_again():
    z, y = logits(6, 5).requires_grad_(), torch.arange(6) % 5
    value = functional.adma_loss(z, y, label_smoothing=0.1)
    first, second, third = (torch.autograd.grad(value, z, retain_graph=True)[0] for _ in range(3))
    first.zero_()
    assert torch.equal(second, third)
    assert second.any()


def test_whatever_else_wants_a_gradient_gets_it(monkeypatch):
    """More logits than a block of the eager engine holds."""
    z, y = logits(600, 500).requires_grad_(), torch.arange(600) % 500
    soft = logits(600, 500, seed=1).softmax(1).requires_grad_()
    weight = torch.rand(500, dtype=torch.float64, generator=random()).requires_grad_()
    found = torch.autograd.grad(functional.adma_loss(z, soft), (z, soft))
    x = z.detach().requires_grad_()
    torch.testing.assert_close(found[0], torch.autograd.grad(functional.adma_loss(x, soft.detach()), x)[0])
    t = torch.tensor(reference.nll(z.detach().numpy()))
    torch.testing.assert_close(found[1], torch.tensor(adma.family.Adma(0.26).psi(t.numpy())) / 600)
    (by_weight,) = torch.autograd.grad(
        functional.cross_entropy(z, y, weight, reduction="sum", label_smoothing=0.5), weight
    )
    hot = 0.5 * F.one_hot(y, 500) + 0.5 / 500
    torch.testing.assert_close(by_weight, (hot * t).sum(0))
    a = torch.tensor(0.26, dtype=torch.float64, requires_grad=True)
    learned = adma.family.Adma().bind(a=a)
    (slope,) = torch.autograd.grad(functional.flexible_loss(learned, z, y, label_smoothing=0.1), a)
    step = 1e-6
    up, down = (functional.adma_loss(z.detach(), y, a=0.26 + s, label_smoothing=0.1) for s in (step, -step))
    torch.testing.assert_close(slope, (up - down) / (2 * step), rtol=1e-6, atol=0)


# in place


@every_dtype
@pytest.mark.parametrize("soft", [False, True], ids=["smoothed", "probabilities"])
def test_in_place_gives_the_same_in_the_same_memory(dtype, soft):
    z, y = logits(40, 70, dtype=dtype), torch.arange(40) % 70
    target = logits(40, 70, dtype=dtype, seed=1).softmax(1) if soft else y

    def step(inplace):
        leaf = z.clone().requires_grad_()
        held = leaf * 2
        address, seen = held.data_ptr(), []
        value = functional.adma_loss(held, target, label_smoothing=0.1, inplace=inplace)
        held.register_hook(lambda g: seen.append(g.data_ptr()))
        value.backward()
        return value.detach(), leaf.grad, seen[0] == address

    kept, placed = step(False), step(True)
    assert placed[2]
    assert not kept[2]
    assert torch.equal(placed[0], kept[0])
    assert torch.equal(placed[1], kept[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_logits_that_something_else_needs_are_missed(dtype):
    x = logits(8, 5, dtype=dtype).requires_grad_()
    value = functional.adma_loss(torch.tanh(x), torch.arange(8) % 5, label_smoothing=0.1, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_in_place_is_for_one_backward_pass():
    twice = functional.adma_loss(logits(8, 5).requires_grad_() * 1.0, logits(8, 5).softmax(1), inplace=True)
    twice.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        twice.backward()


def test_in_place_without_the_kernel_says_why(monkeypatch):
    x, y = logits(8, 5).requires_grad_() * 1.0, torch.arange(8) % 5
    for match, target, smoothing in (
        ("label_smoothing=0.1", y, 0.1),
        ("holds probabilities", x.detach().softmax(1), 0),
    ):
        with pytest.raises(ValueError, match=f"inplace=True cannot be done: .*{match}.*turned off by a test"):
            without(
                monkeypatch,
                lambda t=target, s=smoothing: functional.adma_loss(x, t, label_smoothing=s, inplace=True),
            )


# which kernel


def test_the_choice_has_a_reason():
    z, y, soft = torch.zeros(1, 2, 1), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 2, 1)
    assert choose_dense(z, y, CCE).engine == choose_dense(z, soft, CCE).engine == "native"
    assert choose_dense(z).engine == choose_dense(z, y).engine == "eager"
    learned = adma.family.Adma().bind(a=torch.tensor(0.3))
    assert choose_dense(z, y, learned).engine == "composed"
    assert "tensor" in choose_dense(z, y, learned).reason
    assert choose_dense(z, soft.clone().requires_grad_(), CCE).engine == "eager"
    assert "class probabilities" in choose_dense(z, soft.clone().requires_grad_(), CCE).reason
    weight = torch.ones(2, requires_grad=True)
    assert "class weights" in choose_dense(z, y, CCE, weight).reason
    assert "meta" in choose_dense(z.to("meta"), y.to("meta"), CCE).reason


def test_only_what_is_cross_entropy_takes_its_shortcut():
    assert dense.identity(CCE)
    assert not any(dense.identity(member) for member in exact.EACH[1:])

    class Uneven(adma.family.CrossEntropy):
        def slope(self, t, xp=np):
            return 2.0 + 0.0 * xp.exp(-t)

    assert not dense.identity(Uneven())
