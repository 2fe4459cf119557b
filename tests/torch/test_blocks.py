"""The eager engine's blocks and hand-written gradient against plain operators, over layouts, sizes and options."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adma
import exact
from adma import functional
from adma import numpy as reference
from adma.torch.kernels import eager

BLOCKS = [1, 7, 64, 1 << 18]


@pytest.fixture(params=BLOCKS, ids=lambda n: f"block{n}")
def block(request, monkeypatch):
    monkeypatch.setattr(eager, "_BLOCK_CPU", request.param)
    return request.param


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(4).to(dtype)


def indices(*shape, classes, seed=1):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def layouts():
    """Logits of many memory layouts, all with the classes on dim 1."""
    yield "plain", random(9, 5)
    yield "one row", random(1, 5)
    yield "columns apart", random(9, 10)[:, ::2]
    yield "rows apart", random(18, 5)[::2]
    yield "transposed", random(5, 9).t()
    yield "expanded", random(1, 5).expand(9, 5)
    yield "image", random(2, 5, 3, 4)
    yield "channels last", random(2, 5, 3, 4).to(memory_format=torch.channels_last)
    yield "sequence", random(3, 7, 5).transpose(1, 2)
    yield "volume", random(2, 3, 2, 2, 5).permute(0, 4, 1, 2, 3)
    yield "few rows, long", random(1, 5, 50)
    yield "many classes", random(3, 200)
    yield "many classes, long", random(2, 70, 3)


def canonical(z):
    return z.reshape(z.shape[0], z.shape[1], -1)


@pytest.mark.parametrize("layout", [name for name, _ in layouts()])
@pytest.mark.parametrize("member", [exact.EACH[2], exact.EACH[5], exact.EACH[0]], ids=exact.name)
def test_eager_is_composed(layout, member, block):
    z = dict(layouts())[layout]
    rest = (z.shape[0], *z.shape[2:])
    y = indices(*rest, classes=z.shape[1])
    y.view(-1)[0] = -100
    rows = functional.flexible_loss(member, z.requires_grad_(), y, reduction="none")
    assert rows.shape == rest
    seed = random(*rest, seed=2)
    (gradient,) = torch.autograd.grad(rows, z, seed)
    assert gradient.shape == z.shape
    x = z.detach().requires_grad_()
    keep = (y != -100).reshape(rest[0], -1)
    expected = eager.composed_index_rows(canonical(x), y.clamp(min=0).reshape(keep.shape), member, keep).reshape(rest)
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x, seed)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_blocks_do_not_change_a_bit(dtype, monkeypatch):
    """A row is computed alike in whatever block it lies."""
    z, y = random(50, 6, dtype=dtype), indices(50, classes=6)

    def run():
        x = z.clone().requires_grad_()
        rows = functional.adma_loss(x, y, reduction="none")
        assert rows.dtype == dtype
        return rows.detach(), torch.autograd.grad(rows, x, torch.ones_like(rows))[0]

    whole = run()
    for size in (7, 64):
        monkeypatch.setattr(eager, "_BLOCK_CPU", size)
        torch.testing.assert_close(run(), whole, rtol=2 * torch.finfo(dtype).eps, atol=0)


def dense_plain(member, z, y, weight, smoothing, keep):
    """The dense loss in plain float64 operators of torch."""
    if y.dim() == 2:
        y = torch.nn.functional.one_hot(y, z.shape[1]).transpose(1, 2).to(z.dtype)
    y = y * (1 - smoothing) + smoothing / z.shape[1]
    psi = member.psi(-torch.log_softmax(z, 1), eager.terms.xp)
    rows = (y * psi * (1 if weight is None else weight[:, None])).sum(1)
    return rows if keep is None else torch.where(keep, rows, 0.0)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
@pytest.mark.parametrize(
    ("target", "learned"),
    [("hard", names) for names in ((), ("z",), ("z", "weight"))]
    + [("soft", names) for names in ((), ("z",), ("z", "y"), ("y",), ("z", "weight"), ("z", "y", "weight"))],
)
def test_dense_blocks(member, target, learned, block):
    z, weight = random(4, 5, 3), random(5, seed=3).abs() + 0.1
    y = indices(4, 3, classes=5) if target == "hard" else random(4, 5, 3, seed=4).softmax(1)
    keep = None
    called = y
    if target == "hard":
        keep = torch.ones(4, 3, dtype=torch.bool)
        keep[1, 2] = keep[3, 0] = False
        called = torch.where(keep, y, -100)
    tensors = {"z": z, "y": y, "weight": weight}
    for name in learned:
        tensors[name].requires_grad_()
    wanted = [tensors[name] for name in learned]
    rows = functional.flexible_loss(
        member, z, called if target == "hard" else y, weight, reduction="none", label_smoothing=0.2
    )
    expected = dense_plain(member, z, y, weight, 0.2, keep)
    torch.testing.assert_close(rows, expected)
    if wanted:
        seed = random(4, 3, seed=5)
        got, true = (torch.autograd.grad(x, wanted, seed) for x in (rows, expected))
        torch.testing.assert_close(got, true)


@pytest.mark.parametrize("spec", exact.CLASSICS)
def test_dense_blocks_of_the_classics(spec, monkeypatch):
    z = random(6, 5, 3)
    for y in (indices(6, 3, classes=5), random(6, 5, 3, seed=4).softmax(1)):
        found = []
        for size in (1 << 18, 7, 64):
            monkeypatch.setattr(eager, "_BLOCK_CPU", size)
            x = z.clone().requires_grad_()
            rows = adma.make_loss(spec, weight=random(5, seed=3).abs(), reduction="none", label_smoothing=0.1)(x, y)
            found.append((rows.detach(), torch.autograd.grad(rows.sum(), x)[0]))
        for other in found[1:]:
            torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_accumulated_wider(smoothing, dtype, block):
    z, y = random(40, 30, dtype=dtype).requires_grad_(), indices(40, classes=30)
    value = functional.adma_loss(z, y, label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad(value, z)
    assert value.dtype == gradient.dtype == dtype
    x = z.detach().double().requires_grad_()
    true = functional.adma_loss(x, y, label_smoothing=smoothing)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(value.double(), true, rtol=eps, atol=0)
    expected = torch.autograd.grad(true, x)[0]
    torch.testing.assert_close(gradient.double(), expected, rtol=2 * eps, atol=2 * torch.finfo(dtype).smallest_normal)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_has_the_layout_of_the_logits(smoothing, block):
    y = indices(2, 3, 4, classes=5)
    image = random(2, 5, 3, 4).to(memory_format=torch.channels_last).requires_grad_()
    functional.adma_loss(image, y, label_smoothing=smoothing).backward()
    assert image.grad.stride() == image.stride()
    rows = random(40, 5).requires_grad_()
    functional.adma_loss(rows, indices(40, classes=5), label_smoothing=smoothing).backward()
    assert rows.grad.is_contiguous()
    sequence = random(3, 7, 5).requires_grad_()
    functional.adma_loss(sequence.transpose(1, 2), indices(3, 7, classes=5), label_smoothing=smoothing).backward()
    assert sequence.grad.is_contiguous()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_backward_twice(smoothing, block):
    z, y = random(30, 5).requires_grad_(), indices(30, classes=5)
    value = functional.adma_loss(z, y, label_smoothing=smoothing)
    value.backward(retain_graph=True)
    once = z.grad.clone()
    value.backward()
    torch.testing.assert_close(z.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("member", [exact.EACH[2], exact.EACH[5]], ids=exact.name)
def test_double_backward(member, smoothing, block):
    z, y = random(6, 5).requires_grad_(), indices(6, classes=5)
    direction = random(6, 5, seed=6)

    def curvature(x, rows):
        (gradient,) = torch.autograd.grad(rows.sum(), x, create_graph=True)
        return torch.autograd.grad((gradient * direction).sum(), x)[0]

    got = curvature(z, functional.flexible_loss(member, z, y, reduction="none", label_smoothing=smoothing))
    x = z.detach().requires_grad_()
    torch.testing.assert_close(got, curvature(x, dense_plain(member, x[:, :, None], y[:, None], None, smoothing, None)))


def test_only_what_is_wanted_is_differentiated(block):
    y = indices(9, classes=5)
    assert not functional.adma_loss(random(9, 5), y).requires_grad
    with torch.no_grad():
        assert not functional.adma_loss(random(9, 5).requires_grad_(), y).requires_grad


def test_the_logits_are_not_changed(block):
    for smoothing in (0.0, 0.1):
        z, y = random(9, 5), indices(9, classes=5)
        y[2] = -100
        before, target = z.clone(), y.clone()
        z.requires_grad_()
        functional.adma_loss(z, y, label_smoothing=smoothing).backward()
        assert torch.equal(z, before)
        assert torch.equal(y, target)


@st.composite
def calls(draw):
    classes = draw(st.integers(1, 12))
    spatial = draw(st.lists(st.integers(1, 4), max_size=2))
    batch = draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    unbatched = not spatial and batch == 1 and draw(st.booleans())
    shape = (classes,) if unbatched else (batch, classes, *spatial)
    rest = () if unbatched else (batch, *spatial)
    z = rng.normal(scale=draw(st.sampled_from([0.1, 3.0, 30.0])), size=shape)
    if draw(st.booleans()):
        y = rng.integers(0, classes, rest)
        if draw(st.booleans()):
            y = np.where(rng.random(rest) < 0.3, -100, y)
    else:
        y = rng.dirichlet(np.ones(classes), (batch, *spatial))
        y = y.reshape(classes) if unbatched else np.moveaxis(y, -1, 1)
    options = {
        "reduction": draw(st.sampled_from(["none", "mean", "sum"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
    }
    weight = rng.uniform(0.1, 3, classes) if draw(st.booleans()) else None
    return z, np.asarray(y), weight, options, draw(st.sampled_from(exact.EACH)), draw(st.sampled_from(BLOCKS))


@settings(max_examples=250)
@given(calls())
def test_any_call_agrees_with_the_reference(case):
    z, y, weight, options, member, size = case
    before = eager._BLOCK_CPU
    eager._BLOCK_CPU = size
    try:
        x = torch.tensor(z).requires_grad_()
        w = None if weight is None else torch.tensor(weight)
        got = functional.flexible_loss(member, x, torch.tensor(y), w, **options)
        (gradient,) = torch.autograd.grad(got.sum(), x)
    finally:
        eager._BLOCK_CPU = before
    expected = reference.loss(member, z, y, weight=weight, **options)
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-10, atol=1e-300)
    slopes = reference.gradient(member, z, y, weight=weight, **options)
    assert gradient.shape == slopes.shape
    np.testing.assert_allclose(gradient.numpy(), slopes, rtol=1e-9, atol=1e-13)
