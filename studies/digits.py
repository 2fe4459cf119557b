"""Scikit-learn's bundled digits as some studies use them: 1,797 real images of 8 x 8, divided once a seed."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor


def divided(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (N, 64) in [-1, 1] and labels (N): of 1,198 to train on, then of 599 held out, both by class."""
    data = load_digits()
    some, rest = train_test_split(np.arange(len(data.target)), test_size=599, stratify=data.target, random_state=seed)
    x, y = torch.tensor(data.data, dtype=torch.float32) / 8 - 1, torch.tensor(data.target)
    return x[some], y[some], x[rest], y[rest]
