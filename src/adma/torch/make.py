"""`make_loss("adma:a=0.26")`: from a spec to a module."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from adma.family import Loss, Member
from adma.spec import parse
from adma.torch import classic, large_margin, modules
from adma.torch.flexible import BinaryFlexibleLoss, BinaryMemberLoss, FlexibleLoss, MemberLoss, Named


def _by_kind(module: ModuleType, base: type[Named]) -> dict[type[Loss], type[Named]]:
    """The classes of a module that stand for one loss each."""
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, base)]
    return {cls.kind: cls for cls in classes if hasattr(cls, "kind")}


# a member registered from outside has no class of its own: it becomes a FlexibleLoss
_MULTICLASS = {
    **_by_kind(modules, MemberLoss),
    **_by_kind(classic, classic.ClassicLoss),
    **_by_kind(large_margin, classic.ClassicLoss),
}
_BINARY = _by_kind(modules, BinaryMemberLoss)


def make_loss(spec: str | Loss, *, binary: bool = False, **options: Any) -> nn.Module:
    """The loss that a spec stands for, as a module.

    Args:
        spec: such as "cce", "adma:a=0.26,base=2" (`adma.spec`), or a loss of `adma.family` or `adma.classic`.
        binary: one logit a label, the call of `BCEWithLogitsLoss`.
        options: those of `torch.nn.CrossEntropyLoss` (or `BCEWithLogitsLoss`): `weight`, `reduction`, ...

    Raises:
        ValueError: the spec is not understood, or there is no binary form of this loss.

    Examples:
        >>> make_loss("adma:a=0.3", label_smoothing=0.1)
        AdmaLoss(a=0.3, base=2.718281828459045, normalize=False, label_smoothing=0.1)
    """
    loss = spec if isinstance(spec, Loss) else parse(spec)
    own = (_BINARY if binary else _MULTICLASS).get(type(loss))
    if own is not None:
        return own(**loss.parameters(), **options)
    if isinstance(loss, Member):
        return (BinaryFlexibleLoss if binary else FlexibleLoss)(loss, **options)
    if binary and type(loss) in _MULTICLASS:
        raise ValueError(f"{loss.name} has no binary form; give the network two logits and leave binary out")
    raise ValueError(f"{loss.name} has no PyTorch form: only members of the family can be registered from outside")
