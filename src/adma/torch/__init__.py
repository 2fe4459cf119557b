"""The PyTorch half: drop-in losses as functions (`adma.functional`) and as modules."""

from adma.torch.classic import BiTemperedLoss, MeanSquaredErrorLoss, SquaredHingeLoss
from adma.torch.flexible import BinaryFlexibleLoss, FlexibleLoss
from adma.torch.make import make_loss
from adma.torch.modules import (
    AdmaLoss,
    BinaryAdmaLoss,
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    BinaryGeneralizedCrossEntropyLoss,
    BinaryMeanAbsoluteErrorLoss,
    BinaryPoly1Loss,
    CrossEntropyLoss,
    FocalLoss,
    GeneralizedCrossEntropyLoss,
    MeanAbsoluteErrorLoss,
    Poly1Loss,
)

__all__ = [
    "AdmaLoss",
    "BiTemperedLoss",
    "BinaryAdmaLoss",
    "BinaryCrossEntropyLoss",
    "BinaryFlexibleLoss",
    "BinaryFocalLoss",
    "BinaryGeneralizedCrossEntropyLoss",
    "BinaryMeanAbsoluteErrorLoss",
    "BinaryPoly1Loss",
    "CrossEntropyLoss",
    "FlexibleLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "MeanAbsoluteErrorLoss",
    "MeanSquaredErrorLoss",
    "Poly1Loss",
    "SquaredHingeLoss",
    "make_loss",
]
