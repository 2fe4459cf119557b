"""Small data sets with a label for each pixel or token, and a network for tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from adma.bench.data import Dataset
from adma.bench.data.dataset import IGNORED

CLASSES = ("ground", "square", "dot")


def squares(n: int = 24, side: int = 12, *, ignored: bool = True) -> Dataset:
    """A square and a rare dot on noise; the upper row does not count, the left column of odd images neither."""
    rng = np.random.default_rng(0)
    y = np.zeros((n, side, side), dtype=np.int64)
    for label, size in ((1, side // 2 - 1), (2, 2)):
        for mask, (row, column) in zip(y, rng.integers(0, side - size + 1, (n, 2)), strict=True):
            mask[row : row + size, column : column + size] = label
    x = np.clip(40 + 80 * y + rng.normal(0, 12, y.shape), 0, 255).astype(np.uint8)[:, None]
    if ignored:
        y[:, 0] = IGNORED
        y[1::2, :, 0] = IGNORED
    return Dataset("squares", x, y, CLASSES)


def counting(n: int = 40, length: int = 7, vocabulary: int = 5) -> Dataset:
    """Each token is the one before plus one or two: what comes next is known up to a coin."""
    rng = np.random.default_rng(0)
    steps = rng.integers(1, 3, (n, length + 1))
    ids = (rng.integers(0, vocabulary, (n, 1)) + steps.cumsum(1)) % vocabulary
    x, y = ids[:, :-1].astype(np.int64), ids[:, 1:].astype(np.int64).copy()
    y[::3, -2:] = IGNORED
    return Dataset("counting", x, y, tuple(map(str, range(vocabulary))))


class Tagger(nn.Module):
    """Logits of each token from the token alone: (N, T) to (N, classes, T)."""

    def __init__(self, vocabulary: int, num_classes: int) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(vocabulary, 16), nn.Dropout(0.1)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.embed(x)))).transpose(1, 2)


def tagger(in_channels: int, num_classes: int) -> nn.Module:
    return Tagger(num_classes, num_classes)


def plain_tagger(in_channels: int, num_classes: int) -> nn.Module:
    """Without dropout, whose draws depend on how a batch is taken."""
    model = Tagger(num_classes, num_classes)
    model.drop = nn.Dropout(0.0)
    return model


class Reader(nn.Module):
    """One class a text, by the mean of its tokens."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 16), nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).mean(1))


def reader(in_channels: int, num_classes: int) -> nn.Module:
    return Reader(num_classes)
