"""Random rotations, shifts, flips and perspective warps of whole batches, on the device where the batch lies.

The random numbers are drawn apart from the pictures, once an epoch for all samples, on the CPU: so what
happens to a sample depends on the seed and its index alone, not on its batch, the device or the loss.

Every picture is, in this order, flipped, warped, then rotated about its centre and shifted, as Keras does it: it is
read once, pixels between pixels are bilinear, and what comes in from outside repeats the nearest edge (Keras's
fill_mode "nearest"; PyTorch's padding "border").
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
# As the paper on these losses trained. It warped CIFAR-10 but does not say how much: 0.1 is this project's choice.
PRESETS = {
    "paper_mnist": "rotate=30,shift=0.2",
    "paper_cifar10": "flip,warp=0.1,shift=0.2",
    "paper_cifar100": "rotate=15,shift=0.1,flip",
}
ITEMS = ("rotate", "shift", "warp", "flip")
EXAMPLE = "'none', 'rotate=30,shift=0.2,warp=0.1,flip' or parts of it, " + " or ".join(map(repr, PRESETS))
NUM_DRAWS = 4  # a sample: rotation, shift along the width, shift along the height, flip
NUM_CORNER_DRAWS = 8  # with a warp: right and down of the corners top left, top right, bottom right, bottom left
_HORIZON = 1e-3  # what lies behind the horizon of a warped picture is read as if it were just before it


@dataclass(frozen=True)
class Augment:
    """What may happen to a picture.

    rotate: the largest angle in degrees, to either side, in [0, 180].
    shift: the largest shift to either side, a fraction of the width and of the height, in [0, 1).
    flip: whether left and right are exchanged for half of the samples.
    warp: how far each corner moves at most, to every side, a fraction of the width and of the height, in [0, 0.25);
        at 0.25 a corner could come to lie between its neighbours, and the picture would fold.
    """

    rotate: float = 0.0
    shift: float = 0.0
    flip: bool = False
    warp: float = 0.0

    @property
    def num_draws(self) -> int:
        """Random numbers a sample: those of the corners are drawn for a warp alone."""
        return NUM_DRAWS + (NUM_CORNER_DRAWS if self.warp else 0)

    @property
    def spec(self) -> str:
        """The spec that `parse` reads back as this."""
        values = (("rotate", self.rotate), ("shift", self.shift), ("warp", self.warp))
        words = [f"{name}={value!r}" for name, value in values if value]
        return ",".join([*words, "flip"] if self.flip else words) or NONE

    def draws(self, num_samples: int, seed: int) -> Tensor:
        """Uniform numbers in [-1, 1), (num_samples, num_draws) float32 on the CPU, the same for a seed.

        The first NUM_DRAWS columns are drawn whatever is switched on, and the corners' after them, so that a sample is
        shifted alike with and without rotation or warp. Zero stands for no change.
        """
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(num_samples, NUM_DRAWS, generator=generator)
        if self.warp:
            corners = torch.rand(num_samples, NUM_CORNER_DRAWS, generator=generator)
            draws = torch.cat([draws, corners], dim=1)
        return draws * 2 - 1

    def __call__(self, x: Tensor, draws: Tensor) -> Tensor:
        """The pictures, changed.

        Args:
            x: (B, C, H, W), floating point, on any device.
            draws: (B, num_draws), the batch's rows of `draws`, on any device.

        Returns:
            The shape, dtype and device of `x`. A positive first draw turns counter-clockwise; positive second
            and third draws move right and down; a positive fourth draw flips; positive corner draws move the
            picture's corner right and down.

        Raises:
            BenchError: `x` are no pictures.
            ValueError: shapes or dtype that do not fit (a mistake of the caller's).
        """
        if x.dim() != 4:
            raise BenchError(f"--augment {self.spec}: these data are no images (one has shape {tuple(x.shape[1:])})")
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point, got {x.dtype}")
        if draws.shape != (len(x), self.num_draws):
            raise ValueError(f"draws must have shape {(len(x), self.num_draws)}, got {tuple(draws.shape)}")
        draws = draws.to(device=x.device, dtype=torch.float32)
        if self.flip:
            x = torch.where((draws[:, 3] > 0).view(-1, 1, 1, 1), x.flip(-1), x)
        if not (self.rotate or self.shift or self.warp):
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
        across, down = from_column * (2 / width), from_row * (2 / height)
        if self.warp:
            across, down = _unwarped(across, down, 2 * self.warp * draws[:, NUM_DRAWS:])
        return torch.stack([across, down], dim=-1)


def _unwarped(across: Tensor, down: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Where points of a warped picture lay before the warp: the inverse of the homography of its corners.

    In closed form (Heckbert 1989, "Fundamentals of Texture Mapping", section 2.2.3): the square's corners go to the
    moved ones, and the adjugate of that matrix goes back. No solver, so that every device gives the same.

    Args:
        across, down: (B, H, W), the sides of the picture at -1 and 1.
        moves: (B, 8), by how much the corners moved, in the same units: right and down of the corners top left,
            top right, bottom right, bottom left.
    """
    # Corners in the unit square's order, each (B, 1, 1).
    x0, y0, x1, y1, x2, y2, x3, y3 = (
        ((at + moves[:, n] + 1) / 2).view(-1, 1, 1) for n, at in enumerate((-1, -1, 1, -1, 1, 1, -1, 1))
    )
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    det = (x1 - x2) * (y3 - y2) - (x3 - x2) * (y1 - y2)
    g = (sum_x * (y3 - y2) - (x3 - x2) * sum_y) / det
    h = ((x1 - x2) * sum_y - sum_x * (y1 - y2)) / det
    # The matrix [[a, b, x0], [d, e, y0], [g, h, 1]].
    a, b = x1 - x0 + g * x1, x3 - x0 + h * x3
    d, e = y1 - y0 + g * y1, y3 - y0 + h * y3
    u, v = (across + 1) / 2, (down + 1) / 2
    right, below, constant = d * h - e * g, b * g - a * h, a * e - b * d
    det = right * x0 + below * y0 + constant
    weight = torch.maximum(right * u + below * v + constant, _HORIZON * det)
    x = ((e - y0 * h) * u + (x0 * h - b) * v + (b * y0 - x0 * e)) / weight
    y = ((y0 * g - d) * u + (a - x0 * g) * v + (x0 * d - a * y0)) / weight
    return 2 * x - 1, 2 * y - 1


def parse(spec: str) -> Augment | None:
    """The augmentation that a spec names, None for "none".

    Args:
        spec: "none", the name of a preset, or items set apart by commas: rotate=DEGREES in (0, 180],
            shift=FRACTION in (0, 1), warp=FRACTION in (0, 0.25), flip.

    Raises:
        BenchError: an unknown or repeated item, or a value that is missing or out of its range.
    """
    text = spec.strip()
    if text == NONE:
        return None
    found: dict[str, float | bool] = {}
    for item in PRESETS.get(text, text).split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if name not in ITEMS:
            if name in PRESETS or name == NONE:
                raise BenchError(f"--augment {spec!r}: {name!r} stands alone; expected {EXAMPLE}")
            hint = nearest(name, [*ITEMS, NONE, *PRESETS])
            raise BenchError(f"--augment {spec!r}: {name!r} is not known{hint}; expected {EXAMPLE}")
        if name in found:
            raise BenchError(f"--augment {spec!r}: {name} is given twice")
        if name == "flip":
            if equals:
                raise BenchError(f"--augment {spec!r}: flip takes no value; expected {EXAMPLE}")
            found[name] = True
        elif name == "rotate":
            found[name] = _number(spec, item, value, "degrees in (0, 180]", lambda v: 0 < v <= 180)
        elif name == "warp":
            found[name] = _number(spec, item, value, "a fraction of the sides in (0, 0.25)", lambda v: 0 < v < 0.25)
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
