"""A small multilayer perceptron, for vectors or as a plain network for small pictures."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class MLPOptions:
    """`mlp` has no options."""


class MLP(nn.Sequential):
    """Two hidden layers of 256 with ReLU, batch normalisation and dropout 0.2: (N, ...) to (N, num_classes)."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        def hidden(inputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Dropout(0.2)]

        super().__init__(nn.Flatten(), *hidden(num_features), *hidden(256), nn.Linear(256, num_classes))
