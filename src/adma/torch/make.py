"""`make_loss("adma:a=0.26")`: from a spec to a module."""

from __future__ import annotations

from typing import Any

from torch import nn

from adma import classic, family
from adma.family import Loss, Member
from adma.spec import parse
from adma.torch import modules
from adma.torch.classic import BiTemperedLoss, MeanSquaredErrorLoss, SquaredHingeLoss
from adma.torch.flexible import BinaryFlexibleLoss, FlexibleLoss

# a member registered from outside has no class of its own: it becomes a FlexibleLoss
_MODULES: dict[type[Loss], tuple[type[nn.Module], type[nn.Module] | None]] = {
    family.CrossEntropy: (modules.CrossEntropyLoss, modules.BinaryCrossEntropyLoss),
    family.Adma: (modules.AdmaLoss, modules.BinaryAdmaLoss),
    family.GeneralizedCrossEntropy: (
        modules.GeneralizedCrossEntropyLoss,
        modules.BinaryGeneralizedCrossEntropyLoss,
    ),
    family.MeanAbsoluteError: (modules.MeanAbsoluteErrorLoss, modules.BinaryMeanAbsoluteErrorLoss),
    family.Focal: (modules.FocalLoss, modules.BinaryFocalLoss),
    family.Poly1: (modules.Poly1Loss, modules.BinaryPoly1Loss),
    classic.MeanSquaredError: (MeanSquaredErrorLoss, None),
    classic.SquaredHinge: (SquaredHingeLoss, None),
    classic.BiTempered: (BiTemperedLoss, None),
}


def make_loss(spec: str | Loss, *, binary: bool = False, **options: Any) -> nn.Module:
    """The loss that a spec stands for, as a module.

    Args:
        spec: such as "cce", "adma:a=0.26,base=2" (`adma.spec`), or a loss of `adma.family` or `adma.classic`.
        binary: one logit a label, the call of `BCEWithLogitsLoss`.
        options: those of `torch.nn.CrossEntropyLoss` (or `BCEWithLogitsLoss`): `weight`, `reduction`, ...

    Raises:
        ValueError: the spec is not understood, or there is no binary form of this loss.

    Example:
        >>> make_loss("adma:a=0.3", label_smoothing=0.1)
        AdmaLoss(a=0.3, base=2.718281828459045, normalize=False, label_smoothing=0.1)
    """
    loss = spec if isinstance(spec, Loss) else parse(spec)
    own = _MODULES.get(type(loss))
    if own is not None:
        module = own[1] if binary else own[0]
        if module is None:
            raise ValueError(f"{loss.name} has no binary form; give the network two logits and leave binary out")
        return module(**loss.parameters(), **options)
    if isinstance(loss, Member):
        return (BinaryFlexibleLoss if binary else FlexibleLoss)(loss, **options)
    raise ValueError(f"{loss.name} has no PyTorch form: only members of the family can be registered from outside")
