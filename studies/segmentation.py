"""Losses for a class for each pixel, on shapes drawn on the spot: mean IoU by loss, and what rare classes come to.

    python studies/segmentation.py run              # minutes on one core; what is done is kept, so it can be stopped
    python studies/segmentation.py collect          # from the runs to the table in studies/results/
    python studies/segmentation.py docs --write     # from the table to docs/segmentation.md

The data set is `shapes` below: bright discs, squares, triangles and crosses on a textured, noisy ground. Size and
frequency fall from class to class, so that of 160 pixels one is a cross's. Brightness does not tell them apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import dense_tables
from dense_tables import Table

CLASSES = ("ground", "disc", "square", "triangle", "cross")
LOSSES = (
    "cce", "adma:a=0.26", "adma:a=0.5", "focal:gamma=2", "gce:q=0.7", "kornia.losses:DiceLoss",
)  # fmt: skip
OPTIONS = (
    "--seeds 5 --epochs 12 --batch-size 4 --lr 0.01 --lr-schedule cosine --model unet:depth=2,width=8 "
    "--val-fraction 0.1 --test-fraction 0.25"
)
TABLE = Table(
    name="segmentation",
    columns=("test_mean_iou", "test_accuracy", "test_nll", "test_nll_posterior"),
    page="segmentation.md",
    classes=CLASSES,
)


def shapes(images: int = 160, side: int = 32, seed: int = 0) -> dict[str, Any]:
    """Images (N, side, side) as uint8 and the class of each pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side].astype(float)
    x = np.empty((images, side, side))
    y = np.zeros((images, side, side), dtype=np.int64)
    for image, labels in zip(x, y, strict=True):
        image[:] = 90
        for _ in range(4):  # waves of the ground
            u, v, phase = rng.normal(0, 0.35), rng.normal(0, 0.35), rng.uniform(0, 2 * np.pi)
            image += rng.uniform(2, 8) * np.sin(u * rows + v * columns + phase)
        # class, how many, half the size
        for label, expected, half in ((1, 1.6, 7.0), (2, 1.0, 5.0), (3, 0.7, 4.5), (4, 0.35, 3.0)):
            for _ in range(rng.poisson(expected)):
                r, c, h = rng.uniform(4, side - 4), rng.uniform(4, side - 4), half * rng.uniform(0.8, 1.2)
                inside = _inside(label, (rows - r) / h, (columns - c) / h)
                labels[inside] = label
                image[inside] += rng.uniform(40, 100)
        image += rng.normal(0, 8, image.shape)
    return {"x": np.clip(np.rint(x), 0, 255).astype(np.uint8), "y": y, "class_names": list(CLASSES)}


def _inside(label: int, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Which pixels a shape of half size 1 about the origin covers; v down, u right."""
    if label == 1:
        return u * u + v * v < 1
    if label == 2:
        return np.maximum(abs(u), abs(v)) < 1
    if label == 3:
        return (abs(v) < 1) & (abs(u) < (v + 1) / 2)
    return (np.maximum(abs(u), abs(v)) < 1) & (np.minimum(abs(u), abs(v)) < 0.35)


def command(losses: tuple[str, ...] = LOSSES) -> list[str]:
    """The whole `adma compare`, to be given in studies/."""
    words = ["adma", "compare", "segmentation:shapes", *OPTIONS.split()]
    return words + [word for loss in losses for word in ("--loss", loss)]


if __name__ == "__main__":
    dense_tables.main(__doc__, TABLE, LOSSES, command)
