"""The losses as functions, each with the call of `torch.nn.functional.cross_entropy`.

`p` is the true class's probability, `t = -log p`. All take logits (C), (N, C) or (N, C, d1, ...), a target of
class indices or class probabilities, and torch's options; `flexible_loss`, which the members of the family are,
documents them. The binary ones have the call of `torch.nn.functional.binary_cross_entropy_with_logits`; those with
`linear_` take the last layer's input and weight in the place of the logits (`linear_flexible_loss`). A loss's own
parameters are keyword arguments; `help` and `inspect.signature` tell them.

>>> import torch
>>> logits, target = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
>>> round(adma_loss(logits, target, a=0.26, label_smoothing=0.1).item(), 4)
0.1779
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from adma import asymmetric, classic, family, taylor
from adma.family import Loss, Member
from adma.torch.binary import binary_flexible_loss
from adma.torch.classic import classic_loss
from adma.torch.engine import flexible_loss
from adma.torch.flexible import with_shape
from adma.torch.large_margin import large_margin_logits
from adma.torch.linear import linear_flexible_loss
from adma.torch.linear_checks import LinearLossOptions
from adma.torch.posterior import binary_posterior, posterior
from adma.torch.semantic import semantic_loss

__all__ = [
    "active_passive_loss",
    "adma_loss",
    "asymmetric_exponential_loss",
    "asymmetric_generalized_cross_entropy",
    "asymmetric_unhinged_loss",
    "bi_tempered_loss",
    "binary_adma_loss",
    "binary_asymmetric_exponential_loss",
    "binary_asymmetric_generalized_cross_entropy",
    "binary_asymmetric_unhinged_loss",
    "binary_cross_entropy",
    "binary_flexible_loss",
    "binary_focal_loss",
    "binary_generalized_cross_entropy",
    "binary_mean_absolute_error",
    "binary_poly1_loss",
    "binary_posterior",
    "binary_taylor_cross_entropy",
    "cross_entropy",
    "flexible_loss",
    "focal_loss",
    "generalized_cross_entropy",
    "large_margin_logits",
    "linear_adma_loss",
    "linear_asymmetric_exponential_loss",
    "linear_asymmetric_generalized_cross_entropy",
    "linear_asymmetric_unhinged_loss",
    "linear_cross_entropy",
    "linear_flexible_loss",
    "linear_focal_loss",
    "linear_generalized_cross_entropy",
    "linear_mean_absolute_error",
    "linear_poly1_loss",
    "linear_taylor_cross_entropy",
    "mean_absolute_error",
    "mean_squared_error",
    "poly1_loss",
    "posterior",
    "semantic_cross_entropy",
    "semantic_loss",
    "smoothed_cross_entropy",
    "squared_hinge",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
]


class LossFunction(Protocol):
    """The call of `torch.nn.functional.cross_entropy`, and a loss's own parameters."""

    def __call__(
        self,
        input: Tensor,
        target: Tensor,
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
    ) -> Tensor: ...


class BinaryLossFunction(Protocol):
    """The call of `torch.nn.functional.binary_cross_entropy_with_logits`, and a loss's own parameters."""

    def __call__(
        self,
        input: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        **shape: float,
    ) -> Tensor: ...


class LinearLossFunction(Protocol):
    """The call of `torch.nn.functional.linear_cross_entropy`, and a loss's own parameters."""

    def __call__(
        self,
        input: Tensor,
        linear_weight: Tensor,
        target: Tensor,
        *,
        linear_bias: Tensor | None = None,
        weight: Tensor | None = None,
        reduction: str = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        softcap: float | None = None,
        z_loss: float = 0.0,
        options: LinearLossOptions | None = None,
        **shape: float,
    ) -> Tensor: ...


def _make(kind: type[Loss], shape: dict[str, Any]) -> Any:
    if kind is family.Adma and torch.compiler.is_compiling():  # which cannot trace its warning
        plain = family.Adma()
        return plain.bind(**family.Adma.checked(**{**plain.parameters(), **shape}))
    return kind(**shape)


def _named(function: Any, name: str, kind: type[Loss], call: str) -> Any:
    """`function` with a name, the signature and the documentation of a loss."""
    said, _, arguments = inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:\n")
    function.__name__ = function.__qualname__ = name
    function.__signature__ = with_shape(function, kind)
    function.__doc__ = f"{said}\n\nShapes, options, result and errors: as `{call}`.\n" + (
        f"\nArgs:\n{arguments}\n" if arguments else ""
    )
    return function


def _multiclass(name: str, kind: type[Member] | type[classic.Classic]) -> LossFunction:
    compute: Callable[..., Tensor] = flexible_loss if issubclass(kind, Member) else classic_loss

    def function(
        input: Tensor,
        target: Tensor,
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
    ) -> Tensor:
        return compute(
            _make(kind, shape), input, target, weight, size_average, ignore_index, reduce, reduction,
            label_smoothing, from_probabilities=from_probabilities, inplace=inplace,
        )  # fmt: skip

    named: LossFunction = _named(function, name, kind, "flexible_loss")
    return named


def _binary(name: str, kind: type[Member]) -> BinaryLossFunction:
    def function(
        input: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        **shape: float,
    ) -> Tensor:
        return binary_flexible_loss(
            _make(kind, shape), input, target, weight, size_average, reduce, reduction, pos_weight
        )

    named: BinaryLossFunction = _named(function, name, kind, "binary_flexible_loss")
    return named


def _linear(name: str, kind: type[Member]) -> LinearLossFunction:
    def function(
        input: Tensor,
        linear_weight: Tensor,
        target: Tensor,
        *,
        linear_bias: Tensor | None = None,
        weight: Tensor | None = None,
        reduction: str = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        softcap: float | None = None,
        z_loss: float = 0.0,
        options: LinearLossOptions | None = None,
        **shape: float,
    ) -> Tensor:
        return linear_flexible_loss(
            _make(kind, shape), input, linear_weight, target, linear_bias=linear_bias, weight=weight,
            reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing, softcap=softcap,
            z_loss=z_loss, options=options,
        )  # fmt: skip

    named: LinearLossFunction = _named(function, name, kind, "linear_flexible_loss")
    return named


cross_entropy = _multiclass("cross_entropy", family.CrossEntropy)
adma_loss = _multiclass("adma_loss", family.Adma)
generalized_cross_entropy = _multiclass("generalized_cross_entropy", family.GeneralizedCrossEntropy)
mean_absolute_error = _multiclass("mean_absolute_error", family.MeanAbsoluteError)
focal_loss = _multiclass("focal_loss", family.Focal)
poly1_loss = _multiclass("poly1_loss", family.Poly1)
taylor_cross_entropy = _multiclass("taylor_cross_entropy", taylor.TaylorCrossEntropy)
asymmetric_generalized_cross_entropy = _multiclass(
    "asymmetric_generalized_cross_entropy", asymmetric.AsymmetricGeneralizedCrossEntropy
)
asymmetric_unhinged_loss = _multiclass("asymmetric_unhinged_loss", asymmetric.AsymmetricUnhinged)
asymmetric_exponential_loss = _multiclass("asymmetric_exponential_loss", asymmetric.AsymmetricExponential)

mean_squared_error = _multiclass("mean_squared_error", classic.MeanSquaredError)
squared_hinge = _multiclass("squared_hinge", classic.SquaredHinge)
bi_tempered_loss = _multiclass("bi_tempered_loss", classic.BiTempered)
smoothed_cross_entropy = _multiclass("smoothed_cross_entropy", classic.SmoothedCrossEntropy)
symmetric_cross_entropy = _multiclass("symmetric_cross_entropy", classic.SymmetricCrossEntropy)
active_passive_loss = _multiclass("active_passive_loss", classic.ActivePassive)
semantic_cross_entropy = _multiclass("semantic_cross_entropy", classic.SemanticCrossEntropy)

binary_cross_entropy = _binary("binary_cross_entropy", family.CrossEntropy)
binary_adma_loss = _binary("binary_adma_loss", family.Adma)
binary_generalized_cross_entropy = _binary("binary_generalized_cross_entropy", family.GeneralizedCrossEntropy)
binary_mean_absolute_error = _binary("binary_mean_absolute_error", family.MeanAbsoluteError)
binary_focal_loss = _binary("binary_focal_loss", family.Focal)
binary_poly1_loss = _binary("binary_poly1_loss", family.Poly1)
binary_taylor_cross_entropy = _binary("binary_taylor_cross_entropy", taylor.TaylorCrossEntropy)
binary_asymmetric_generalized_cross_entropy = _binary(
    "binary_asymmetric_generalized_cross_entropy", asymmetric.AsymmetricGeneralizedCrossEntropy
)
binary_asymmetric_unhinged_loss = _binary("binary_asymmetric_unhinged_loss", asymmetric.AsymmetricUnhinged)
binary_asymmetric_exponential_loss = _binary("binary_asymmetric_exponential_loss", asymmetric.AsymmetricExponential)

linear_cross_entropy = _linear("linear_cross_entropy", family.CrossEntropy)
linear_adma_loss = _linear("linear_adma_loss", family.Adma)
linear_generalized_cross_entropy = _linear("linear_generalized_cross_entropy", family.GeneralizedCrossEntropy)
linear_mean_absolute_error = _linear("linear_mean_absolute_error", family.MeanAbsoluteError)
linear_focal_loss = _linear("linear_focal_loss", family.Focal)
linear_poly1_loss = _linear("linear_poly1_loss", family.Poly1)
linear_taylor_cross_entropy = _linear("linear_taylor_cross_entropy", taylor.TaylorCrossEntropy)
linear_asymmetric_generalized_cross_entropy = _linear(
    "linear_asymmetric_generalized_cross_entropy", asymmetric.AsymmetricGeneralizedCrossEntropy
)
linear_asymmetric_unhinged_loss = _linear("linear_asymmetric_unhinged_loss", asymmetric.AsymmetricUnhinged)
linear_asymmetric_exponential_loss = _linear("linear_asymmetric_exponential_loss", asymmetric.AsymmetricExponential)
