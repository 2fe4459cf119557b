"""The last layer and the loss together on a GPU: the CPU's numbers, no waiting, no logits. Needs a GPU."""

from __future__ import annotations

import pytest
import torch

import adma
from adma import functional as AF
from adma.torch.linear_checks import LinearLossOptions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

RTOL = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
EXTRAS = [{}, {"softcap": 5.0, "z_loss": 1e-3}, {"label_smoothing": 0.1}]


def run(device, dtype, tensors, **options):
    """Loss and the three gradients, on the CPU again and in float64."""
    x, w, b, y = tensors
    leaves = [t.to(device, dtype).requires_grad_() for t in (x, w, b)]
    loss = AF.linear_adma_loss(leaves[0], leaves[1], y.to(device), linear_bias=leaves[2], **options)
    return [t.detach().cpu().double() for t in (loss, *torch.autograd.grad(loss.sum(), leaves))]


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("skip", [None, True])
def test_values_and_gradients_are_those_of_the_cpu(dtype, extra, reduction, skip):
    torch.manual_seed(0)
    tensors = [torch.randn(s, dtype=torch.float64).to(dtype).double() for s in ((4, 40, 32), (200, 32), (200,))]
    y = torch.randint(200, (4, 40))
    y[0, :7] = -100
    expected = run("cpu", torch.float64, (*tensors, y), reduction=reduction, **extra)
    for size in (None, 48):
        options = LinearLossOptions(batch_chunk_size=size, skip_ignored=skip)
        found = run("cuda", dtype, (*tensors, y), reduction=reduction, options=options, **extra)
        for a, e in zip(found, expected, strict=True):
            assert a.shape == e.shape
            assert (a - e).norm() <= RTOL[dtype] * e.norm()


def test_autocast_and_a_scaler():
    torch.manual_seed(0)
    head = adma.LinearAdmaLoss(20, 50, bias=True, device="cuda")
    x, y = torch.randn(32, 20, device="cuda", requires_grad=True), torch.randint(50, (32,), device="cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        loss = head(x, y)
    assert loss.dtype == torch.float32
    torch.amp.GradScaler("cuda").scale(loss).backward()
    assert head.linear.weight.grad.dtype == x.grad.dtype == torch.float32
    wide = torch.autograd.grad(head(x, y), x)[0] * 65536
    assert (x.grad - wide).norm() <= 1e-2 * wide.norm()


def test_nothing_waits_for_the_gpu():
    x, w = (torch.randn(s, device="cuda", requires_grad=True) for s in ((64, 16), (100, 16)))
    y = torch.randint(100, (64,), device="cuda")
    options = LinearLossOptions(batch_chunk_size=24)
    weight = torch.rand(100, device="cuda")

    def step():
        for extra in EXTRAS:
            loss = AF.linear_adma_loss(x, w, y, weight=weight, ignore_index=3, options=options, **extra)
            (loss * 2).backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_logits_are_never_whole(factor):
    n, h, c = 4096, 128, 128_000  # logits of 1000 MiB in bfloat16
    x, w = (torch.randn(s, device="cuda", dtype=torch.bfloat16, requires_grad=True) for s in ((n, h), (c, h)))
    y = torch.randint(c, (n,), device="cuda")
    options = LinearLossOptions(batch_chunk_size=64)  # 15.6 MiB
    for _ in range(2):
        x.grad = w.grad = None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        (factor * AF.linear_adma_loss(x, w, y, options=options)).backward()
    gradients = 2 * (x.numel() + w.numel()) + 4 * w.numel()  # 64 chunks: the weight's is summed in float32
    assert torch.cuda.max_memory_allocated() - before < gradients + (200 << 20)
