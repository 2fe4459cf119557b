"""Logits that break losses: huge, tiny, tied, masked, NaN next door. A million of them for each member."""

import functools

import numpy as np
import pytest
import torch

import adma
import exact
from adma import functional

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
CLASSES, ROWS = 5, 50_000  # a million logits over the four types


@functools.cache
def hostile(dtype, masked=False):
    """Logits (ROWS, CLASSES) drawn from values at every border of the type, and targets."""
    info = torch.finfo(dtype)
    values = [0.0, -0.0, 1.0, -1.0, 17.0, -17.0, 88.8, -88.8, 200.0, -200.0, 745.2, -745.2, 1e4, -1e4]
    values += [info.max, info.min, info.tiny, -info.tiny, info.smallest_normal / 2, info.eps, -info.eps]
    values += [v for v in (1e30, -1e30, 3e38, -3e38) if abs(v) <= info.max]
    values += [1 + info.eps, 1 - info.eps / 2]
    rng = np.random.default_rng(9)
    z = rng.choice(np.array(values), (ROWS, CLASSES))
    near = rng.normal(scale=5, size=z.shape)
    z = np.where(rng.random(z.shape) < 0.3, near, z)
    z[:100] = z[:100, :1]  # ties
    target = rng.integers(0, CLASSES, ROWS)
    logits = torch.tensor(z).to(dtype)
    if masked:
        mask = torch.tensor(rng.random(z.shape) < 0.4)
        mask[torch.arange(ROWS), torch.tensor(target)] = False
        logits = logits.masked_fill(mask, float("-inf"))
    assert not logits.isnan().any()
    return logits, torch.tensor(target)


def check_finite(loss_fn, bounded, dtype, masked):
    z, target = hostile(dtype, masked)
    z = z.detach().requires_grad_()
    rows = loss_fn(z, target)
    # without it a type's own rounding of the rows' sum decides nothing here
    (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
    assert gradient.isfinite().all()
    assert (rows >= 0).all()
    if bounded:
        assert rows.isfinite().all()
    else:  # the true value t may exceed the type's largest number
        exact_z = z.detach().double()
        gap = (exact_z.amax(1) - exact_z.gather(1, target[:, None])[:, 0]).abs()
        assert rows[gap < torch.finfo(dtype).max / 100].isfinite().all()
        assert not rows.isnan().any()


@pytest.mark.slow
@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_a_million_hostile_logits_give_no_nan(member):
    bounded = np.isfinite(member.supremum)
    for dtype in DTYPES:
        for masked in (False, True):
            check_finite(lambda z, y: functional.flexible_loss(member, z, y, reduction="none"), bounded, dtype, masked)


@pytest.mark.slow
@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_hostile_logits_with_label_smoothing_give_no_nan(member):
    """Where every class has a share, the loss of an unbounded member may be as large as a gap; no class is masked."""
    bounded = np.isfinite(member.supremum)
    for dtype in DTYPES:
        z, target = hostile(dtype)
        z = z[:20_000].detach().requires_grad_()
        rows = functional.flexible_loss(member, z, target[:20_000], reduction="none", label_smoothing=0.1)
        (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
        assert gradient.isfinite().all()
        assert rows.isfinite().all() if bounded else not rows.isnan().any()


@pytest.mark.slow
@pytest.mark.parametrize("spec", exact.CLASSICS)
def test_hostile_logits_to_the_classics_give_no_nan(spec):
    loss_fn = adma.make_loss(spec, reduction="none")
    bounded = not spec.endswith("t1=1,t2=1") and not spec.startswith("sce")
    for dtype in DTYPES:
        if spec.startswith("smoothed_cce"):  # every class has a share, and its t may be beyond the type
            z, target = hostile(dtype)
            z = z.detach().requires_grad_()
            rows = loss_fn(z, target)
            (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
            assert gradient.isfinite().all()
            assert not rows.isnan().any()
            continue
        for masked in (False, True):
            if spec.startswith("semantic"):  # large logits cost their size, and a sum of them may be beyond the type
                z, target = hostile(dtype, masked)
                z = z.detach().requires_grad_()
                rows = loss_fn(z, target)
                (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
                assert gradient.isfinite().all()
                assert (rows >= 0).all()  # and so not NaN
                continue
            check_finite(loss_fn, bounded, dtype, masked)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hostile_binary_logits_give_no_nan(member, dtype):
    z, target = hostile(dtype)
    z = z.flatten().detach().requires_grad_()
    for y in ((target[:, None] > torch.arange(CLASSES)).flatten().to(dtype), torch.full_like(z, 0.25)):
        rows = functional.binary_flexible_loss(member, z, y.detach(), reduction="none")
        (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
        assert gradient.isfinite().all()
        assert not rows.isnan().any()
        if np.isfinite(member.supremum):
            assert rows.isfinite().all()


@pytest.mark.parametrize("member", [m for m in exact.MEMBERS if np.isfinite(m.supremum)], ids=exact.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_impossible_target_costs_the_supremum_and_pulls_nothing(member, dtype):
    z = torch.tensor([[-torch.inf, 0.0, 1.0], [-torch.inf, -torch.inf, 1.0]], dtype=dtype, requires_grad=True)
    target = torch.tensor([0, 1])
    for y in (target, torch.nn.functional.one_hot(target, 3).to(dtype)):  # both ways through the engine
        rows = functional.flexible_loss(member, z, y, reduction="none")
        (gradient,) = torch.autograd.grad(rows.sum(), z)
        torch.testing.assert_close(rows, torch.full((2,), member.supremum, dtype=dtype))
        assert torch.equal(gradient, torch.zeros_like(z))


def test_an_impossible_target_of_an_unbounded_member_is_infinite_not_nan():
    z = torch.tensor([[-torch.inf, 0.0, 1.0]])
    for member in exact.EACH:
        if not np.isfinite(member.supremum):
            assert functional.flexible_loss(member, z, torch.tensor([0])).item() == float("inf")


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
def test_a_masked_class_counts_nothing(member):
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    masked = torch.cat([z[:, :3], torch.full((6, 1), -torch.inf)], 1).requires_grad_()
    plain = z[:, :3].clone().requires_grad_()
    hot = torch.nn.functional.one_hot(target, 4).float()
    for y, y3 in ((target, target), (hot, hot[:, :3])):
        a, b = (functional.flexible_loss(member, x, t, reduction="none") for x, t in ((masked, y), (plain, y3)))
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
        (ga,), (gb,) = torch.autograd.grad(a.sum(), masked), torch.autograd.grad(b.sum(), plain)
        torch.testing.assert_close(ga[:, :3], gb, rtol=1e-6, atol=0)
        assert not ga[:, 3].any()


@pytest.mark.parametrize("spec", [*map(str, range(len(exact.EACH))), *exact.CLASSICS])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_bad_row_stays_in_its_row(spec, bad, smoothing):
    loss = exact.EACH[int(spec)] if spec.isdigit() else spec
    loss_fn = adma.make_loss(loss, reduction="none", label_smoothing=smoothing)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    z[2, 1] = bad
    z.requires_grad_()
    target = torch.tensor([0, 1, 2, 0])
    rows = loss_fn(z, target)
    (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
    others = [0, 1, 3]
    clean = z.detach()[others].requires_grad_()
    expected = loss_fn(clean, target[others])
    torch.testing.assert_close(rows[others], expected)
    torch.testing.assert_close(gradient[others], torch.autograd.grad(expected.sum(), clean)[0])
    if bad != bad:
        assert rows[2].isnan()  # and it is not hidden


@pytest.mark.parametrize("spec", [*map(str, range(len(exact.EACH))), *exact.CLASSICS])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_ignored_row_is_zero_whatever_it_holds(spec, bad, smoothing):
    loss = exact.EACH[int(spec)] if spec.isdigit() else spec
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    z[2] = bad
    z[3, 1] = bad
    z.requires_grad_()
    target = torch.tensor([0, 1, -100, 7])
    target[3] = -100
    rows = adma.make_loss(loss, reduction="none", label_smoothing=smoothing)(z, target)
    (gradient,) = torch.autograd.grad(rows, z, torch.ones_like(rows))
    assert not rows[2:].any()
    assert not gradient[2:].any()
    assert rows[:2].all()
    mean_fn = adma.make_loss(loss, label_smoothing=smoothing)
    torch.testing.assert_close(mean_fn(z, target), mean_fn(z[:2], target[:2]))
