"""The losses as `keras.losses.Loss`, on every backend of Keras 3: in `compile`, saved with the model, scheduled.

    model.compile("adam", loss=adma.keras.Adma(from_logits=True, a=0.26))

One class is for sparse and for categorical targets: it tells them by their shape, as Keras does where one writes
`metrics=["accuracy"]`. Targets of the logits' shape are probabilities (one-hot); those without the classes, or with
one number in their place, are class indices. The two can be confused only where there is one class, which is refused:
there the binary class, `BinaryAdma`, is meant. As in Keras, `from_logits` is False unless given; logits are exact in
both tails, where a probability has been rounded already.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

from adma import _check, asymmetric, classic, classic_rows, family, rows, taylor
from adma.family import Loss, Member
from adma.flex.schedule import Constant, Schedule, check_path
from adma.flex.schedule import parse as parse_schedule
from adma.spec import format_spec, parse

try:
    import keras
    from keras import ops
except ImportError as error:
    raise ImportError("adma.keras needs Keras 3: pip install 'adma[keras]'") from error

Tensor = Any  # of Keras's backend
_C = TypeVar("_C", bound=type)
_register: Callable[[_C], _C] = keras.saving.register_keras_serializable(package="adma")


class _ShapedLoss(keras.losses.Loss):
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


@_register
class FlexibleLoss(_ShapedLoss):
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
            y = rows.hot(index, classes, _XP)
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
            return rows.index_loss(loss, z, true, _XP)
        p = ops.sum(ops.where(true, z, 0.0), -1) / ops.sum(z, -1)
        return rows.at_probability(lambda t: loss.psi(t, _XP), p, _tiny(p), _XP)

    def _soft_rows(self, loss: Loss, z: Tensor, y: Tensor) -> Tensor:
        def from_nll(t: Tensor) -> Tensor:
            if isinstance(loss, Member):
                return rows.soft_loss(loss, t, y, _XP)
            return classic_rows.row_loss(loss, t, y, None, _XP)  # type: ignore[arg-type]

        if self.from_logits and isinstance(loss, Member):
            return from_nll(rows.nll(z, _XP))
        if self.from_logits:
            return classic_rows.loss_of_logits(loss, z, y, None, _XP)  # type: ignore[arg-type]
        p = z / ops.sum(z, -1, keepdims=True)
        return rows.at_probability(from_nll, p, _tiny(p), _XP)

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
            t = classic_rows.head(loss, z, _XP)  # type: ignore[arg-type]
        eta = rows.posterior(loss, t, _XP) if isinstance(loss, Member) else ops.exp(-t)
        return ops.moveaxis(eta, -1, self.axis)


@_register
class BinaryFlexibleLoss(_ShapedLoss):
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
            out = rows.binary_loss(loss, z, y, _XP)
        else:
            on, off = (rows.at_probability(lambda t: loss.psi(t, _XP), p, _tiny(p), _XP) for p in (z, 1.0 - z))
            out = rows.weighed(y, on, _XP) + rows.weighed(1.0 - y, off, _XP)
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
        return rows.binary_posterior(self._loss, z, _XP)  # type: ignore[arg-type]


# -- a schedule ---------------------------------------------------------------------------------------------


class _Shape(keras.metrics.Metric):
    """A parameter among the model's metrics: so it is part of the state of a compiled step, and logged."""

    def __init__(self, variable: keras.Variable, name: str) -> None:
        super().__init__(name=name)
        self.variable = variable

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the scheduler sets the value."""

    def reset_state(self) -> None:
        """Nothing: the value stays."""

    def result(self) -> Tensor:
        """The value, in memory of its own: a compiled step gives that of its state away."""
        return ops.convert_to_tensor(self.variable) + 0.0


class ShapeScheduler(keras.callbacks.Callback):
    """Changes parameters of a loss while `fit` runs, and logs them; the steps are compiled once, not for each value.

    Step k of n trains with the values at progress k / n, and after the last step the loss has those of the end, so
    that a model that is saved then, and its `posterior`, are of the end. A fit that goes on with `initial_epoch` goes
    on in the schedule.

    Args:
        loss: the loss that the model was compiled with.
        total_steps: batches of the whole training; by default epochs times batches of an epoch.
        schedules: parameter -> a schedule as `adma.flex` writes it, such as a="linear/0.01/0.4".

    Raises:
        TypeError, ValueError: at once, for an unknown parameter or a value that the loss refuses anywhere on the way;
            when the fit begins, if the number of batches is not known and `total_steps` not given.
        RuntimeError: more batches than `total_steps`.
    """

    def __init__(self, loss: _ShapedLoss, total_steps: int | None = None, **schedules: Schedule | str | float) -> None:
        super().__init__()
        if not isinstance(loss, _ShapedLoss):
            raise TypeError(f"loss must be a loss of adma.keras such as adma.keras.Adma(), got {loss!r}")
        if not schedules:
            raise ValueError("name a parameter and its schedule, such as a='linear/0.01/0.4'")
        self._loss = loss
        self._schedules: dict[str, Schedule] = {
            key: parse_schedule(s) if isinstance(s, str) else s if isinstance(s, Schedule) else Constant(s)
            for key, s in schedules.items()
        }
        check_path(loss.member, self._schedules)
        self._given, self._total, self._done, self._batch = total_steps, 1, 0, -1
        self._shapes: list[_Shape] = []
        self._set(0)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for name in self._schedules:
            self._track(model, _Shape(self._loss.variable(name), name))
        model.train_function = model.test_function = None  # what was compiled before may hold plain numbers

    def _track(self, model: Any, shape: _Shape) -> None:
        """Make a metric of the model, which compiled steps take as state; models that are built lock theirs."""
        locked = model._tracker.locked
        model._tracker.unlock()
        setattr(model, f"_adma_{shape.name}", shape)
        self._shapes.append(shape)
        if locked:
            model._tracker.lock()

    def on_train_end(self, logs: Any = None) -> None:
        model = self.model
        while self._shapes:  # `evaluate` gives its metrics in order: none more than there were
            shape = self._shapes.pop()
            model._tracker.untrack(shape)
            delattr(model, f"_adma_{shape.name}")
        model.train_function = model.test_function = None

    def on_train_begin(self, logs: Any = None) -> None:
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if self._given is None and not steps:
            raise ValueError("the number of batches of an epoch is not known; give ShapeScheduler total_steps")
        self._total = steps * epochs if self._given is None else self._given
        self._done = 0
        self._set(0)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batch = -1
        if self.params.get("steps"):
            self._set(epoch * self.params["steps"])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._set(self._done + batch - self._batch)
        self._batch = batch

    def _set(self, step: int) -> None:
        if step > self._total:
            raise RuntimeError(f"the schedule was made for {self._total} batches, this is batch {step}")
        self._done = step
        if getattr(self, "_model", None) is not None:
            self.model  # noqa: B018  # on JAX it brings what the compiled step holds back into the variables
        # checked at construction
        values = {key: schedule(step / self._total) for key, schedule in self._schedules.items()}
        self._loss._loss = self._loss._loss.bind(**values)
        for key, value in values.items():
            self._loss.variable(key).assign(value)


# -- each loss by its name ----------------------------------------------------------------------------------


def _named(kind: type[Loss], base: type[_ShapedLoss], name: str) -> Any:
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
    return _register(type(name, (base,), namespace))


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
    if isinstance(cls, type) and issubclass(cls, _ShapedLoss) and hasattr(cls, "kind")
}


# -- the mathematics' namespace -----------------------------------------------------------------------------


def _expm1(x: Tensor) -> Tensor:
    """expm1 with the derivatives of exp; some backends' own is `result + 1`, which cancels to 0 far below 0."""
    e = ops.exp(x)
    return ops.stop_gradient(ops.expm1(x)) + (e - ops.stop_gradient(e))


def _tiny(x: Tensor) -> float:
    """The smallest normal number of x's type, float32 or float64."""
    return 2.0**-1022 if keras.backend.standardize_dtype(x.dtype) == "float64" else 2.0**-126


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`ops.where` with constants in the type of the other: Keras takes them by way of float32.

    A positive constant too small for the type (a floor, 1e-300) is its smallest normal number.
    """
    like = y if isinstance(x, float) else x
    if not isinstance(like, float):
        x, y = (_constant(v, like) if isinstance(v, float) else v for v in (x, y))
    return ops.where(condition, x, y)


def _constant(value: float, like: Tensor) -> Tensor:
    value = max(value, _tiny(like)) if value > 0 else value
    return ops.convert_to_tensor(value, dtype=like.dtype)


_XP = SimpleNamespace(
    exp=ops.exp, expm1=_expm1, log=ops.log, log1p=ops.log1p, where=_where, isinf=ops.isinf, max=ops.max, sum=ops.sum,
    stop_gradient=ops.stop_gradient,
    arange=lambda count: ops.arange(count, dtype="int32"),
    argmax=lambda x, axis: ops.cast(ops.argmax(x, axis), "int32"),
    repeat=lambda count, function, start: ops.fori_loop(0, count, lambda _, x: function(x), start),
)  # fmt: skip
