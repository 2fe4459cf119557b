"""The networks: the paper's ConvNet at every size, L2 where it belongs, the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from adma.bench.errors import BenchError
from adma.bench.models import ConvNet, build_model, check_model, parameter_groups


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (75, 100), (150, 150), (9, 31)])
def test_convnet_fits_every_size(size: tuple[int, int]) -> None:
    model = ConvNet(3, 7, size).eval()
    assert model(torch.zeros(2, 3, *size)).shape == (2, 7)


def test_convnet_is_the_papers() -> None:
    layers = list(ConvNet(1, 10, (28, 28)))
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 32, 64, 64, 128, 128]
    assert {m.kernel_size for m in convolutions} == {(3, 3)}
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.2, 0.3, 0.4]
    assert sum(isinstance(m, nn.ELU) for m in layers) == 6
    assert sum(isinstance(m, nn.MaxPool2d) for m in layers) == 3


def test_too_small_images_are_refused() -> None:
    with pytest.raises(BenchError, match=r"images of 7 x 20 are too small.*8 x 8"):
        build_model("convnet", (1, 7, 20), 3)


def test_weight_decay_is_on_convolutions_only() -> None:
    model = ConvNet(1, 10, (8, 8))
    decayed, rest = parameter_groups(model, 1e-4)
    assert decayed["weight_decay"] == 1e-4
    assert rest["weight_decay"] == 0.0
    ids = {id(p) for p in decayed["params"]}  # type: ignore[attr-defined]
    assert ids == {id(m.weight) for m in model if isinstance(m, nn.Conv2d)}
    assert len(decayed["params"]) + len(rest["params"]) == len(list(model.parameters()))  # type: ignore[arg-type]


def test_weight_decay_without_convolutions_is_on_linear_weights() -> None:
    model = build_model("mlp", (5,), 3)
    decayed, _ = parameter_groups(model, 0.1)
    assert {p.dim() for p in decayed["params"]} == {2}  # type: ignore[attr-defined]


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def good(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))\n"
        "def wrong_shape(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes + 1))\n"
        "def no_module(in_channels, num_classes):\n    return 3\n"
        "def breaks(in_channels, num_classes):\n    raise RuntimeError('no luck')\n"
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("user_module")
def test_a_users_own_network() -> None:
    check_model("my_nets:good", (3, 16, 16), 4)
    assert build_model("my_nets:good", (3, 16, 16), 4)(torch.zeros(2, 3, 16, 16)).shape == (2, 4)


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convent", "did you mean 'convnet'"),
        ("my_nets:god", "did you mean 'good'"),
        ("my_nuts:good", "no module named 'my_nuts'"),
        ("my_nets:wrong_shape", r"must give logits \(2, 4\), got \(2, 5\)"),
        ("my_nets:no_module", "must return a torch.nn.Module, got int"),
        ("my_nets:breaks", "RuntimeError: no luck"),
    ],
)
def test_a_network_that_does_not_serve_is_told(name: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        check_model(name, (3, 16, 16), 4)


def test_checking_a_model_does_not_disturb_the_random_state() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    check_model("convnet", (1, 8, 8), 3)
    assert torch.rand(1) == expected
