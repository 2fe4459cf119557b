"""Layers of several trainings side by side, which share nothing: small networks at the price of one, seed beside seed.

A mean over all M trainings is an Mth of each one's own loss, which does not change the steps of Adam with a tiny `eps`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Stacked(nn.Module):
    """A linear layer of each of M trainings: (M, N, inputs) to (M, N, outputs), begun as `nn.Linear` is."""

    def __init__(self, trainings: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(trainings, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(trainings, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class Normalised(nn.BatchNorm1d):
    """Batch normalisation of each training by its own batch."""

    def __init__(self, trainings: int, features: int) -> None:
        super().__init__(trainings * features)

    def forward(self, x: Tensor) -> Tensor:
        m, n, d = x.shape
        return super().forward(x.transpose(0, 1).reshape(n, m * d)).reshape(n, m, d).transpose(0, 1)


def adam(network: nn.Module, lr: float, *, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Adam whose steps do not depend on the size of the gradients."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, eps=1e-12, fused=True)
