"""Derivatives of every order and kind, and every transformation of PyTorch, through every loss."""

import contextlib

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import adma
import exact
from adma import functional

SPECS = {
    **{exact.name(m): m for m in exact.EACH},
    **{s: s for s in exact.CLASSICS},
}
SOME = ["adma(a=0.26,base=2.718281828,normalize=False)", "focal(gamma=2)", "bi_tempered:t1=0.8,t2=1.2"]

every_loss = pytest.mark.parametrize("spec", SPECS)
some_losses = pytest.mark.parametrize("spec", SOME)
targets = pytest.mark.parametrize("target", ["hard", "smoothed", "soft"])


def case(spec, target="hard", reduction="none"):
    """A loss, logits (3, 4) and a target."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([1, 3, 0])
    if target == "soft":
        y = torch.rand(3, 4, generator=generator, dtype=torch.float64).softmax(1)
    smoothing = 0.1 if target == "smoothed" else 0.0
    return adma.make_loss(SPECS[spec], reduction=reduction, label_smoothing=smoothing), z, y


def close(got, true):
    torch.testing.assert_close(got, true, rtol=1e-9, atol=1e-12)


@every_loss
@targets
def test_gradcheck(spec, target):
    loss_fn, z, y = case(spec, target)
    z.requires_grad_()
    assert gradcheck(lambda x: loss_fn(x, y), z, check_forward_ad=True, check_batched_grad=True)


@every_loss
@targets
def test_gradgradcheck(spec, target):
    loss_fn, z, y = case(spec, target)
    assert gradgradcheck(lambda x: loss_fn(x, y), z.requires_grad_(), check_batched_grad=True)


@every_loss
def test_gradcheck_of_targets_and_weights(spec):
    loss_fn, z, y = case(spec, "soft")
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    loss_fn.weight = weight

    def loss(x, target, w):
        loss_fn.weight = w
        return loss_fn(x, target)

    tensors = [t.requires_grad_() for t in (z, y, weight)]
    assert gradcheck(loss, tensors, check_forward_ad=True, check_batched_grad=True, fast_mode=True)


@every_loss
def test_gradcheck_with_ignored_rows(spec):
    loss_fn, z, y = case(spec)
    y[1] = -100
    assert gradcheck(lambda x: loss_fn(x, y), z.requires_grad_(), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(lambda x: loss_fn(x, y), z, fast_mode=True)


@every_loss
@targets
def test_func_transforms_agree_with_autograd(spec, target):
    loss_fn, z, y = case(spec, target, "sum")

    def loss(x):
        return loss_fn(x, y)

    x = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(x), x)
    direction = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    close(grad(loss)(z), expected)
    close(jacrev(loss)(z), expected)
    close(jacfwd(loss)(z), expected)
    value, tangent = jvp(loss, (z,), (direction,))
    close(value, loss(z))
    close(tangent, (expected * direction).sum())
    curvature = hessian(loss)(z)
    assert curvature.shape == (3, 4, 3, 4)
    close(jacrev(jacrev(loss))(z), curvature)
    close(torch.autograd.functional.hessian(loss, z), curvature)
    close(curvature, curvature.permute(2, 3, 0, 1))


@every_loss
@targets
def test_per_sample_gradients(spec, target):
    loss_fn, z, y = case(spec, target, "sum")
    rows = vmap(loss_fn)(z, y)
    close(rows, torch.stack([loss_fn(z[i], y[i]) for i in range(3)]))
    each = vmap(grad(loss_fn))(z, y)
    for i in range(3):
        close(each[i], grad(loss_fn)(z[i], y[i]))
    close(each, grad(loss_fn)(z, y))


@some_losses
def test_per_sample_gradients_of_a_network(spec):
    """As differential privacy and influence functions take them."""
    loss_fn, z, y = case(spec, reduction="mean")
    network = torch.nn.Linear(4, 4, dtype=torch.float64)
    weights = dict(network.named_parameters())

    def loss(parameters, x, target):
        return loss_fn(functional_call(network, parameters, (x.unsqueeze(0),)), target.unsqueeze(0))

    each = vmap(grad(loss), in_dims=(None, 0, 0))({k: v.detach() for k, v in weights.items()}, z, y)
    loss_fn(network(z), y).backward()
    for name, parameter in weights.items():
        close(each[name].mean(0), parameter.grad)


@some_losses
def test_vmap_over_an_inner_axis(spec):
    loss_fn, z, y = case(spec)
    z = torch.stack([z, 2 * z, -z], 2)
    got = vmap(loss_fn, in_dims=(2, None))(z, y)
    close(got, torch.stack([loss_fn(z[..., i], y) for i in range(3)]))


@some_losses
def test_gradients_of_many_cotangents_at_once(spec):
    loss_fn, z, y = case(spec)
    z.requires_grad_()
    rows = loss_fn(z, y)
    eye = torch.eye(3, dtype=torch.float64)
    (got,) = torch.autograd.grad(rows, z, eye, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        close(got[i], torch.autograd.grad(rows, z, eye[i], retain_graph=True)[0])


@every_loss
def test_binary_losses_transform(spec):
    if isinstance(SPECS[spec], str):
        with pytest.raises(ValueError, match="no binary form"):
            adma.make_loss(SPECS[spec], binary=True)
        return
    loss_fn = adma.make_loss(SPECS[spec], binary=True, reduction="sum")
    z = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    y = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64)
    x = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss_fn(x, y), x)
    close(grad(loss_fn)(z, y), expected)
    close(vmap(grad(loss_fn))(z, y), expected)
    close(hessian(loss_fn)(z, y), jacrev(jacrev(loss_fn))(z, y))


def compiled_agrees(loss_fn, compiled, z, y):
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, expected = compiled(a, y), loss_fn(b, y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, a), torch.autograd.grad(expected, b))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "backend"),
    [
        (lambda: adma.AdmaLoss(), "inductor"),
        (lambda: adma.AdmaLoss(label_smoothing=0.1), "inductor"),
        (lambda: adma.FocalLoss(torch.tensor([1.0, 2.0, 3.0, 0.5])), "aot_eager"),
        (lambda: adma.TaylorCrossEntropyLoss(order=3), "aot_eager"),
        (lambda: adma.AsymmetricGeneralizedCrossEntropyLoss(), "aot_eager"),
        (lambda: adma.SymmetricCrossEntropyLoss(), "aot_eager"),
        (lambda: adma.ActivePassiveLoss(label_smoothing=0.1), "aot_eager"),
        (lambda: adma.BiTemperedLoss(), "aot_eager"),  # whose 26 steps take inductor half a minute
    ],
    ids=["adma", "adma smoothed", "focal weighted", "taylor", "agce", "sce", "nce_rce", "bi_tempered"],
)
def test_compile(build, backend):
    torch._dynamo.reset()
    loss_fn = build()
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, -100, 3, 0, 1])
    compiled_agrees(loss_fn, torch.compile(loss_fn, fullgraph=True, backend=backend), z, y)


@pytest.mark.slow
def test_a_shape_that_changes_under_compile():
    """A schedule of `a` is seen by compiled code, not frozen into it."""
    torch._dynamo.reset()
    loss_fn = adma.AdmaLoss(a=0.1)
    compiled = torch.compile(loss_fn, fullgraph=True, backend="aot_eager")
    z, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    values = []
    for a in (0.1, 0.2, 0.3):
        loss_fn.a = a
        compiled_agrees(adma.AdmaLoss(a=a), compiled, z, y)
        values.append(compiled(z, y).item())
    assert len(set(values)) == 3

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=False)
    def scheduled(x, target, a):
        return functional.adma_loss(x, target, a=a)

    for a in (0.1, 0.2, 0.3, 0.7):  # past the convex range the warning cannot be compiled, the loss can
        with pytest.warns(UserWarning, match="convex") if a > 0.5 else contextlib.nullcontext():
            expected = functional.adma_loss(z, y, a=a)
        torch.testing.assert_close(scheduled(z, y, a), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [("focal_loss", {"gamma": 1.5}), ("taylor_cross_entropy", {"order": 3}), ("mean_squared_error", {})],
)
def test_compile_of_a_function(name, shape):
    torch._dynamo.reset()
    function = getattr(functional, name)

    def loss(x, y):
        return function(x, y, label_smoothing=0.1, **shape)

    z, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    compiled_agrees(loss, torch.compile(loss, fullgraph=True, backend="aot_eager"), z, y)


@pytest.mark.slow
def test_compile_of_a_whole_step():
    torch._dynamo.reset()
    torch.manual_seed(0)
    network, loss_fn = torch.nn.Linear(5, 3), adma.AdmaLoss(label_smoothing=0.1)
    x, y = torch.randn(8, 5), torch.randint(3, (8,))

    def loss(x, y):
        return loss_fn(network(x), y)

    loss(x, y).backward()
    expected = network.weight.grad.clone()
    network.weight.grad = None
    torch.compile(loss, fullgraph=True, backend="aot_eager")(x, y).backward()
    torch.testing.assert_close(network.weight.grad, expected)


@pytest.mark.slow
def test_compile_of_a_hessian():
    torch._dynamo.reset()
    loss_fn = adma.AdmaLoss(a=0.3)
    z, y = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.tensor([0, 2])

    def curvature(x):
        return hessian(lambda v: loss_fn(v, y))(x)

    compiled = torch.compile(curvature, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z), curvature(z))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@every_loss
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_jit_trace(spec, smoothing):
    loss_fn = adma.make_loss(SPECS[spec], label_smoothing=smoothing)
    z, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    traced = torch.jit.trace(loss_fn, (z, y))
    # other values than those of the trace, a target to ignore among them
    compiled_agrees(loss_fn, traced, z.flip(0) * 2, torch.tensor([1, -100, 0, 3, 2, 2]))


@some_losses
@targets
def test_export(spec, target):
    loss_fn, z, y = case(spec, target, "mean")
    exported = torch.export.export(loss_fn, (z, y)).module()
    close(exported(z.flip(0), y), loss_fn(z.flip(0), y))


@some_losses
@pytest.mark.parametrize("how", [{}, {"tracing_mode": "fake"}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_make_fx_records_the_loss_and_not_a_number(spec, how, reduction):
    loss_fn, z, y = case(spec, reduction=reduction)

    def both(x, target):
        x = x.detach().requires_grad_()
        loss = loss_fn(x, target)
        return loss.detach(), *torch.autograd.grad(loss.sum(), x)

    recorded = make_fx(both, **how)(z, y)
    later = torch.tensor([0, -100, 2])  # what is ignored may not have been there when it was recorded
    for got, true in zip(recorded(-z, later), both(-z, later), strict=True):
        close(got, true)
    recorded = make_fx(loss_fn, pre_dispatch=True)(z, y)
    close(recorded(-z, later), loss_fn(-z, later))


def test_the_gradient_is_of_the_value_that_was_computed():
    loss_fn, z, y = case(SOME[0], reduction="mean")
    z.requires_grad_()
    value = loss_fn(z, y)
    loss_fn.a = 0.4  # after the call: the gradient is that of the value
    (gradient,) = torch.autograd.grad(value, z)
    x = z.detach().requires_grad_()
    close(gradient, torch.autograd.grad(adma.AdmaLoss(a=0.26)(x, y), x)[0])


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("adma:a=0.3,base=2.5", "a"),
        ("adma:a=0.3,base=2.5", "base"),
        ("agce:a=0.6,q=0.6", "a"),
        ("agce:a=0.6,q=0.6", "q"),
        ("aue:a=1.5,q=0.9", "a"),
        ("aue:a=1.5,q=0.9", "q"),
        ("aexp", "a"),
    ],
)
def test_a_shape_can_be_learned(spec, name):
    """`bind` puts a tensor in the place of a parameter; gradients reach it."""
    member = adma.parse(spec)
    _, z, y = case(SOME[0])

    def loss(x, value):
        return functional.flexible_loss(member.bind(**{name: value}), x, y, reduction="none")

    value = torch.tensor(getattr(member, name), dtype=torch.float64, requires_grad=True)
    close(loss(z, value), functional.flexible_loss(member, z, y, reduction="none"))
    assert gradcheck(loss, (z.requires_grad_(), value))


CHANGED = {  # of a target and class weights
    "rows": lambda z, y, w: functional.adma_loss(z, y, w, reduction="none"),
    "smoothed rows": lambda z, y, w: functional.adma_loss(z, y, w, reduction="none", label_smoothing=0.1),
    "smoothed float16": lambda z, y, w: functional.adma_loss(z.half(), y, w, label_smoothing=0.1),
    "probabilities": lambda z, y, w: functional.adma_loss(z, z.detach().softmax(1), w, reduction="none"),
    "smoothed mean": lambda z, y, w: functional.adma_loss(z, y, w, label_smoothing=0.1),
    "squared error": lambda z, y, w: functional.mean_squared_error(z, y, w),
    "linear rows": lambda z, y, w: functional.linear_adma_loss(z, LAYER, y, weight=w, reduction="none"),
    "linear, smoothed rows": lambda z, y, w: functional.linear_adma_loss(
        z, LAYER, y, weight=w, reduction="none", label_smoothing=0.1
    ),
}
LAYER = torch.eye(100)


@pytest.mark.parametrize("changed", ["target", "weight"])
@pytest.mark.parametrize("loss", CHANGED)
def test_what_is_changed_before_the_backward_pass_is_never_read_in_silence(loss, changed):
    """The gradient is that of the value, or autograd says that a tensor was modified."""
    z = torch.randn(3000, 100, generator=torch.Generator().manual_seed(0))  # more than a block of the eager engine
    true, got = z.clone().requires_grad_(), z.clone().requires_grad_()
    for x in (true, got):
        y, w = torch.arange(3000) % 100, torch.linspace(0.5, 2.0, 100)
        value = CHANGED[loss](x, y, w).sum()
        if x is got:
            (y if changed == "target" else w).mul_(0)
        try:
            value.backward()
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            return
    torch.testing.assert_close(got.grad, true.grad)
