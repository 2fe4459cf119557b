"""The paper's ConvNet and the variants of it that the paper tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adma.bench import _options
from adma.bench.errors import BenchError

ACTIVATIONS = ("elu", "relu", "leaky_relu", "maxout")
MAXOUT_PIECES = 2


@dataclass(frozen=True)
class ConvNetOptions:
    """What may stand behind `convnet:`.

    activation: elu, relu, leaky_relu (slope 0.01 below zero) or maxout (two pieces), see `Maxout`.
    dropout: one rate for all blocks, 0 for no dropout; without it 0.2, 0.3, 0.4.
    kernel: odd side of the square windows.
    stride: of the second convolution of each block, in place of the block's max pooling if it is not 1.
    filters: of the first block; the second has twice, the third four times as many.
    batchnorm: whether batch normalisation follows each activation.
    """

    activation: str = _options.choice(*ACTIVATIONS)
    dropout: float | None = _options.number(None, high=1, example="0.5")
    kernel: int = _options.whole(3, odd=True, example="5")
    stride: int = _options.whole(1, example="2")
    filters: int = _options.whole(32, example="16")
    batchnorm: bool = _options.flag(True)

    def __post_init__(self) -> None:
        if self.stride > self.kernel:
            raise ValueError(
                f"stride must be at most the kernel, {self.kernel}, or pixels are skipped, got {self.stride}"
            )


class Maxout(nn.Module):
    """The larger of each pair of neighbouring channels (Goodfellow et al. 2013, "Maxout Networks", with k = 2).

    The convolution before it makes twice the filters, so the maps stay as many and the weights double.

    Shape:
        (N, 2 C, ...) to (N, C, ...).
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, MAXOUT_PIECES)).amax(2)


class ConvNet(nn.Sequential):
    """The paper's network as far as its text says (Sec. 4.1, Figure 2), with our choices where it is silent.

    Three blocks of two 3x3 convolutions (32, 64, 128 filters), each followed by ELU and batch normalisation; 2x2
    max pooling and dropout (0.2, 0.3, 0.4) end a block; a dense layer over the flattened maps gives the logits.

    The paper also tried other activations, dropout rates, "window sizes" and "stride lengths" (Sec. 5) and says no
    more of them. Here windows of every size keep the maps' size (zero padding of kernel // 2), and a stride other
    than 1 is that of a block's second convolution, which then shrinks the maps in place of the max pooling
    (Springenberg et al. 2015, "Striving for Simplicity"). It rounds up where the pooling rounds down: 28 x 28 ends
    as 4 x 4 with stride 2, as 3 x 3 with pooling.

    Args:
        in_channels: of the images.
        num_classes: of the logits.
        image_size: (height, width); with pooling at least 8 x 8, as three poolings halve it three times.
        filters: of the blocks.
        dropout: of the blocks; 0 for none.
        activation: one of ACTIVATIONS; maxout makes twice the filters in each convolution, see `Maxout`.
        kernel: odd.
        stride: at most the kernel.
        batchnorm: whether batch normalisation follows each activation.

    Shape:
        (N, in_channels, height, width) to (N, num_classes).

    Raises:
        BenchError: the images are too small.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        filters: Sequence[int] = (32, 64, 128),
        dropout: Sequence[float] = (0.2, 0.3, 0.4),
        activation: str = "elu",
        kernel: int = 3,
        stride: int = 1,
        batchnorm: bool = True,
    ) -> None:
        height, width = image_size
        smallest = 2 ** len(filters)
        if stride == 1 and min(height, width) < smallest:
            raise BenchError(
                f"--model convnet: images of {height} x {width} are too small, {len(filters)} poolings need "
                f"{smallest} x {smallest}; give --image-size, or --model mlp"
            )
        layers: list[nn.Module] = []
        channels = in_channels
        pieces = MAXOUT_PIECES if activation == "maxout" else 1
        for count, rate in zip(filters, dropout, strict=True):
            for step in (1, stride):
                layers += [
                    nn.Conv2d(channels, pieces * count, kernel, stride=step, padding=kernel // 2),
                    _activation(activation),
                ]
                layers += [nn.BatchNorm2d(count)] if batchnorm else []
                channels = count
            layers += [nn.MaxPool2d(2)] if stride == 1 else []
            layers += [nn.Dropout(rate)] if rate else []
            if stride == 1:
                height, width = height // 2, width // 2
            else:
                height, width = -(-height // stride), -(-width // stride)
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * height * width, num_classes))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the faster layout


def convnet(in_channels: int, num_classes: int, image_size: tuple[int, int], options: ConvNetOptions) -> ConvNet:
    """The network that options stand for; as `ConvNet`."""
    rates = (0.2, 0.3, 0.4) if options.dropout is None else (options.dropout,) * 3
    return ConvNet(
        in_channels,
        num_classes,
        image_size,
        filters=tuple(options.filters * 2**block for block in range(3)),
        dropout=rates,
        activation=options.activation,
        kernel=options.kernel,
        stride=options.stride,
        batchnorm=options.batchnorm,
    )


def _activation(name: str) -> nn.Module:
    kinds: dict[str, type[nn.Module]] = dict(zip(ACTIVATIONS, (nn.ELU, nn.ReLU, nn.LeakyReLU, Maxout), strict=True))
    return kinds[name]()
