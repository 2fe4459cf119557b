"""Half-precision calls round their result once: targets, smoothing and weights are combined in a wider type."""

import pytest
import torch

import adma
from adma import spec

SPECS = [name for name in spec.known() if name != "l_softmax"]  # which has a layer, see test_large_margin.py


@pytest.mark.parametrize("loss", SPECS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_one_rounding(loss, smoothing, soft, dtype):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 10, generator=generator).to(dtype)
    weight = (torch.rand(10, generator=generator) + 0.5).to(dtype)
    target = torch.randint(10, (200,), generator=generator)
    if soft:
        target = torch.randn(200, 10, generator=generator).softmax(1).to(dtype)
    wide_target = target.double() if soft else target
    options = {"reduction": "none", "label_smoothing": smoothing}
    rows = adma.make_loss(loss, weight=weight, **options)(z, target)
    wide = adma.make_loss(loss, weight=weight.double(), **options)(z.double(), wide_target)
    assert rows.dtype == dtype
    # half a unit in the last place, and a little for arithmetic in float32
    torch.testing.assert_close(rows.double(), wide, rtol=torch.finfo(dtype).eps * 0.505, atol=torch.finfo(dtype).tiny)


@pytest.mark.parametrize("loss", SPECS)
def test_a_float32_weight_goes_with_half_logits(loss):
    """As it comes from a float32 loss under autocast."""
    z, target = torch.randn(6, 3).half(), torch.tensor([0, 1, 2, 0, 1, 2])
    loss_fn = adma.make_loss(loss, weight=torch.tensor([0.3, 1.0, 2.0]))
    torch.testing.assert_close(loss_fn(z, target).float(), loss_fn(z.float(), target), rtol=1e-3, atol=0)
