"""A small U-Net, for a class for each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adma.bench import _options
from adma.bench.errors import BenchError


@dataclass(frozen=True)
class UNetOptions:
    """What may stand behind `unet:`.

    depth: how often the maps are halved.
    width: channels of the first level; each level below has twice as many.
    dropout: rate at the lowest level, 0 for no dropout.
    """

    depth: int = _options.whole(3, example="2")
    width: int = _options.whole(16, example="8")
    dropout: float = _options.number(0.0, high=1, example="0.2")


class UNet(nn.Module):
    """Ronneberger et al. 2015, "U-Net", with padding, batch normalisation and far fewer channels.

    Two 3x3 convolutions a level, each followed by batch normalisation and ReLU; 2x2 max pooling leads down, a 2x2
    transposed convolution up, where the maps of the same level on the way down are set beside its own. A 1x1
    convolution gives the logits. With sides that are no multiple of 2^depth the pooling rounds down, and the way up
    gives the lost row or column back.

    Args:
        in_channels: of the images.
        num_classes: of the logits.
        image_size: (height, width); at least 2^depth each.
        depth, width, dropout: as `UNetOptions` has them.

    Shape:
        (N, in_channels, H, W) to (N, num_classes, H, W).

    Raises:
        BenchError: the images are too small.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        depth: int = 3,
        width: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(image_size) < 2**depth:
            raise BenchError(
                f"--model unet: images of {image_size[0]} x {image_size[1]} are too small to be halved {depth} times; "
                f"give --model unet:depth={min(image_size).bit_length() - 1 or 1}, or larger images"
            )
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_block(i, o) for i, o in zip([in_channels, *widths], widths, strict=False))
        self.drop = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.merge = nn.ModuleList(_block(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the faster layout

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if not level else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        x = self.drop(kept.pop())
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            beside = kept.pop()
            x = merge(torch.cat([beside, up(x, output_size=beside.shape[-2:])], 1))
        logits: Tensor = self.head(x)
        return logits


def _block(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (in_channels, channels):
        # normalisation takes a bias away again
        layers += [nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)
