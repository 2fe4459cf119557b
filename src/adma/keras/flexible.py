"""A loss of ours as a `keras.losses.Loss`: for class targets, and for one logit a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import keras
from keras import ops

from adma import _check, classic, classic_rows, family, rows
from adma.family import Loss, Member
from adma.keras.namespace import XP, Tensor, tiny
from adma.spec import format_spec, parse

_C = TypeVar("_C", bound=type)
register: Callable[[_C], _C] = keras.saving.register_keras_serializable(package="adma")


class ShapedLoss(keras.losses.Loss):
    """A Keras loss with the parameters of one of ours, as floats or, once they are to change, as variables."""

    kind: ClassVar[type[Loss]]

    def __init__(
        self,
        loss: str | Loss,
        from_logits: bool,
        label_smoothing: float,
        reduction: str | None,
        name: str | None,
        dtype: str | None,
    ) -> None:
        if dtype is None and keras.config.floatx() != "float64":
            dtype = "float32"  # a half type cannot hold the index of a class: logits of one are computed in float32
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype!r}; logits may be of a half type")
        self.from_logits = _check.boolean("from_logits", from_logits)
        self.label_smoothing = _check.real("label_smoothing", label_smoothing, low=0, high=1)
        self._loss = parse(loss) if isinstance(loss, str) else loss
        self._changing: dict[str, Any] = {}

    @property
    def member(self) -> Loss:
        """The loss with its parameters as they stand now."""
        return self._loss

    def assign(self, **values: float) -> None:
        """Change parameters; in a training, what `ShapeScheduler` does. Compiled code sees variables alone.

        Raises:
            TypeError, ValueError: the loss has no such parameter, or refuses a value.
        """
        self._loss = replace(self._loss, **values)
        for key, value in values.items():
            if key in self._changing:
                self._changing[key].assign(value)

    def variable(self, name: str) -> keras.Variable:
        """The parameter as a variable, from now on: what compiled code reads again at each step.

        Raises:
            ValueError: the loss has no such number.
        """
        value = self._loss.parameters().get(name)
        if not isinstance(value, float):
            raise ValueError(f"{self._loss.name} has no real number {name!r}; it has {self._loss.parameters()}")
        if name not in self._changing:
            self._changing[name] = keras.Variable(value, trainable=False, dtype=self.dtype, name=name)
        return self._changing[name]

    def _now(self) -> Any:
        """The loss to compute with."""
        if not self._changing:
            return self._loss
        return self._loss.bind(**{key: ops.convert_to_tensor(value) for key, value in self._changing.items()})

    def get_config(self) -> dict[str, Any]:
        own = self._loss.parameters() if hasattr(self, "kind") else {"loss": format_spec(self._loss)}
        options = {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing, "dtype": self.dtype}
        return {**super().get_config(), **options, **own}


@register
class FlexibleLoss(ShapedLoss):
    """Any loss, by its spec or as a value of `adma.family` or `adma.classic`: also one that you registered.

    Args:
        loss: such as "adma:a=0.26,base=2".
        from_logits: whether `y_pred` holds logits; else probabilities, which are divided by their sum.
        label_smoothing: in [0, 1].
        axis: of the classes.
        ignore_class: the index of targets that count nothing, as in `keras.losses.SparseCategoricalCrossentropy`.
        reduction: as `keras.losses.Loss` takes it.
        name: of the loss.
        dtype: of the arithmetic, "float32" or "float64"; None is float32, or float64 where that is Keras's `floatx`.

    Calling it:
        y_true: class indices (N, d1, ...) or (N, d1, ..., 1); or probabilities (N, d1, ..., C).
        y_pred: (N, d1, ..., C).
        sample_weight: (N), or (N, d1, ...).

        An index outside [0, C) makes its row NaN.

    Raises:
        ValueError: shapes that do not fit, one class only, an option outside its range, a spec that is not understood.
    """

    def __init__(
        self,
        loss: str | Loss,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(loss, from_logits, label_smoothing, reduction, name, dtype)
        if isinstance(self._loss, classic.SemanticCrossEntropy) and not from_logits:
            raise ValueError("semantic is of the logits, not of the softmax's probabilities: give from_logits=True")
        self.axis = axis
        self.ignore_class = ignore_class

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis, "ignore_class": self.ignore_class}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each row, (N, d1, ...)."""
        z, y = y_pred, y_true
        if self.axis != -1:
            z = ops.moveaxis(z, self.axis, -1)
            y = ops.moveaxis(y, self.axis, -1) if len(y.shape) == len(z.shape) else y
        classes = z.shape[-1]
        if classes == 1:
            raise ValueError(
                f"y_pred must hold two classes or more, got the shape {tuple(y_pred.shape)} with classes on axis "
                f"{self.axis}; for one logit a label take the binary loss, such as adma.keras.BinaryAdma"
            )
        hard = len(y.shape) == len(z.shape) - 1
        if len(y.shape) == len(z.shape) and y.shape[-1] == 1:
            hard, y = True, ops.squeeze(y, -1)
        if not hard and (len(y.shape) != len(z.shape) or y.shape[-1] not in (classes, None)):
            raise ValueError(
                f"y_true must be class indices, of y_pred's shape {tuple(y_pred.shape)} without the classes or with 1 "
                f"in their place, or probabilities of that shape; got {tuple(y_true.shape)}"
            )
        loss, smoothing = self._now(), self.label_smoothing
        if isinstance(loss, classic.SmoothedCrossEntropy):
            smoothing = loss.combined(smoothing)
            loss = family.CrossEntropy()
        keep = known = None
        if hard:
            index = ops.cast(y, "int32")
            known = (index >= 0) & (index < classes)
            if self.ignore_class is not None:
                keep = index != self.ignore_class
                z = ops.where(keep[..., None], z, 1.0)  # whatever they hold
            y = rows.hot(index, classes, XP)
        if hard and isinstance(loss, Member) and isinstance(smoothing, float) and smoothing == 0:
            out = self._index_rows(loss, z, y)
        else:
            y = ops.cast(y, z.dtype)
            out = self._soft_rows(loss, z, (1.0 - smoothing) * y + smoothing / classes)
        if known is not None:
            out = ops.where(known, out, float("nan"))
        if keep is not None:
            out = ops.where(keep, out, 0.0)
            out._keras_mask = keep  # so that a mean is over those that count
        return out

    def _index_rows(self, loss: Member, z: Tensor, true: Tensor) -> Tensor:
        if self.from_logits:
            return rows.index_loss(loss, z, true, XP)
        p = ops.sum(ops.where(true, z, 0.0), -1) / ops.sum(z, -1)
        return rows.at_probability(lambda t: loss.psi(t, XP), p, tiny(p), XP)

    def _soft_rows(self, loss: Loss, z: Tensor, y: Tensor) -> Tensor:
        def from_nll(t: Tensor) -> Tensor:
            if isinstance(loss, Member):
                return rows.soft_loss(loss, t, y, XP)
            return classic_rows.row_loss(loss, t, y, None, XP)  # type: ignore[arg-type]

        if self.from_logits and isinstance(loss, Member):
            return from_nll(rows.nll(z, XP))
        if self.from_logits:
            return classic_rows.loss_of_logits(loss, z, y, None, XP)  # type: ignore[arg-type]
        p = z / ops.sum(z, -1, keepdims=True)
        return rows.at_probability(from_nll, p, tiny(p), XP)

    def posterior(self, y_pred: Tensor) -> Tensor:
        """Class probabilities by the loss's own map, from what the network gives; nothing is fitted.

        Args:
            y_pred: (N, d1, ..., C), logits or probabilities as `from_logits` says.

        Raises:
            ValueError: the loss does not determine the posteriors.
        """
        loss = self._loss
        if loss.no_posterior:
            raise ValueError(f"no posteriors: {loss.no_posterior}")
        z = ops.moveaxis(ops.convert_to_tensor(y_pred, dtype=self.dtype), self.axis, -1)
        loss = loss.one_hot if isinstance(loss, classic.SymmetricCrossEntropy) else loss
        if not self.from_logits:
            t = -ops.log(z / ops.sum(z, -1, keepdims=True))
        else:
            t = classic_rows.head(loss, z, XP)  # type: ignore[arg-type]
        eta = rows.posterior(loss, t, XP) if isinstance(loss, Member) else ops.exp(-t)
        return ops.moveaxis(eta, -1, self.axis)


@register
class BinaryFlexibleLoss(ShapedLoss):
    """Any member of the family for one logit a label, as `keras.losses.BinaryCrossentropy`.

    Args:
        loss: such as "adma:a=0.26", or a member of `adma.family`.
        from_logits: whether `y_pred` holds logits; else probabilities.
        label_smoothing: in [0, 1]: labels are drawn to 0.5.
        axis: over which the labels of an example are averaged.
        reduction: as `keras.losses.Loss` takes it.
        name: of the loss.
        dtype: of the arithmetic, as `FlexibleLoss`.

    Calling it:
        y_true, y_pred: labels in [0, 1] and logits, of one shape (N, ...).
        sample_weight: (N).

    Raises:
        ValueError: shapes that differ, an option outside its range, a loss without a binary form.
    """

    def __init__(
        self,
        loss: str | Loss,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(loss, from_logits, label_smoothing, reduction, name, dtype)
        if not isinstance(self._loss, Member):
            raise ValueError(f"{self._loss.name} has no binary form; give the network two logits")
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each example, the mean over its labels."""
        z, y = y_pred, y_true
        if len(y.shape) == len(z.shape) - 1 and z.shape[-1] == 1:
            y = y[..., None]
        if len(y.shape) != len(z.shape) or any(
            None not in (n, m) and n != m for n, m in zip(y.shape, z.shape, strict=True)
        ):
            raise ValueError(
                f"y_true and y_pred must have the same shape, got {tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            )
        y = y * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        loss = self._now()
        if self.from_logits:
            out = rows.binary_loss(loss, z, y, XP)
        else:
            on, off = (rows.at_probability(lambda t: loss.psi(t, XP), p, tiny(p), XP) for p in (z, 1.0 - z))
            out = rows.weighed(y, on, XP) + rows.weighed(1.0 - y, off, XP)
        return ops.mean(out, self.axis)

    def posterior(self, y_pred: Tensor) -> Tensor:
        """The posterior of each positive label, of y_pred's shape.

        Raises:
            ValueError: the loss does not determine the posteriors.
        """
        if self._loss.no_posterior:
            raise ValueError(f"no posteriors: {self._loss.no_posterior}")
        z = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        z = z if self.from_logits else ops.log(z) - ops.log1p(-z)
        return rows.binary_posterior(self._loss, z, XP)  # type: ignore[arg-type]
