"""Each loss as a function of its own, with its parameters as keyword arguments."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, Protocol

import jax
import numpy as np

from adma import asymmetric, classic, family, taylor
from adma.family import Loss, Member
from adma.jax.call import Axis
from adma.jax.losses import binary_loss, loss
from adma.jax.namespace import Array


class LossFunction(Protocol):
    """A loss by its name: the call of `loss`, and the loss's own parameters."""

    def __call__(
        self,
        logits: Array,
        labels: Array,
        *,
        axis: Axis = -1,
        where: Array | None = None,
        label_smoothing: float | Array = 0.0,
        **shape: Any,
    ) -> jax.Array: ...


class BinaryLossFunction(Protocol):
    """A binary loss by its name: the call of `binary_loss`, and the loss's own parameters."""

    def __call__(self, logits: Array, labels: Array, **shape: Any) -> jax.Array: ...


def _make(kind: type[Loss], shape: dict[str, Any]) -> Loss:
    """The loss with these parameters: plain numbers are checked, arrays (traced, learned) are taken as they are."""
    arrays = {key: value for key, value in shape.items() if isinstance(value, (jax.Array, np.ndarray))}
    made = kind(**{key: value for key, value in shape.items() if key not in arrays})
    return made.bind(**arrays) if arrays else made


def _multiclass(name: str, kind: type[Loss]) -> LossFunction:
    def function(
        logits: Array,
        labels: Array,
        *,
        axis: Axis = -1,
        where: Array | None = None,
        label_smoothing: float | Array = 0.0,
        **shape: Any,
    ) -> jax.Array:
        made = _make(kind, shape)
        return loss(made, logits, labels, axis=axis, where=where, label_smoothing=label_smoothing)

    named: LossFunction = _named(function, name, kind, "loss")
    return named


def _binary(name: str, kind: type[Member]) -> BinaryLossFunction:
    def function(logits: Array, labels: Array, **shape: Any) -> jax.Array:
        return binary_loss(_make(kind, shape), logits, labels)  # type: ignore[arg-type]

    named: BinaryLossFunction = _named(function, name, kind, "binary_loss")
    return named


def _named(function: Any, name: str, kind: type[Loss], call: str) -> Any:
    """`function` with a name, the signature and the documentation of a loss."""
    said, _, arguments = inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:\n")
    signature = inspect.signature(function)
    *plain, _ = signature.parameters.values()
    shape = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(kind)
    ]
    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature.replace(parameters=[*plain, *shape])
    function.__doc__ = f"{said}\n\nShapes, options, result and errors: as `{call}`.\n" + (
        f"\nArgs (numbers are checked; an array, traced or not, is taken as it is):\n{arguments}\n" if arguments else ""
    )
    return function


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
