"""Each loss as a Keras class of its own, and `make_loss`, which finds it by a spec."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from adma import asymmetric, classic, family, taylor
from adma.family import Loss
from adma.keras.flexible import BinaryFlexibleLoss, FlexibleLoss, ShapedLoss, register
from adma.spec import parse


def _named(kind: type[Loss], base: type[ShapedLoss], name: str) -> Any:
    """A class for one loss: its parameters are keyword arguments."""
    plain = list(inspect.signature(base.__init__).parameters.values())[2:]
    options = {p.name for p in plain}
    said, _, arguments = inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:\n")

    def __init__(self: Any, *args: Any, **given: Any) -> None:  # noqa: N807
        shape = {key: given.pop(key) for key in list(given) if key not in options}
        base.__init__(self, kind(**shape), *args, **given)

    shape = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(kind)
    ]
    namespace = {
        "kind": kind,
        "__init__": __init__,
        "__module__": __name__,
        "__qualname__": name,
        "__signature__": inspect.Signature([*plain, *shape]),
        "__doc__": f"{said}\n\nOptions, calls and errors: as `{base.__name__}`.\n"
        + (f"\nArgs:\n{arguments}\n" if arguments else ""),
    }
    return register(type(name, (base,), namespace))


Adma = _named(family.Adma, FlexibleLoss, "Adma")
CrossEntropy = _named(family.CrossEntropy, FlexibleLoss, "CrossEntropy")
GeneralizedCrossEntropy = _named(family.GeneralizedCrossEntropy, FlexibleLoss, "GeneralizedCrossEntropy")
MeanAbsoluteError = _named(family.MeanAbsoluteError, FlexibleLoss, "MeanAbsoluteError")
Focal = _named(family.Focal, FlexibleLoss, "Focal")
Poly1 = _named(family.Poly1, FlexibleLoss, "Poly1")
TaylorCrossEntropy = _named(taylor.TaylorCrossEntropy, FlexibleLoss, "TaylorCrossEntropy")
AsymmetricGeneralizedCrossEntropy = _named(
    asymmetric.AsymmetricGeneralizedCrossEntropy, FlexibleLoss, "AsymmetricGeneralizedCrossEntropy"
)
AsymmetricUnhinged = _named(asymmetric.AsymmetricUnhinged, FlexibleLoss, "AsymmetricUnhinged")
AsymmetricExponential = _named(asymmetric.AsymmetricExponential, FlexibleLoss, "AsymmetricExponential")

MeanSquaredError = _named(classic.MeanSquaredError, FlexibleLoss, "MeanSquaredError")
SquaredHinge = _named(classic.SquaredHinge, FlexibleLoss, "SquaredHinge")
BiTempered = _named(classic.BiTempered, FlexibleLoss, "BiTempered")
SmoothedCrossEntropy = _named(classic.SmoothedCrossEntropy, FlexibleLoss, "SmoothedCrossEntropy")
SymmetricCrossEntropy = _named(classic.SymmetricCrossEntropy, FlexibleLoss, "SymmetricCrossEntropy")
ActivePassive = _named(classic.ActivePassive, FlexibleLoss, "ActivePassive")
SemanticCrossEntropy = _named(classic.SemanticCrossEntropy, FlexibleLoss, "SemanticCrossEntropy")

BinaryAdma = _named(family.Adma, BinaryFlexibleLoss, "BinaryAdma")
BinaryCrossEntropy = _named(family.CrossEntropy, BinaryFlexibleLoss, "BinaryCrossEntropy")
BinaryGeneralizedCrossEntropy = _named(
    family.GeneralizedCrossEntropy, BinaryFlexibleLoss, "BinaryGeneralizedCrossEntropy"
)
BinaryMeanAbsoluteError = _named(family.MeanAbsoluteError, BinaryFlexibleLoss, "BinaryMeanAbsoluteError")
BinaryFocal = _named(family.Focal, BinaryFlexibleLoss, "BinaryFocal")
BinaryPoly1 = _named(family.Poly1, BinaryFlexibleLoss, "BinaryPoly1")
BinaryTaylorCrossEntropy = _named(taylor.TaylorCrossEntropy, BinaryFlexibleLoss, "BinaryTaylorCrossEntropy")
BinaryAsymmetricGeneralizedCrossEntropy = _named(
    asymmetric.AsymmetricGeneralizedCrossEntropy, BinaryFlexibleLoss, "BinaryAsymmetricGeneralizedCrossEntropy"
)
BinaryAsymmetricUnhinged = _named(asymmetric.AsymmetricUnhinged, BinaryFlexibleLoss, "BinaryAsymmetricUnhinged")
BinaryAsymmetricExponential = _named(
    asymmetric.AsymmetricExponential, BinaryFlexibleLoss, "BinaryAsymmetricExponential"
)


def make_loss(spec: str | Loss, *, binary: bool = False, **options: Any) -> Any:
    """The Keras loss that a spec stands for; `options` are those of `FlexibleLoss` (or `BinaryFlexibleLoss`)."""
    loss = parse(spec) if isinstance(spec, str) else spec
    own = _BY_KIND.get((type(loss), binary))
    if own is not None:
        return own(**loss.parameters(), **options)
    return (BinaryFlexibleLoss if binary else FlexibleLoss)(loss, **options)


_BY_KIND = {
    (cls.kind, issubclass(cls, BinaryFlexibleLoss)): cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, ShapedLoss) and hasattr(cls, "kind")
}
