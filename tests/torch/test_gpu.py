"""Every loss on a GPU: the numbers of the CPU, in every layout and option. Needs a GPU."""

from __future__ import annotations

import pytest
import torch

import adma
import exact
from adma import functional

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

SPECS = [
    "cce", "adma:a=0.26", "adma:a=0.31,base=2,normalize=true", "gce:q=0.7", "mae", "focal:gamma=2", "poly1", "taylor",
    "agce", "aue", "aexp", *exact.CLASSICS,
]  # fmt: skip
RTOL = {torch.float64: 1e-11, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def both(loss_fn, z, y):
    """Loss and gradient on the CPU in float64 of the same logits, and on the GPU in their own type."""
    reference = z.detach().double().clone().requires_grad_()
    expected = loss_fn.double()(reference, y)
    expected.sum().backward()
    leaf = z.detach().cuda().requires_grad_()
    found = loss_fn.to("cuda", z.dtype)(leaf, y.cuda())
    found.sum().backward()
    return expected.detach(), reference.grad, found.detach().cpu().double(), leaf.grad.cpu().double()


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_values_and_gradients_are_those_of_the_cpu(spec, dtype, reduction):
    torch.manual_seed(0)
    z = (torch.randn(64, 37, dtype=torch.float64) * 6).to(dtype)
    y = torch.randint(37, (64,))
    y[3] = -100
    expected, slope, found, gradient = both(adma.make_loss(spec, reduction=reduction), z, y)
    torch.testing.assert_close(found, expected, rtol=RTOL[dtype], atol=RTOL[dtype] * 1e-3)
    torch.testing.assert_close(gradient, slope, rtol=RTOL[dtype], atol=RTOL[dtype] * float(slope.abs().max()))


@pytest.mark.parametrize("spec", ["cce", "adma:a=0.26", "focal"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weighted": True}], ids=str)
def test_images_weights_and_smoothing(spec, options):
    torch.manual_seed(0)
    z, y = torch.randn(2, 19, 16, 17), torch.randint(19, (2, 16, 17))
    y[0, 0] = 255
    options = dict(options)
    weight = torch.rand(19) if options.pop("weighted", False) else None
    expected, slope, found, gradient = both(adma.make_loss(spec, weight=weight, ignore_index=255, **options), z, y)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, check_dtype=False)
    torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-9)


def test_far_logits_keep_their_accuracy():
    margin = torch.linspace(-80, 80, 161, dtype=torch.float64)
    z = torch.stack([margin, torch.zeros_like(margin), torch.full_like(margin, -3.0)], 1).float()
    y = torch.zeros(161, dtype=torch.int64)
    for spec in ("cce", "adma:a=0.26", "gce:q=0.7", "focal", "poly1:epsilon=-1"):
        expected, slope, found, gradient = both(adma.make_loss(spec, reduction="none"), z, y)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-37)  # focal's underflow float32
        torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-37)


def test_many_classes_and_many_rows():
    torch.manual_seed(0)
    for shape in ((16, 50_000), (100_000, 10)):
        z, y = torch.randn(shape) * 3, torch.randint(shape[1], shape[:1])
        expected, slope, found, gradient = both(adma.AdmaLoss(a=0.26), z, y)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, check_dtype=False)
        torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-12)


def test_under_autocast_and_by_a_scaler():
    torch.manual_seed(0)
    net = torch.nn.Linear(20, 10).cuda()
    x, y = torch.randn(32, 20).cuda(), torch.randint(10, (32,)).cuda()
    with torch.autocast("cuda", dtype=torch.float16):
        loss = adma.AdmaLoss(a=0.26)(net(x), y)
    assert loss.dtype == torch.float32
    torch.amp.GradScaler("cuda").scale(loss).backward()
    assert torch.isfinite(net.weight.grad).all()


def test_nothing_waits_for_the_gpu():
    z, y = torch.randn(64, 10, device="cuda", requires_grad=True), torch.randint(10, (64,), device="cuda")
    loss_fn = adma.AdmaLoss(a=0.26, ignore_index=3)
    loss_fn(z, y).backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss_fn(z, y).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_is_compiled_whole():
    torch.manual_seed(0)
    z, y = torch.randn(256, 100, device="cuda"), torch.randint(100, (256,), device="cuda")
    loss_fn = adma.AdmaLoss(a=0.26)
    leaf, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    found, expected = torch.compile(loss_fn, fullgraph=True)(leaf, y), loss_fn(other, y)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-5, atol=1e-9)


def test_learning_the_shape_gives_the_cpus_numbers():
    def run(device):
        torch.manual_seed(0)
        x, y = torch.randn(512, 8), torch.randint(4, (512,))
        net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).double()
        x, net = x.double().to(device), net.to(device)
        y = y.to(device)
        loss_fn, optimizer = adma.AdmaLoss(a=0.26), torch.optim.Adam(net.parameters(), 1e-2)
        tuner = adma.flex.ShapeTuner(loss_fn, net, optimizer, held_out=(x[:128], y[:128]), every=2)
        for i in range(40):
            batch = slice(128 + 32 * (i % 12), 160 + 32 * (i % 12))
            optimizer.zero_grad()
            loss_fn(net(x[batch]), y[batch]).backward()
            optimizer.step()
            tuner.step(x[batch], y[batch])
        return float(loss_fn.a)

    assert run("cuda") == pytest.approx(run("cpu"), rel=1e-6)
    assert run("cpu") != pytest.approx(0.26, rel=1e-3)


def test_functions_refuse_tensors_of_two_devices():
    with pytest.raises(ValueError, match="target is on cpu, input on cuda"):
        functional.adma_loss(torch.randn(2, 3, device="cuda"), torch.tensor([0, 1]))
