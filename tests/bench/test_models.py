"""The networks: the paper's ConvNet and its variants at every size, ResNet34's top layers, L2, the user's own."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from adma.bench.errors import BenchError
from adma.bench.models import BUILT_IN, ConvNet, build_model, canonical_model, check_model, parameter_groups

SHAPES = [(1, 28, 28), (3, 75, 100), (1, 8, 8)]


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


def test_plain_convnet_draws_the_weights_it_always_drew() -> None:
    def block(inputs: int, count: int, rate: float) -> list[nn.Module]:
        first = [nn.Conv2d(inputs, count, 3, padding=1), nn.ELU(), nn.BatchNorm2d(count)]
        second = [nn.Conv2d(count, count, 3, padding=1), nn.ELU(), nn.BatchNorm2d(count)]
        return [*first, *second, nn.MaxPool2d(2), nn.Dropout(rate)]

    torch.manual_seed(3)
    blocks = [*block(1, 32, 0.2), *block(32, 64, 0.3), *block(64, 128, 0.4)]
    expected = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(128 * 9, 10))
    torch.manual_seed(3)
    model = build_model("convnet", (1, 28, 28), 10)
    assert [str(m) for m in model] == [str(m) for m in expected]
    found, wanted = model.state_dict(), expected.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(BenchError, match=r"images of 7 x 20 are too small.*8 x 8"):
        build_model("convnet", (1, 7, 20), 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        "activation=relu",
        "activation=leaky_relu",
        "activation=maxout",
        "dropout=0.5",
        "dropout=0",
        "kernel=1",
        "kernel=5",
        "stride=2",
        "kernel=5,stride=3",
        "batchnorm=false",
        "activation=maxout,dropout=0.1,kernel=7,stride=2,batchnorm=false",
    ],
)
def test_every_variant_of_the_convnet_learns_from_every_shape(options: str, shape: tuple[int, int, int]) -> None:
    model = build_model(f"convnet:filters=4,{options}", shape, 5)
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_options_build_what_they_say() -> None:
    layers = list(build_model("convnet:activation=leaky_relu,dropout=0.25,kernel=5,filters=16", (1, 28, 28), 10))
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16, 16, 32, 32, 64, 64]
    assert {m.kernel_size for m in convolutions} == {(5, 5)}
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.25] * 3
    assert [m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)] == [0.01] * 6
    assert sum(isinstance(m, nn.BatchNorm2d) for m in layers) == 6

    bare = list(build_model("convnet:dropout=0,batchnorm=false", (1, 28, 28), 10))
    assert not any(isinstance(m, (nn.Dropout, nn.BatchNorm2d)) for m in bare)


def test_a_stride_takes_the_poolings_place_in_the_second_convolution_of_a_block() -> None:
    layers = list(build_model("convnet:stride=2", (1, 28, 20), 10))
    assert [m.stride for m in layers if isinstance(m, nn.Conv2d)] == [(1, 1), (2, 2)] * 3
    assert not any(isinstance(m, nn.MaxPool2d) for m in layers)
    (dense,) = [m for m in layers if isinstance(m, nn.Linear)]
    assert dense.in_features == 128 * math.ceil(28 / 8) * math.ceil(20 / 8)


def test_maxout_is_the_larger_of_each_pair_of_filters() -> None:
    model = build_model("convnet:activation=maxout,filters=2", (1, 8, 8), 3)
    convolution, maxout = model[0], model[1]
    assert convolution.out_channels == 4
    x = torch.randn(1, 1, 8, 8)
    four = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
    expected = torch.stack([torch.maximum(four[:, 0], four[:, 1]), torch.maximum(four[:, 2], four[:, 3])], 1)
    assert torch.equal(maxout(convolution(x)), expected)
    decayed, _ = parameter_groups(model, 1e-4)
    assert [p.shape[0] for p in decayed["params"]] == [4, 4, 8, 8, 16, 16]  # type: ignore[attr-defined]


# ---- specs


OPTIONS = {
    "activation": st.sampled_from(["elu", "relu", "leaky_relu", "maxout"]),
    "dropout": st.floats(0, 1, exclude_max=True).map(repr),
    "kernel": st.integers(0, 6).map(lambda n: str(2 * n + 1)),
    "stride": st.just("1"),
    "filters": st.integers(1, 999).map(str),
    "batchnorm": st.sampled_from(["true", "false", "True"]),
}
CONVNETS = st.fixed_dictionaries({}, optional=OPTIONS).flatmap(lambda chosen: st.permutations(sorted(chosen.items())))


@given(CONVNETS, st.sampled_from(["", " "]))
def test_the_canonical_spelling_is_one(pairs: list[tuple[str, str]], space: str) -> None:
    text = "convnet" + (":" if pairs else "") + f",{space}".join(f"{k}{space}={space}{v}" for k, v in pairs)
    canonical = canonical_model(text)
    assert canonical_model(canonical) == canonical
    assert canonical == canonical_model(
        "convnet" + (":" if pairs else "") + ",".join(f"{k}={v}" for k, v in pairs[::-1])
    )
    written = dict(pair.split("=") for pair in canonical.partition(":")[2].split(",") if pair)
    assert list(written) == [key for key in OPTIONS if key in written]  # a fixed order
    defaults = {"activation": "elu", "kernel": "3", "stride": "1", "filters": "32", "batchnorm": "true"}
    for key, value in pairs:
        value = value.lower()
        if key == "dropout":
            assert float(written[key]) == float(value)  # exactly
        elif value == defaults[key]:
            assert key not in written
        else:
            assert written[key] == value


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" convnet ", "convnet"),
        ("convnet:stride=2, kernel=3", "convnet:stride=2"),
        ("convnet:dropout=.50,activation=elu", "convnet:dropout=0.5"),
        ("convnet:dropout=-0.0", "convnet:dropout=0.0"),
        ("mlp", "mlp"),
        ("resnet34:top=5,weights=pretrained", "resnet34"),
        ("resnet34:size=64,top=all,weights=none", "resnet34:weights=none,top=34,size=64"),
        ("resnet34:weights=./none", "resnet34:weights=./none"),
        ("package.module:function", "package.module:function"),
        ("convnet:build", "convnet:build"),  # a function of the user's own module convnet
    ],
)
def test_canonical_spellings(text: str, canonical: str) -> None:
    assert canonical_model(text) == canonical
    assert canonical_model(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("convent", "convent: not known, did you mean 'convnet'"),
        ("convent:kernel=3", "did you mean 'convnet'"),
        ("convnet:activaton=relu", "no option 'activaton', did you mean 'activation'.*it has activation, dropout"),
        ("convnet:activation=rely", "activation must be one of elu, .*, got 'rely', did you mean 'relu'"),
        ("convnet:kernel=4", "kernel must be an odd whole number, at least 1, got '4'"),
        ("convnet:kernel=3.0", "got '3.0'"),
        ("convnet:filters=1_6", "filters must be a whole number, at least 1, got '1_6'"),
        ("convnet:filters=0", "got '0'"),
        ("convnet:dropout=1", r"dropout must be a number in \[0, 1\), got '1'"),
        ("convnet:dropout=nan", "got 'nan'"),
        ("convnet:batchnorm=no", "batchnorm must be true or false, got 'no'"),
        ("convnet:stride=4", "stride must be at most the kernel, 3.* got 4"),
        ("convnet:kernel=5,kernel=7", "kernel is given twice"),
        ("convnet:kernel=5,", "'' is not of the form key=value"),
        ("convnet:", "nothing stands behind the colon"),
        ("mlp:width=3", "mlp has no options"),
        ("resnet34:top=0", "top must be a whole number from 1.* to 34, or all, got '0'"),
        ("resnet34:top=35", "got '35'"),
        ("resnet34:size=big", "size must be a whole number"),
        (None, "--model must be text"),
    ],
)
def test_a_spec_that_stands_for_nothing_is_told(text: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        canonical_model(text)
    with pytest.raises(BenchError, match=words):
        build_model(text, (3, 16, 16), 4)


# ---- L2


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


def test_frozen_parameters_are_in_no_group_and_a_shared_one_is_in_one() -> None:
    frozen, first, second = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)
    frozen.requires_grad_(False)
    second.weight = first.weight
    groups = parameter_groups(nn.Sequential(frozen, first, second), 0.1)
    assert [[id(p) for p in g["params"]] for g in groups] == [[id(first.weight)], [id(first.bias), id(second.bias)]]  # type: ignore[attr-defined]


# ---- ResNet34


needs_transformers = pytest.mark.usefixtures("_transformers")


@pytest.fixture
def _transformers() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: RESNET34 WAS NOT TESTED")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub's: a whole classifier of 1000 classes, written by transformers from its own numbers."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: RESNET34 WAS NOT TESTED")
    torch.manual_seed(8)
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[3, 4, 6, 3], layer_type="basic", num_labels=1000
    )
    folder = tmp_path_factory.mktemp("stored")
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    return folder


def resnet(options: str = "top=5", shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    torch.manual_seed(0)
    return build_model(f"resnet34:weights=none,{options}", shape, 10)


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@needs_transformers
def test_resnet34_is_resnet34() -> None:
    # 21,797,672 parameters with the 1000 classes of ImageNet (torchvision's documentation of resnet34)
    model = resnet()
    count = sum(p.numel() for p in model.parameters())
    assert count - (512 + 1) * 10 + (512 + 1) * 1000 == 21_797_672
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in model.modules()) == 33


@needs_transformers
@pytest.mark.parametrize("shape", SHAPES)
def test_resnet34_takes_grey_and_colour_of_every_size(shape: tuple[int, int, int]) -> None:
    model = resnet(shape=shape)
    assert model(torch.randn(2, *shape)).shape == (2, 10)


@needs_transformers
def test_top_counts_layers_from_the_output() -> None:
    classifier = {"classifier.weight", "classifier.bias"}
    names = {name for name, _ in resnet("top=all").named_parameters()}
    assert trained(resnet("top=1")) == classifier
    last_two_blocks = {
        n for n in names if n.startswith(("features.encoder.stages.3.layers.1", "features.encoder.stages.3.layers.2"))
    }
    assert trained(resnet("top=5")) == classifier | last_two_blocks
    assert len(last_two_blocks) == 4 * 3  # a weight, and the two of the batch normalisation
    # the sixth is the second convolution of the block before; the seventh its first, with the shortcut
    sixth = {n for n in names if n.startswith("features.encoder.stages.3.layers.0.layer.1")}
    assert trained(resnet("top=6")) == classifier | last_two_blocks | sixth
    assert trained(resnet("top=7")) == {n for n in names if ".stages.3." in n} | classifier
    assert names - trained(resnet("top=33")) == {n for n in names if ".embedder." in n}
    assert trained(resnet("top=34")) == trained(resnet("top=all")) == names


@needs_transformers
def test_training_moves_the_top_and_leaves_the_rest() -> None:
    model = resnet(shape=(1, 32, 32))
    groups = parameter_groups(model, 1e-4)
    assert all(p.requires_grad for g in groups for p in g["params"])  # type: ignore[attr-defined]
    assert sum(len(g["params"]) for g in groups) == len(trained(model))  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(groups, lr=0.1)
    model.eval()
    model.train()  # what a loop does after it measured
    F.cross_entropy(model(torch.randn(2, 1, 32, 32)), torch.tensor([1, 2])).backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    prefixes = ("classifier.", "features.encoder.stages.3.layers.1.", "features.encoder.stages.3.layers.2.")
    top = {name for name in before if name.startswith(prefixes)}  # with the running means and variances
    assert moved == top


@needs_transformers
def test_training_everything_moves_everything() -> None:
    model = resnet("top=all")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([1, 2])).backward()
    assert all(p.grad is not None for p in model.parameters())
    still = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert still == {name for name, _ in model.named_parameters()}  # all running statistics moved


@needs_transformers
def test_top_one_has_its_l2_on_the_classifier() -> None:
    model = resnet("top=1")
    decayed, rest = parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [(10, 512)]  # type: ignore[attr-defined]
    assert [p.shape for p in rest["params"]] == [(10,)]  # type: ignore[attr-defined]


@needs_transformers
def test_grey_images_are_repeated_and_enlarged() -> None:
    small, large = resnet(shape=(1, 8, 12)).eval(), resnet("size=16", shape=(1, 8, 12)).eval()
    x = torch.randn(2, 1, 8, 12)
    assert torch.equal(
        small(x),
        small.features(x.repeat(1, 3, 1, 1)).pooler_output[..., 0, 0] @ small.classifier.weight.T
        + small.classifier.bias,
    )
    enlarged = bilinear(bilinear(x, 16, 2), 16, 3)
    assert torch.allclose(large(x), small(enlarged), rtol=1e-3, atol=1e-3 * float(small(enlarged).detach().abs().max()))
    assert not torch.allclose(large(x), small(x), rtol=1e-2)


def bilinear(x: Tensor, size: int, axis: int) -> Tensor:
    """Linear along one axis: pixel centres at (i + 1/2) n / size - 1/2, edges repeated."""
    n = x.shape[axis]
    at = ((torch.arange(size) + 0.5) * n / size - 0.5).clamp(0, n - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=n - 1)
    part = (at - low).reshape([-1 if d == axis else 1 for d in range(x.dim())])
    return x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part


@needs_transformers
@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("resnet34:weights=none,size=16", (3, 20, 10), "size=16 only enlarges.*20 x 10.*at least 20"),
        ("resnet34:weights=none", (4, 20, 20), "1 or 3 channels, these have 4"),
        ("resnet34:weights=none", (20,), r"takes images \(C, H, W\)"),
        ("resnet34:weights=no_such_folder", (3, 8, 8), "there is no file 'no_such_folder.model.safetensors'"),
    ],
)
def test_what_resnet34_cannot_do_is_told(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        build_model(name, shape, 4)


def test_weights_from_a_folder(stored: Path) -> None:
    from transformers import ResNetForImageClassification

    reference = ResNetForImageClassification.from_pretrained(stored).eval()
    model = build_model(f"resnet34:weights={stored}", (3, 32, 32), 4).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = reference(x, output_hidden_states=True).hidden_states[-1].mean((2, 3))
    with torch.no_grad():
        model.classifier.weight.copy_(torch.eye(4, 512))
        model.classifier.bias.zero_()
    assert torch.allclose(model(x), expected[:, :4], rtol=1e-5)
    assert not torch.allclose(model(x), resnet().features(x).pooler_output[:, :4, 0, 0], rtol=0.1)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_weights_of_another_network_are_refused(stored: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def write(state: dict[str, Tensor]) -> str:
        save_file(state, tmp_path / "model.safetensors")
        return f"resnet34:weights={tmp_path}"

    whole = load_file(stored / "model.safetensors")
    name = "resnet.embedder.embedder.convolution.weight"
    with pytest.raises(BenchError, match=r"1 weights are missing and 0 do not belong, such as 'embedder\.embedder"):
        build_model(write({k: v for k, v in whole.items() if k != name}), (3, 32, 32), 4)
    with pytest.raises(BenchError, match="0 weights are missing and 1 do not belong, such as 'more'"):
        build_model(write({**whole, "more": torch.zeros(1)}), (3, 32, 32), 4)
    with pytest.raises(BenchError, match=r"cannot be used: .*size mismatch"):
        build_model(write({**whole, name: torch.zeros(1)}), (3, 32, 32), 4)
    (tmp_path / "model.safetensors").write_bytes(b"half of a fi")
    with pytest.raises(BenchError, match=r"model\.safetensors' cannot be used: Safetensor"):
        build_model(f"resnet34:weights={tmp_path}", (3, 32, 32), 4)


def test_pretrained_weights_without_a_network(stored: Path, tmp_path: Path) -> None:
    """In a process of its own, as the hub's client reads its settings once: first nothing is cached, then all is."""
    script = (
        "import os, shutil, sys\n"
        "import torch\n"
        "from adma.bench.errors import BenchError\n"
        "from adma.bench.models import build_model\n"
        "from adma.bench.models.resnet import REVISION\n"
        "try:\n"
        "    build_model('resnet34', (3, 32, 32), 4)\n"
        "except BenchError as error:\n"
        "    print(error)\n"
        "snapshot = os.path.join(sys.argv[1], 'hub', 'models--microsoft--resnet-34', 'snapshots', REVISION)\n"
        "os.makedirs(snapshot)\n"
        "os.symlink(os.path.join(sys.argv[2], 'model.safetensors'), os.path.join(snapshot, 'model.safetensors'))\n"
        "state = build_model('resnet34', (3, 32, 32), 4).features.state_dict()\n"
        "print(float(state['embedder.embedder.convolution.weight'].double().sum()))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):  # they would go before HF_HOME
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(stored)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    error, total = done.stdout.splitlines()
    for words in ("--model resnet34", "cannot be fetched", "HF_HUB_OFFLINE", "weights=FOLDER", "weights=none"):
        assert words in error
    from safetensors.torch import load_file

    expected = load_file(stored / "model.safetensors")["resnet.embedder.embedder.convolution.weight"]
    assert float(total) == float(expected.double().sum())


def test_resnet34_without_transformers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BenchError, match=r"pip install 'adma\[pretrained\]'"):
        build_model("resnet34:weights=none", (3, 32, 32), 4)


def test_other_networks_do_not_import_transformers() -> None:
    script = (
        "import sys\nfrom adma.bench.models import build_model, canonical_model\n"
        "build_model('convnet', (1, 8, 8), 2)\ncanonical_model('resnet34:top=1')\n"
        "assert not {'transformers', 'huggingface_hub', 'safetensors'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


# ---- the user's own


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def good(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))\n"
        "def wrong_shape(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes + 1))\n"
        "def frozen(in_channels, num_classes):\n    return good(in_channels, num_classes).requires_grad_(False)\n"
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
        ("convnet:relu", "no module named 'convnet'.*an option of convnet is written convnet:key=value"),
        ("my_nets:wrong_shape", r"must give logits \(2, 4\), got \(2, 5\)"),
        ("my_nets:frozen", "no parameter to train"),
        ("my_nets:no_module", "must return a torch.nn.Module, got int"),
        ("my_nets:breaks", "RuntimeError: no luck"),
    ],
)
def test_a_network_that_does_not_serve_is_told(name: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        check_model(name, (3, 16, 16), 4)


@pytest.mark.parametrize("name", BUILT_IN[:2])
def test_checking_a_model_does_not_disturb_the_random_state(name: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    check_model(name, (1, 8, 8), 3)
    assert torch.rand(1) == expected
