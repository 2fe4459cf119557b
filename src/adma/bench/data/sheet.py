"""A contact sheet: pictures of each class, and what augmentation makes of them in several epochs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from adma.bench.data import augment
from adma.bench.data.checks import show
from adma.bench.data.dataset import Dataset
from adma.bench.errors import BenchError

_TILE = 72  # pixels: smaller pictures are enlarged, by whole numbers, to about this height
_GAP, _BLOCK_GAP, _MARGIN, _LINE = 2, 14, 10, 20
_LABEL_LENGTH = 24
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


def contact_sheet(
    dataset: Dataset, spec: str, *, seed: int = 0, classes: int = 10, pictures: int = 3, epochs: int = 4
) -> Image.Image:
    """A row a class: some of its pictures, then the same ones augmented, a block an epoch.

    Args:
        dataset: images (N, C, H, W) with 1, 3 or 4 channels; other numbers of channels show their first.
        spec: what `augment.parse` takes; "none" shows the pictures alone.
        seed: of the choice of pictures and of the augmentation.
        classes: at most so many of the first classes.
        pictures: of each class.
        epochs: blocks of augmented pictures.

    Raises:
        BenchError: the data are no images, or an unknown augmentation.
    """
    if len(dataset.sample_shape) != 3:
        raise BenchError(
            f"{show(dataset.name)}: the samples are no images but have shape {dataset.sample_shape}; there is nothing "
            "to show"
        )
    if dataset.kind.dense:
        raise BenchError(
            f"{show(dataset.name)}: its samples have a label for each pixel and no class of their own, but the rows of "
            "a sheet are classes; there is nothing to show"
        )
    vary = augment.parse(spec)
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = range(min(classes, dataset.num_classes))
    rows = [rng.permutation(np.flatnonzero(dataset.y == label))[:pictures] for label in labels]
    chosen = np.concatenate(rows)
    x = torch.from_numpy(_unit(dataset.x[chosen], dataset.x))
    blocks = {"original": x}
    if vary is not None:
        for epoch in range(1, epochs + 1):
            draws = vary.draws(len(x), seed * 1_000_003 + epoch)  # the sheet's own: a training draws by its cell
            blocks[f"epoch {epoch}"] = vary(x, draws)
    starts = np.cumsum([0, *map(len, rows)])
    return _draw(dataset, vary, {title: _pixels(block) for title, block in blocks.items()}, starts, pictures)


def _unit(x: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Values of 0 to 1, float32, with 1 or 3 channels."""
    if x.dtype == np.uint8:
        unit = x.astype(np.float32) / 255
    else:
        low, high = float(whole.min()), float(whole.max())
        unit = (x - low) / (high - low if high > low else 1.0)
    channels = {1: 1, 3: 3, 4: 3}.get(x.shape[1], 1)
    return np.ascontiguousarray(unit[:, :channels], dtype=np.float32)


def _pixels(x: torch.Tensor) -> np.ndarray:
    """(N, H, W, 3) uint8, enlarged."""
    factor = max(1, round(_TILE / x.shape[2]))
    values = (x.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    return values.repeat(factor, axis=1).repeat(factor, axis=2)


def _draw(
    dataset: Dataset, vary: augment.Augment | None, blocks: dict[str, np.ndarray], starts: np.ndarray, pictures: int
) -> Image.Image:
    height, width = next(iter(blocks.values())).shape[1:3]
    font = ImageFont.load_default(size=13)
    names = [_short(show(name)) for name in dataset.class_names[: len(starts) - 1]]
    label_width = max(int(font.getlength(name)) for name in names) + 8
    block_width = pictures * (width + _GAP) + _BLOCK_GAP
    top = _MARGIN + 2 * _LINE
    shown = "" if len(names) == dataset.num_classes else f", {len(names)} of {dataset.num_classes} classes"
    sizes = f"{dataset.sample_shape[1]} x {dataset.sample_shape[2]} pixels (height first)"
    title = (
        f"{show(dataset.name)}: {len(dataset):,} samples of {sizes}{shown}; augment: {vary.spec if vary else 'none'}"
    )
    sheet = Image.new(
        "RGB",
        (
            max(2 * _MARGIN + label_width + len(blocks) * block_width, 2 * _MARGIN + int(font.getlength(title))),
            top + len(names) * (height + _GAP) + _MARGIN,
        ),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, _INK, font)
    for column, (name, tiles) in enumerate(blocks.items()):
        left = _MARGIN + label_width + column * block_width
        pen.text((left, _MARGIN + _LINE), name, _INK, font)
        for row in range(len(names)):
            for place, index in enumerate(range(starts[row], starts[row + 1])):
                sheet.paste(Image.fromarray(tiles[index]), (left + place * (width + _GAP), top + row * (height + _GAP)))
    for row, name in enumerate(names):
        pen.text((_MARGIN, top + row * (height + _GAP) + height // 2 - 8), name, _INK, font)
    return sheet


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LENGTH else name[: _LABEL_LENGTH - 1] + "…"
