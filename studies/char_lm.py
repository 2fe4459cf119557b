"""Adma as the token loss of a small character-level transformer, beside cross-entropy and generalised cross-entropy.

    python studies/char_lm.py run              # minutes on one core; what is done is kept, so it can be stopped
    python studies/char_lm.py collect          # from the runs to the table in studies/results/
    python studies/char_lm.py docs --write     # from the table to docs/tokens.md

The text is the reference of the Python language that every CPython brings along for `help()` (`pydoc_data.topics`,
under Python's own licence). So the numbers are of one version of Python; the page says which.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import dense_tables
from dense_tables import Table

LENGTH = 32  # characters of a sample
SAMPLES = 1000
RARE = 40  # a character that occurs less often than this is written as OTHER
OTHER = "\N{REPLACEMENT CHARACTER}"
LOSSES = ("cce", "adma:a=0.1", "adma:a=0.26", "adma:a=0.5", "gce:q=0.7")
OPTIONS = (
    "--seeds 5 --epochs 10 --batch-size 16 --lr 0.005 --lr-schedule cosine --weight-decay 0 "
    "--val-fraction 0.1 --test-fraction 0.2"
)
TABLE = Table(name="char_lm", columns=("test_accuracy", "test_nll", "test_nll_posterior"), page="tokens.md")


def topics() -> dict[str, Any]:
    """Samples of LENGTH characters and the character after each; a topic's samples stay in one part."""
    from pydoc_data.topics import topics as pages

    named = [(number, " ".join(pages[name].split())) for number, name in enumerate(sorted(pages))]
    pieces = [
        (number, text[i : i + LENGTH + 1])
        for number, text in named
        for i in range(0, len(text) - LENGTH, LENGTH)
        if len(text[i : i + LENGTH + 1]) == LENGTH + 1
    ]
    chosen = np.random.default_rng(0).permutation(len(pieces))[:SAMPLES]
    some = [pieces[k] for k in sorted(chosen)]
    counts = Counter("".join(text for _, text in some))
    known = [OTHER, *sorted(c for c, n in counts.items() if n >= RARE)]
    ids = np.array([[known.index(c) if c in known else 0 for c in text] for _, text in some])
    names = ["other" if c == OTHER else repr(c) for c in known]
    groups = np.array([number for number, _ in some])
    return {"x": ids[:, :-1], "y": ids[:, 1:], "class_names": names, "groups": groups, "layout": "NT"}


class Transformer(nn.Module):
    """Two blocks of causal attention and an MLP, pre-normalised: token ids (N, T) to logits (N, vocabulary, T)."""

    def __init__(self, length: int, vocabulary: int, *, width: int = 48, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.head(h).transpose(1, 2)
        return logits


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        later = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool, device=h.device).triu(1)
        weights = torch.softmax(scores.masked_fill(later, -math.inf), 3)
        h = h + self.out((weights @ v).transpose(1, 2).flatten(2))
        grown: Tensor = h + self.mlp(h)
        return grown


def transformer(in_channels: int, num_classes: int) -> nn.Module:
    """For --model: the length of a sample, and the characters."""
    return Transformer(in_channels, num_classes)


def command(losses: tuple[str, ...] = LOSSES) -> list[str]:
    """The whole `adma compare`, to be given in studies/."""
    words = ["adma", "compare", "char_lm:topics", "--model", "char_lm:transformer", *OPTIONS.split()]
    return words + [word for loss in losses for word in ("--loss", loss)]


if __name__ == "__main__":
    dense_tables.main(__doc__, TABLE, LOSSES, command)
