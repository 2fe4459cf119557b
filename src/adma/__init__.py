"""Flexible classification losses: drop-in for `torch.nn.CrossEntropyLoss`, with a shape that is a parameter.

>>> import torch, adma
>>> loss_fn = adma.AdmaLoss(a=0.26)
>>> logits, target = torch.randn(8, 10, requires_grad=True), torch.randint(10, (8,))
>>> loss_fn(logits, target).backward()
>>> loss_fn.posterior(logits).shape  # calibrated class probabilities
torch.Size([8, 10])

torch is imported when a loss is first asked for: a command that only reads results does without, and the mathematics
(`adma.numpy`, `adma.jax`, `adma.boosting`) needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adma.spec import parse, register

if TYPE_CHECKING:
    from adma import constraints, flex, functional
    from adma.torch import *

__version__ = "0.1.0"

__all__ = [  # by name for those who read the source; tests/test_import.py holds it to adma.torch's
    "ActivePassiveLoss",
    "AdmaLoss",
    "AsymmetricExponentialLoss",
    "AsymmetricGeneralizedCrossEntropyLoss",
    "AsymmetricUnhingedLoss",
    "BiTemperedLoss",
    "BinaryAdmaLoss",
    "BinaryAsymmetricExponentialLoss",
    "BinaryAsymmetricGeneralizedCrossEntropyLoss",
    "BinaryAsymmetricUnhingedLoss",
    "BinaryCrossEntropyLoss",
    "BinaryFlexibleLoss",
    "BinaryFocalLoss",
    "BinaryGeneralizedCrossEntropyLoss",
    "BinaryMeanAbsoluteErrorLoss",
    "BinaryPoly1Loss",
    "BinaryTaylorCrossEntropyLoss",
    "CrossEntropyLoss",
    "FlexibleLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "GlobalMean",
    "LargeMarginSoftmaxLoss",
    "LinearAdmaLoss",
    "LinearAsymmetricExponentialLoss",
    "LinearAsymmetricGeneralizedCrossEntropyLoss",
    "LinearAsymmetricUnhingedLoss",
    "LinearCrossEntropyLoss",
    "LinearFlexibleLoss",
    "LinearFocalLoss",
    "LinearGeneralizedCrossEntropyLoss",
    "LinearLossOptions",
    "LinearMeanAbsoluteErrorLoss",
    "LinearPoly1Loss",
    "LinearTaylorCrossEntropyLoss",
    "MeanAbsoluteErrorLoss",
    "MeanSquaredErrorLoss",
    "Poly1Loss",
    "SemanticCrossEntropyLoss",
    "SemanticLoss",
    "SmoothedCrossEntropyLoss",
    "SquaredHingeLoss",
    "SymmetricCrossEntropyLoss",
    "TaylorCrossEntropyLoss",
    "__version__",
    "constraints",
    "flex",
    "functional",
    "make_loss",
    "parse",
    "posterior_head",
    "register",
]
_MODULES = ("constraints", "flex", "functional", "torch")
_LOSSES = frozenset(__all__) - {"__version__", "parse", "register", *_MODULES}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"adma.{name}")
    if name not in _LOSSES:
        raise AttributeError(f"module 'adma' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module("adma.torch"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
