"""Random rotations, shifts and flips of whole batches, on the device where the batch lies.

The random numbers are drawn apart from the pictures, once an epoch for all samples, on the CPU: so what
happens to a sample depends on the seed and its index alone, not on its batch, the device or the loss.

Every picture is, in this order, flipped, then rotated about its centre and shifted, as Keras does it: pixels
between pixels are bilinear, and what comes in from outside repeats the nearest edge (Keras's fill_mode
"nearest"; PyTorch's padding "border").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adma._check import nearest
from adma.bench.errors import BenchError

NONE = "none"
# As the paper on these losses trained.
PRESETS = {"paper_mnist": "rotate=30,shift=0.2", "paper_cifar100": "rotate=15,shift=0.1,flip"}
EXAMPLE = "'none', 'rotate=30,shift=0.2,flip' or parts of it, " + " or ".join(map(repr, PRESETS))
NUM_DRAWS = 4  # a sample: rotation, shift along the width, shift along the height, flip


@dataclass(frozen=True)
class Augment:
    """What may happen to a picture.

    rotate: the largest angle in degrees, to either side, in [0, 180].
    shift: the largest shift to either side, a fraction of the width and of the height, in [0, 1).
    flip: whether left and right are exchanged for half of the samples.
    """

    rotate: float = 0.0
    shift: float = 0.0
    flip: bool = False

    @property
    def spec(self) -> str:
        """The spec that `parse` reads back as this."""
        words = [f"{name}={value!r}" for name, value in (("rotate", self.rotate), ("shift", self.shift)) if value]
        return ",".join([*words, "flip"] if self.flip else words) or NONE

    def draws(self, num_samples: int, seed: int) -> Tensor:
        """Uniform numbers in [-1, 1), (num_samples, NUM_DRAWS) float32 on the CPU, the same for a seed.

        All columns are drawn whatever is switched on, so that a sample is shifted alike with and without
        rotation. Zero stands for no change.
        """
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(num_samples, NUM_DRAWS, generator=generator) * 2 - 1

    def __call__(self, x: Tensor, draws: Tensor) -> Tensor:
        """The pictures, changed.

        Args:
            x: (B, C, H, W), floating point, on any device.
            draws: (B, NUM_DRAWS), the batch's rows of `draws`, on any device.

        Returns:
            The shape, dtype and device of `x`. A positive first draw turns counter-clockwise; positive second
            and third draws move right and down; a positive fourth draw flips.

        Raises:
            BenchError: `x` are no pictures.
            ValueError: shapes or dtype that do not fit (a mistake of the caller's).
        """
        if x.dim() != 4:
            raise BenchError(f"--augment {self.spec}: these data are no images (one has shape {tuple(x.shape[1:])})")
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point, got {x.dtype}")
        if draws.shape != (len(x), NUM_DRAWS):
            raise ValueError(f"draws must have shape {(len(x), NUM_DRAWS)}, got {tuple(draws.shape)}")
        draws = draws.to(device=x.device, dtype=torch.float32)
        if self.flip:
            x = torch.where((draws[:, 3] > 0).view(-1, 1, 1, 1), x.flip(-1), x)
        if not (self.rotate or self.shift):
            return x
        moved = torch.nn.functional.grid_sample(
            x.float(), self._grid(draws, x.shape[2], x.shape[3]), mode="bilinear", padding_mode="border",
            align_corners=False,
        )  # fmt: skip
        return moved.to(x.dtype)

    def _grid(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Where in the input each output pixel is read: (B, H, W, 2) in grid_sample's units, [-1, 1] a side.

        As affine_grid would give it, but summed here: affine_grid multiplies matrices, which a GPU may do in
        reduced precision, and pictures would blur.
        """
        angle = draws[:, 0] * math.radians(self.rotate)
        cos, sin = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
        # Pixels from the centre: in pixels, not in fractions of the sides, an angle is an angle.
        columns = torch.arange(width, device=draws.device, dtype=torch.float32) - (width - 1) / 2
        rows = torch.arange(height, device=draws.device, dtype=torch.float32) - (height - 1) / 2
        columns = columns.view(1, 1, -1) - (draws[:, 1] * (self.shift * width)).view(-1, 1, 1)
        rows = rows.view(1, -1, 1) - (draws[:, 2] * (self.shift * height)).view(-1, 1, 1)
        from_column = cos * columns - sin * rows
        from_row = sin * columns + cos * rows
        return torch.stack([from_column * (2 / width), from_row * (2 / height)], dim=-1)


def parse(spec: str) -> Augment | None:
    """The augmentation that a spec names, None for "none".

    Args:
        spec: "none", the name of a preset, or items set apart by commas: rotate=DEGREES in (0, 180],
            shift=FRACTION in (0, 1), flip.

    Raises:
        BenchError: an unknown or repeated item, or a value that is missing or out of its range.
    """
    text = spec.strip()
    if text == NONE:
        return None
    found: dict[str, float | bool] = {}
    for item in PRESETS.get(text, text).split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if name not in ("rotate", "shift", "flip"):
            if name in PRESETS or name == NONE:
                raise BenchError(f"--augment {spec!r}: {name!r} stands alone; expected {EXAMPLE}")
            hint = nearest(name, ["rotate", "shift", "flip", NONE, *PRESETS])
            raise BenchError(f"--augment {spec!r}: {name!r} is not known{hint}; expected {EXAMPLE}")
        if name in found:
            raise BenchError(f"--augment {spec!r}: {name} is given twice")
        if name == "flip":
            if equals:
                raise BenchError(f"--augment {spec!r}: flip takes no value; expected {EXAMPLE}")
            found[name] = True
        elif name == "rotate":
            found[name] = _number(spec, item, value, "degrees in (0, 180]", lambda v: 0 < v <= 180)
        else:
            found[name] = _number(spec, item, value, "a fraction of the sides in (0, 1)", lambda v: 0 < v < 1)
    return Augment(**found)  # type: ignore[arg-type]


def _number(spec: str, item: str, value: str, expected: str, accepts: Callable[[float], bool]) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not accepts(number):
        raise BenchError(f"--augment {spec!r}: {item.strip()!r} should give {expected}")
    return number
