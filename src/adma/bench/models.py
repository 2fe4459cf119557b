"""The networks that the bench trains: the paper's ConvNet, a small MLP for vectors, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adma._check import nearest
from adma.bench.errors import BenchError
from adma.bench.importing import current_folder_importable, find_function, is_function_name

BUILT_IN = ("convnet", "mlp")


class ConvNet(nn.Sequential):
    """The paper's network as far as its text says (Sec. 4.1, Figure 2), with our choices where it is silent.

    Three blocks of two 3x3 convolutions (32, 64, 128 filters), each followed by ELU and batch normalisation; 2x2
    max pooling and dropout (0.2, 0.3, 0.4) end a block; a dense layer over the flattened maps gives the logits.

    Args:
        in_channels: of the images.
        num_classes: of the logits.
        image_size: (height, width), at least 8 x 8: three poolings halve it three times.
        filters: of the blocks.
        dropout: of the blocks.

    Shape:
        (N, in_channels, height, width) to (N, num_classes).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        filters: Sequence[int] = (32, 64, 128),
        dropout: Sequence[float] = (0.2, 0.3, 0.4),
    ) -> None:
        height, width = image_size
        smallest = 2 ** len(filters)
        if min(height, width) < smallest:
            raise BenchError(
                f"--model convnet: images of {height} x {width} are too small, {len(filters)} poolings need "
                f"{smallest} x {smallest}; give --image-size, or --model mlp"
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for count, rate in zip(filters, dropout, strict=True):
            for _ in range(2):
                layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ELU(), nn.BatchNorm2d(count)]
                channels = count
            layers += [nn.MaxPool2d(2), nn.Dropout(rate)]
            height, width = height // 2, width // 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * height * width, num_classes))


class MLP(nn.Sequential):
    """Two hidden layers of 256 with ReLU, batch normalisation and dropout 0.2: (N, ...) to (N, num_classes)."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        def hidden(inputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Dropout(0.2)]

        super().__init__(nn.Flatten(), *hidden(num_features), *hidden(256), nn.Linear(256, num_classes))


def build_model(name: str, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A network by name, with fresh weights from torch's global generator.

    Args:
        name: "convnet" (images), "mlp" (anything), or `package.module:function`, called with `in_channels` and
            `num_classes`; in_channels is the first axis of a sample.
        sample_shape: (C, H, W) of images, (D) of vectors.
        num_classes: of the logits.

    Raises:
        BenchError: an unknown name, a network that does not fit the samples, a function that fails.
    """
    if name == "convnet":
        if len(sample_shape) != 3:
            raise BenchError(f"--model convnet takes images (C, H, W), the samples are {sample_shape}; try --model mlp")
        return ConvNet(sample_shape[0], num_classes, (sample_shape[1], sample_shape[2]))
    if name == "mlp":
        return MLP(math.prod(sample_shape), num_classes)
    what = f"--model {name}"
    if not is_function_name(name):
        raise BenchError(
            f"{what}: not known{nearest(name, BUILT_IN)}; known: {', '.join(BUILT_IN)}, or package.module:function"
        )
    with current_folder_importable():
        function = find_function(what, name)
        try:
            model = function(in_channels=sample_shape[0], num_classes=num_classes)
        except Exception as error:
            raise BenchError(
                f"{what}: calling it with in_channels={sample_shape[0]}, num_classes={num_classes} failed: "
                f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(model, nn.Module):
        raise BenchError(f"{what}: must return a torch.nn.Module, got {type(model).__name__}")
    return model


def check_model(name: str, sample_shape: tuple[int, ...], num_classes: int) -> None:
    """Build once and pass two empty samples through, so that a misfit is told before anything trains.

    Raises:
        BenchError: as `build_model`, or the network fails on such samples or gives another shape than (N, classes).
    """
    with torch.random.fork_rng():
        model = build_model(name, sample_shape, num_classes).eval()
        try:
            with torch.no_grad():
                output = model(torch.zeros(2, *sample_shape))
        except Exception as error:
            message = f"--model {name} fails on samples of shape {sample_shape}: {type(error).__name__}: {error}"
            raise BenchError(message) from error
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (2, num_classes):
        raise BenchError(f"--model {name}: for 2 samples it must give logits (2, {num_classes}), got {shape}")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups for an optimizer: L2 on the weights of the convolutions only, as in the paper.

    A network without convolutions has it on the weights of its linear layers. Never on biases or normalisation.
    """
    kinds: tuple[type[nn.Module], ...] = (nn.modules.conv._ConvNd,)
    if not any(isinstance(m, kinds) for m in model.modules()):
        kinds = (nn.Linear,)
    decayed = [m.weight for m in model.modules() if isinstance(m, kinds) and isinstance(m.weight, nn.Parameter)]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups: list[dict[str, object]] = [{"params": rest, "weight_decay": 0.0}]
    return [{"params": decayed, "weight_decay": weight_decay}, *groups] if decayed else groups
