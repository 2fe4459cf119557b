"""What the losses as modules have in common: the call of torch's own, a member that says the shape."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import Any, ClassVar, Generic, TypeVar, overload

from torch import Tensor, nn

from adma import _check
from adma.family import Loss, Member
from adma.spec import format_spec
from adma.torch import checks
from adma.torch.binary import binary_flexible_loss
from adma.torch.engine import flexible_loss
from adma.torch.posterior import binary_posterior, log_eta, no_trace, normalised

_V = TypeVar("_V")


class Shape(Generic[_V]):
    """A parameter of the member, to read and to set: `loss_fn.a = 0.3` is checked as at construction."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, module: None, owner: type) -> Shape[_V]: ...

    @overload
    def __get__(self, module: nn.Module, owner: type) -> _V: ...

    def __get__(self, module: nn.Module | None, owner: type) -> Any:
        return self if module is None else getattr(module.member, self.name)

    def __set__(self, module: nn.Module, value: _V) -> None:
        object.__setattr__(module, "member", replace(module.member, **{self.name: value}))  # type: ignore[type-var]


def with_shape(function: Any, kind: type[Loss]) -> inspect.Signature:
    """The signature of a function with the parameters of a loss in the place of its `**shape`."""
    signature = inspect.signature(function)
    own = list(signature.parameters.values())
    if not own or own[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return signature
    shape = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(kind)
    ]
    plain = [p for p in own[:-1] if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    return signature.replace(parameters=[*plain, *shape, *own[len(plain) : -1]])


class Named(nn.Module):
    """A loss with a class of its own: `kind` says which, and the parameters of `kind` are its keyword arguments."""

    kind: ClassVar[type[Loss]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "kind"):
            signature = with_shape(cls.__init__, cls.kind)
            cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])


def _check_member(member: object) -> None:
    if not isinstance(member, Member):
        raise TypeError(f"member must be an adma.family.Member, got {type(member).__name__}")


class CallLoss(nn.Module):
    """The arguments of `torch.nn.CrossEntropyLoss`: kept, checked, printed.

    Args:
        weight: (C), a factor for each class; a buffer, so `.to(device)` and `state_dict` carry it.
        size_average: deprecated, as in torch.
        ignore_index: index targets with this value count nothing and get no gradient.
        reduce: deprecated, as in torch.
        reduction: "none", "mean" or "sum".
        label_smoothing: in [0, 1].
        from_probabilities: whether the input holds posteriors instead of logits.
        inplace: write the gradient into the logits' memory, which destroys them; see `adma.functional.flexible_loss`.
    """

    weight: Tensor | None
    member: Loss

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        from_probabilities: bool = False,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        if weight is not None:
            checks.floating("weight", weight)
        self.register_buffer("weight", weight)
        self.reduction = checks.reduction_name(reduction, size_average, reduce)
        self.ignore_index = ignore_index
        self.label_smoothing = _check.real("label_smoothing", label_smoothing, low=0, high=1)
        self.from_probabilities = _check.boolean("from_probabilities", from_probabilities)
        self.inplace = _check.boolean("inplace", inplace)

    def _options(self) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
            "label_smoothing": self.label_smoothing,
            "from_probabilities": self.from_probabilities,
            "inplace": self.inplace,
        }

    def _shape_repr(self) -> list[str]:
        return []

    def extra_repr(self) -> str:
        defaults = {
            "ignore_index": -100,
            "reduction": "mean",
            "label_smoothing": 0.0,
            "from_probabilities": False,
            "inplace": False,
        }
        said = [f"{k}={v!r}" for k, v in self._options().items() if k in defaults and v != defaults[k]]
        weight = [] if self.weight is None else [f"weight=({self.weight.numel()},)"]
        return ", ".join(self._shape_repr() + weight + said)

    @property
    def no_posterior(self) -> str:
        """Why `posterior` refuses; empty if it does not."""
        return self.member.no_posterior or no_trace(self.weight)

    def posterior(self, input: Tensor) -> Tensor:
        """Class probabilities from a network's output; see `adma.functional.posterior`."""
        return normalised(self._log_eta(input), input)

    def _log_eta(self, input: Tensor) -> Tensor:
        """Logarithms of `posterior` up to a constant a sample, (N, C, ...); refuses as it does."""
        raise NotImplementedError


class FlexibleLoss(CallLoss):
    """Any member of the family as a module: drop-in for `torch.nn.CrossEntropyLoss`.

    Args:
        member: psi and slope (`adma.family`), also one of your own.
        weight: (C), a factor for each class; a buffer, so `.to(device)` and `state_dict` carry it.
        size_average: deprecated, as in torch.
        ignore_index: index targets with this value count nothing and get no gradient.
        reduce: deprecated, as in torch.
        reduction: "none", "mean" or "sum"; a mean over nothing is 0, not NaN.
        label_smoothing: in [0, 1].
        from_probabilities: whether the input holds posteriors instead of logits.
        inplace: write the gradient into the logits' memory, which destroys them; see `adma.functional.flexible_loss`.

    Shape:
        input (C), (N, C) or (N, C, d1, ..., dK); target (), (N), (N, d1, ...) as class indices or the input's
        shape as class probabilities; the result is a scalar, or the indices' shape for "none".
    """

    member: Member

    def __init__(
        self,
        member: Member,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        from_probabilities: bool = False,
        inplace: bool = False,
    ) -> None:
        super().__init__(
            weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities, inplace=inplace,
        )  # fmt: skip
        _check_member(member)
        self.member = member

    @property
    def spec(self) -> str:
        """The loss as `adma.make_loss` reads it (its shape, not its options)."""
        return format_spec(self.member)

    def _shape_repr(self) -> list[str]:
        shape = [f"{key}={value!r}" for key, value in self.member.parameters().items()]
        return shape if type(self) is not FlexibleLoss else [self.member.name, *shape]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        # a buffer is found faster than by self.weight; a parameter that was put in its place is none
        weight = self.weight if "weight" in self._parameters else self._buffers["weight"]
        return flexible_loss(
            self.member, input, target, weight, None, self.ignore_index, None, self.reduction,
            self.label_smoothing, from_probabilities=self.from_probabilities, inplace=self.inplace,
        )  # fmt: skip

    def posterior(self, input: Tensor) -> Tensor:
        """Calibrated class probabilities from a network trained with this loss, with nothing to fit.

        Args:
            input: what `forward` takes, (C), (N, C) or (N, C, d1, ...).

        Raises:
            ValueError: this loss does not determine the posteriors.
        """
        return super().posterior(input)

    def _log_eta(self, input: Tensor) -> Tensor:
        return log_eta(self.member, input, weight=self.weight, from_probabilities=self.from_probabilities)


class BinaryFlexibleLoss(nn.Module):
    """Any member of the family with one logit a label: drop-in for `torch.nn.BCEWithLogitsLoss`.

    Args:
        member: psi and slope (`adma.family`).
        weight: a factor for each element, broadcast to the input; a buffer.
        size_average: deprecated, as in torch.
        reduce: deprecated, as in torch.
        reduction: "none", "mean" or "sum".
        pos_weight: a factor for the positive part, broadcast to the input; a buffer.

    Shape:
        input and target (*), labels in [0, 1]; the result is a scalar, or (*) for "none".
    """

    weight: Tensor | None
    pos_weight: Tensor | None
    member: Member

    def __init__(
        self,
        member: Member,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        _check_member(member)
        self.member = member
        for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
            if factor is not None:
                checks.floating(name, factor)
            self.register_buffer(name, factor)
        self.reduction = checks.reduction_name(reduction, size_average, reduce)

    def extra_repr(self) -> str:
        shape = [f"{key}={value!r}" for key, value in self.member.parameters().items()]
        name = [self.member.name] if type(self) is BinaryFlexibleLoss else []
        return ", ".join(name + shape + ([] if self.reduction == "mean" else [f"reduction={self.reduction!r}"]))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_flexible_loss(
            self.member, input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )

    @property
    def no_posterior(self) -> str:
        """Why `posterior` refuses; empty if it does not."""
        return self.member.no_posterior or no_trace(self.pos_weight)

    def posterior(self, input: Tensor) -> Tensor:
        """The calibrated probability of each positive label, from the logits (*).

        Raises:
            ValueError: this loss does not determine the posteriors.
        """
        return binary_posterior(self.member, input, pos_weight=self.pos_weight)


class MemberLoss(Named, FlexibleLoss):
    """A member of the family with a class of its own; arguments, shapes and errors as `FlexibleLoss`, and its shape."""

    kind: ClassVar[type[Member]]

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        from_probabilities: bool = False,
        inplace: bool = False,
        **shape: float,
    ) -> None:
        super().__init__(
            self.kind(**shape), weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities, inplace=inplace,
        )  # fmt: skip


class BinaryMemberLoss(Named, BinaryFlexibleLoss):
    """The binary form of it; arguments, shapes and errors as `BinaryFlexibleLoss`, and its shape."""

    kind: ClassVar[type[Member]]

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        **shape: float,
    ) -> None:
        super().__init__(self.kind(**shape), weight, size_average, reduce, reduction, pos_weight)
