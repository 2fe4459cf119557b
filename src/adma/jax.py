"""The losses in JAX: pure functions with a value for each example, in optax's manner.

Classes are the last axis (`axis`), labels are class indices or class probabilities, `where` says which classes there
are. Derivatives of every order, in the logits, in soft labels and in a loss's parameters, are JAX's own, of terms that
are exact in both tails; `jit`, `vmap`, `grad`, `jvp` and `hessian` go through. Half types are computed in float32.

>>> import jax, jax.numpy as jnp
>>> logits, labels = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])
>>> adma_loss(logits, labels, a=0.26).round(4)
Array([0.1149], dtype=float32)
>>> jax.grad(lambda a: adma_loss(logits, labels, a=a).mean())(0.26).round(4)
Array(0.4092, dtype=float32, weak_type=True)
>>> loss("gce:q=0.7", logits, labels).shape
(1,)
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import numpy as np

from adma import _check, asymmetric, classic, classic_rows, family, rows, taylor
from adma.family import Loss, Member
from adma.spec import parse

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("adma.jax needs JAX: pip install 'adma[jax]'") from error

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
    "binary_focal_loss",
    "binary_generalized_cross_entropy",
    "binary_loss",
    "binary_mean_absolute_error",
    "binary_poly1_loss",
    "binary_posterior",
    "binary_taylor_cross_entropy",
    "cross_entropy",
    "focal_loss",
    "generalized_cross_entropy",
    "loss",
    "mean_absolute_error",
    "mean_squared_error",
    "poly1_loss",
    "posterior",
    "semantic_cross_entropy",
    "smoothed_cross_entropy",
    "squared_hinge",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
]

Array = Any  # what jnp.asarray takes
Axis = int | Sequence[int] | None


def loss(
    member: Loss | str,
    logits: Array,
    labels: Array,
    *,
    axis: Axis = -1,
    where: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> jax.Array:
    """The loss of each example; multiply by a weight, take the mean, as with optax's.

    Args:
        member: which loss, of `adma.family` or `adma.classic`, or its spec such as "adma:a=0.26".
        logits: (..., C), of a floating type. Infinite ones are taken to their limit: the result is NaN only where a
            logit is NaN or there is no such class.
        labels: class indices, integers of the logits' shape without the classes; or class probabilities of the logits'
            shape (or broadcast to it). An index outside [0, C) makes its example NaN.
        axis: the axis of the classes; of several, an index counts in their flattened order; None is all of them.
        where: bool, which classes there are, of the logits' shape; or which examples count, of the shape of the
            result. What is left out counts nothing: a label there, and an example without a class, have loss 0.
        label_smoothing: in [0, 1], the share of each label that is spread evenly over the classes that there are.

    Returns:
        The logits' shape without the classes, in the logits' type.

    Raises:
        TypeError: logits of another type, labels that are neither.
        ValueError: shapes that do not fit, no classes, a label smoothing outside [0, 1], a spec that is not understood.
    """
    chosen = parse(member) if isinstance(member, str) else member
    smoothing = _share(label_smoothing)
    if isinstance(chosen, classic.SmoothedCrossEntropy):
        smoothing = chosen.combined(smoothing)
        chosen = family.CrossEntropy()
    call = _canonical(logits, labels, axis, where)
    z, keep = call.logits, call.keep
    plain = isinstance(smoothing, float) and smoothing == 0
    if isinstance(chosen, Member) and call.hard and plain:
        out = rows.index_loss(_whole(chosen), z, call.labels, _XP)
        counted = None if keep is None else (call.labels & keep).any(-1)
    else:
        y = call.labels.astype(z.dtype)
        if not plain:
            classes = z.shape[-1] if keep is None else keep.sum(-1, keepdims=True)
            y = (1.0 - smoothing) * y + smoothing / jnp.maximum(classes, 1)
        y = y if keep is None else jnp.where(keep, y, 0.0)
        counted = None if keep is None else keep.any(-1)
        if isinstance(chosen, Member):
            out = rows.soft_loss(_whole(chosen), rows.nll(z, _XP), y, _XP)
        else:
            out = classic_rows.loss_of_logits(chosen, z, y, keep, _XP)  # type: ignore[arg-type]
    if counted is not None:
        out = jnp.where(counted, out, 0.0)
    if call.unknown is not None:
        out = jnp.where(call.unknown, jnp.nan, out)
    return out.astype(call.dtype)


def binary_loss(member: Member | str, logits: Array, labels: Array) -> jax.Array:
    """The loss of each label, one logit a label, as `optax.sigmoid_binary_cross_entropy`.

    Args:
        member: which loss, of `adma.family`, or its spec.
        logits: of any shape, of a floating type.
        labels: in [0, 1], of the logits' shape or broadcast to it.

    Returns:
        The logits' shape and type.

    Raises:
        TypeError: logits of another type.
        ValueError: shapes that do not fit, or a loss that has no binary form.
    """
    chosen = _of_family(member, "has no binary form; give the network two logits and take loss()")
    z, dtype = _logits(logits)
    y = _broadcast("labels", jnp.asarray(labels), z.shape).astype(z.dtype)
    return rows.binary_loss(_whole(chosen), z, y, _XP).astype(dtype)


def posterior(member: Loss | str, logits: Array, *, axis: Axis = -1, where: Array | None = None) -> jax.Array:
    """Class probabilities from a network trained with a loss, by the loss's own map: nothing is fitted.

    Args:
        member: the loss, or its spec; its parameters are plain numbers.
        logits: (..., C), of a floating type.
        axis: the axis, or axes, of the classes.
        where: bool, which classes there are, of the logits' shape; the others get 0.

    Returns:
        Probabilities of the logits' shape and type. With label smoothing or label noise they estimate the smoothed,
        the noisy posteriors: what the labels showed.

    Raises:
        TypeError: logits of another type.
        ValueError: the loss does not determine the posteriors, or shapes that do not fit.
    """
    chosen = parse(member) if isinstance(member, str) else member
    if chosen.no_posterior:
        raise ValueError(f"no posteriors: {chosen.no_posterior}")
    logits = jnp.asarray(logits)
    call = _canonical(logits, jnp.zeros_like(logits), axis, where)
    chosen = chosen.one_hot if isinstance(chosen, classic.SymmetricCrossEntropy) else chosen
    if isinstance(chosen, Member):
        eta = rows.posterior(chosen, rows.nll(call.logits, _XP), _XP)
    else:
        eta = jnp.exp(-classic_rows.head(chosen, call.logits, _XP))  # type: ignore[arg-type]
    eta = eta if call.keep is None else jnp.where(call.keep, eta, 0.0)
    moved = _last_shape(logits.shape, call.axes)
    return jnp.moveaxis(eta.reshape(moved), range(-len(call.axes), 0), call.axes).astype(call.dtype)


def binary_posterior(member: Member | str, logits: Array) -> jax.Array:
    """The posterior of the positive label, one logit a label; as `posterior` for two classes.

    Raises:
        TypeError: logits of another type.
        ValueError: the loss has no binary form, or does not determine the posteriors.
    """
    chosen = _of_family(member, "has no binary form")
    if chosen.no_posterior:
        raise ValueError(f"no posteriors: {chosen.no_posterior}")
    z, dtype = _logits(logits)
    return rows.binary_posterior(chosen, z, _XP).astype(dtype)


# -- each loss by its name ----------------------------------------------------------------------------------


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


# -- the mathematics' namespace -----------------------------------------------------------------------------


@jax.custom_jvp
def _expm1(x: Array) -> Array:
    """expm1 with exp as its derivative; jax's own is `result + 1`, which cancels to 0 far below 0."""
    return jnp.expm1(x)


@_expm1.defjvp
def _expm1_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return jnp.expm1(primals[0]), jnp.exp(primals[0]) * tangents[0]


@jax.custom_jvp
def _finite(t: Array) -> Array:
    """`t` with a number so large in the place of inf that nothing is left of exp(-t); its derivative is t's."""
    return jnp.where(jnp.isinf(t), _FAR, t)


@_finite.defjvp
def _finite_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _finite(primals[0]), tangents[0]


_FAR = 1e30


def _where(condition: Array, x: Array, y: Array) -> Array:
    """`jnp.where`; a positive constant too small for the type (a floor, 1e-300) is its smallest normal number."""
    dtype = jnp.result_type(x, y)
    if jnp.issubdtype(dtype, jnp.floating):
        tiny = float(jnp.finfo(dtype).tiny)
        x, y = (max(v, tiny) if isinstance(v, float) and v > 0 else v for v in (x, y))
    return jnp.where(condition, x, y)


def _repeat(count: int, function: Any, start: Array) -> Array:
    """`function` applied `count` times."""
    return jax.lax.fori_loop(0, count, lambda _, x: function(x), start)


_XP = SimpleNamespace(
    exp=jnp.exp, expm1=_expm1, log=jnp.log, log1p=jnp.log1p, where=_where, isinf=jnp.isinf, arange=jnp.arange,
    argmax=jnp.argmax, max=jnp.max, sum=jnp.sum, stop_gradient=jax.lax.stop_gradient, repeat=_repeat,
)  # fmt: skip


@dataclass(frozen=True)
class _Whole(Member):
    """A member whose derivatives in its own parameters stay finite at `t = inf`, where `t exp(-a t)` is inf * 0."""

    member: Member

    def psi(self, t: Array, xp: Any = _XP) -> Array:
        end = jnp.asarray(jnp.inf, t.dtype)
        psi = self.member.psi
        left = jax.lax.stop_gradient(psi(end, xp) - psi(_finite(end), xp))  # inf where psi is unbounded, else 0
        return psi(_finite(t), xp) + jnp.where(jnp.isinf(t), left, 0.0)


def _whole(member: Member) -> Member:
    """`member`, ready for derivatives in parameters where these are arrays."""
    arrays = any(isinstance(value, jax.Array) for value in member.parameters().values())
    return _Whole(member) if arrays else member


# -- a call -------------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """A call in one form: classes last and flat, floats in the type of the arithmetic."""

    logits: jax.Array  # (..., C)
    labels: jax.Array  # (..., C), bool for class indices, else probabilities
    hard: bool
    keep: jax.Array | None  # (..., C), bool
    unknown: jax.Array | None  # (...), bool: indices of no class
    axes: tuple[int, ...]
    dtype: Any  # of the result


def _canonical(logits: Array, labels: Array, axis: Axis, where: Array | None) -> _Call:
    z, dtype = _logits(logits)
    axes = _axes(axis, z.ndim)
    y = jnp.asarray(labels)

    def last(x: jax.Array) -> jax.Array:
        shape = _last_shape(x.shape, axes)
        return jnp.moveaxis(x, axes, range(-len(axes), 0)).reshape(*shape[: len(shape) - len(axes)], -1)

    shape, keep = z.shape, None
    if where is not None:
        keep = jnp.asarray(where)
        if keep.dtype != bool:
            raise TypeError(f"where must be bool, got {keep.dtype}")
        keep = last(_broadcast("where", keep if keep.ndim == z.ndim else jnp.expand_dims(keep, axes), shape))
    z = last(z)
    if z.shape[-1] == 0:
        raise ValueError(f"logits must have a class, got the shape {shape} with classes on axis {axis}")
    if keep is not None:
        z = jnp.where(keep, z, -jnp.inf)
    if y.ndim == len(shape):
        return _Call(z, last(_broadcast("labels", y, shape)).astype(z.dtype), False, keep, None, axes, dtype)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(
            f"labels must be class indices (integers) of shape {z.shape[:-1]}, or probabilities of the logits' shape "
            f"{shape}; got {y.dtype} of shape {y.shape}"
        )
    if y.shape != z.shape[:-1]:
        raise ValueError(f"labels must be class indices of shape {z.shape[:-1]}, got the shape {y.shape}")
    unknown = (y < 0) | (y >= z.shape[-1])
    return _Call(z, rows.hot(y, z.shape[-1], _XP), True, keep, unknown, axes, dtype)


def _last_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the axes of the classes moved to its end."""
    return (*(n for i, n in enumerate(shape) if i not in axes), *(shape[i] for i in axes))


def _logits(logits: Array) -> tuple[jax.Array, Any]:
    """The logits in the type of the arithmetic, and their own type."""
    z = jnp.asarray(logits)
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise TypeError(f"logits must be of a floating type, got {z.dtype}")
    return z.astype(jnp.promote_types(z.dtype, jnp.float32)), z.dtype


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    given = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    for one in given:
        if not -ndim <= one < ndim:
            raise ValueError(f"axis must be in [{-ndim}, {ndim}) for logits of {ndim} axes, got {axis!r}")
    axes = tuple(one % ndim for one in given)
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"axis must name different axes of the classes, got {axis!r}")
    return axes


def _broadcast(name: str, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    try:
        return jnp.broadcast_to(x, shape)
    except ValueError:
        raise ValueError(f"{name} must have the shape {shape} or broadcast to it, got {x.shape}") from None


def _share(label_smoothing: float | Array) -> float | Array:
    if isinstance(label_smoothing, numbers.Real):
        return _check.real("label_smoothing", label_smoothing, low=0, high=1)
    return label_smoothing


def _of_family(member: Loss | str, otherwise: str) -> Member:
    chosen = parse(member) if isinstance(member, str) else member
    if not isinstance(chosen, Member):
        raise ValueError(f"{chosen.name} {otherwise}")
    return chosen
