"""The U-Net, and what a network must give where there is a label for each position."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adma.bench.data.dataset import Kind
from adma.bench.errors import BenchError
from adma.bench.models import UNet, build_model, canonical_model, check_model, parameter_groups


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (8, 9)])
def test_logits_have_the_size_of_the_image(size: tuple[int, int]) -> None:
    model = build_model("unet:width=4", (3, *size), 5)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5, *size)


def test_what_stands_far_off_reaches_a_pixel_by_the_depth_alone() -> None:
    """Each level doubles the field of view; the beside-paths keep single pixels."""

    def reach(depth: int) -> int:
        torch.manual_seed(0)
        model = build_model(f"unet:width=4,depth={depth}", (1, 64, 64), 2).eval()
        for block in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
            block[2] = block[5] = nn.Identity()  # a unit that is off would hide what it sees
        x = torch.randn(1, 1, 64, 64, requires_grad=True)
        model(x)[0, 0, 32, 32].backward()
        rows = x.grad[0, 0].abs().sum(1).nonzero()
        return int(rows.max() - rows.min()) + 1

    assert 9 <= reach(1) < reach(2) < reach(3) <= 64


def test_every_weight_is_trained_and_convolutions_have_the_decay() -> None:
    model = build_model("unet:depth=2,width=4,dropout=0.1", (1, 8, 8), 3)
    model(torch.randn(2, 1, 8, 8)).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    decayed = {id(p) for p in parameter_groups(model, 0.1)[0]["params"]}
    kernels = [p for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for p in [m.weight]]
    assert decayed == {id(p) for p in kernels}


def test_its_spec() -> None:
    assert canonical_model("unet:width=16,depth=2") == "unet:depth=2"
    assert isinstance(build_model("unet", (1, 8, 8), 3), UNet)
    with pytest.raises(BenchError, match="4 x 9 are too small to be halved 3 times; give --model unet:depth=2"):
        build_model("unet", (1, 4, 9), 3)
    with pytest.raises(BenchError, match="takes images"):
        build_model("unet", (12,), 3)


SEGMENTS, TOKENS = Kind((8, 8)), Kind((6,), vocabulary=11)


def tagger(in_channels: int, num_classes: int) -> nn.Module:
    assert in_channels == 6
    return nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, num_classes), Swapped())


class Swapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_a_network_is_checked_on_what_it_will_be_given() -> None:
    check_model("unet:depth=2", (1, 8, 8), 3, ["cce", "mse"], SEGMENTS)
    check_model("test_unet:tagger", (6,), 3, (), TOKENS)
    with pytest.raises(BenchError, match=r"must give logits \(2, 3, 8, 8\), got \(2, 3\); .*; try --model unet"):
        check_model("convnet", (1, 8, 8), 3, (), SEGMENTS)
    with pytest.raises(BenchError, match=r"must give logits \(2, 3\), got \(2, 3, 8, 8\)"):
        check_model("unet:depth=2", (1, 8, 8), 3)
    with pytest.raises(BenchError, match=r"fails on samples of shape .*IndexError"):
        check_model("test_unet:tagger", (6,), 3, (), Kind((6,), vocabulary=12))  # more ids than the embedding has
