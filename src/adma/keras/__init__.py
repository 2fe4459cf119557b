"""The losses as `keras.losses.Loss`, on every backend of Keras 3: in `compile`, saved with the model, scheduled.

    model.compile("adam", loss=adma.keras.Adma(from_logits=True, a=0.26))

One class is for sparse and for categorical targets: it tells them by their shape, as Keras does where one writes
`metrics=["accuracy"]`. Targets of the logits' shape are probabilities (one-hot); those without the classes, or with
one number in their place, are class indices. The two can be confused only where there is one class, which is refused:
there the binary class, `BinaryAdma`, is meant. As in Keras, `from_logits` is False unless given; logits are exact in
both tails, where a probability has been rounded already.
"""

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    raise ImportError("adma.keras needs Keras 3: pip install 'adma[keras]'") from error

from adma.keras.flexible import BinaryFlexibleLoss, FlexibleLoss
from adma.keras.named import (
    ActivePassive,
    Adma,
    AsymmetricExponential,
    AsymmetricGeneralizedCrossEntropy,
    AsymmetricUnhinged,
    BinaryAdma,
    BinaryAsymmetricExponential,
    BinaryAsymmetricGeneralizedCrossEntropy,
    BinaryAsymmetricUnhinged,
    BinaryCrossEntropy,
    BinaryFocal,
    BinaryGeneralizedCrossEntropy,
    BinaryMeanAbsoluteError,
    BinaryPoly1,
    BinaryTaylorCrossEntropy,
    BiTempered,
    CrossEntropy,
    Focal,
    GeneralizedCrossEntropy,
    MeanAbsoluteError,
    MeanSquaredError,
    Poly1,
    SemanticCrossEntropy,
    SmoothedCrossEntropy,
    SquaredHinge,
    SymmetricCrossEntropy,
    TaylorCrossEntropy,
    make_loss,
)
from adma.keras.schedule import ShapeScheduler

__all__ = [
    "ActivePassive",
    "Adma",
    "AsymmetricExponential",
    "AsymmetricGeneralizedCrossEntropy",
    "AsymmetricUnhinged",
    "BiTempered",
    "BinaryAdma",
    "BinaryAsymmetricExponential",
    "BinaryAsymmetricGeneralizedCrossEntropy",
    "BinaryAsymmetricUnhinged",
    "BinaryCrossEntropy",
    "BinaryFlexibleLoss",
    "BinaryFocal",
    "BinaryGeneralizedCrossEntropy",
    "BinaryMeanAbsoluteError",
    "BinaryPoly1",
    "BinaryTaylorCrossEntropy",
    "CrossEntropy",
    "FlexibleLoss",
    "Focal",
    "GeneralizedCrossEntropy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poly1",
    "SemanticCrossEntropy",
    "ShapeScheduler",
    "SmoothedCrossEntropy",
    "SquaredHinge",
    "SymmetricCrossEntropy",
    "TaylorCrossEntropy",
    "make_loss",
]
