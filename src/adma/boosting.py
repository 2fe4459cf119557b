"""The family as objectives of gradient boosting: LightGBM, XGBoost and CatBoost, two classes or many.

A booster asks for the gradient of the loss in its raw scores z, and for a positive curvature. The gradient is exact.
With `s = softmax(z)`, t the true class's negative log-likelihood, and `psi'` the sample's weight, the Hessian is

    psi'(t) (diag(s) - s s^T) + psi''(t) (s - e_y) (s - e_y)^T

Only its first part is handed over. It is positive whatever the member. Where psi is concave in t (Adma, GCE, MAE,
Taylor, the asymmetric losses, Poly-1 with epsilon >= 0) it is the curvature of a majorant: `psi(t') <= psi(t) + psi'(t)
(t' - t)`, so a Newton step on it is one on cross-entropy with the samples weighed anew, and the whole Hessian, which is
negative for hard samples, would send those the wrong way. Where psi is not concave (focal, Poly-1 with epsilon < 0) it
is a Gauss-Newton approximation, which may be too small; lower the learning rate if a training does not settle. Boosters
that want one number a class get the diagonal, by the factor that each uses for its own softmax, so that "cce" grows the
trees of the built-in objective.

>>> import numpy as np
>>> from adma.boosting import gradient_and_curvature
>>> gradient, curvature = gradient_and_curvature("gce:q=0.7", np.array([[2.0, 0.0, -1.0]]), np.array([0]))
>>> gradient.round(3), curvature.round(3)
(array([[-0.139,  0.101,  0.037]]), array([[0.115, 0.089, 0.036]]))

Labels are the classes' numbers, from 0. LightGBM's scikit-learn class numbers others by itself; those of XGBoost and
CatBoost do not, and refuse them in words of their own.

All arithmetic is float64 NumPy (`adma.numpy`); PyTorch takes no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adma import numpy as reference
from adma import spec
from adma.family import Loss, Member

Array = np.ndarray[Any, Any]

_LEAST_CURVATURE = 1e-16  # XGBoost's own: a sample whose weight is 0 must not divide by it


def gradient_and_curvature(
    loss: str | Member, scores: Any, labels: Any, weight: Any = None, *, factor: float = 1.0
) -> tuple[Array, Array]:
    """Gradient of each sample's loss in its raw scores, and the positive curvature above.

    Args:
        loss: a member of the family, or its spec.
        scores: (N, C), or (N) for two classes with one score, the log-odds of class 1.
        labels: classes (N), whole numbers in [0, C), or 0 and 1.
        weight: (N), of the samples.
        factor: of the curvature.

    Returns:
        Two arrays of the scores' shape, float64.

    Raises:
        TypeError, ValueError: the loss is no member of the family, shapes or labels do not fit.
    """
    member = member_of(loss)
    z, y, w = _checked(scores, labels, weight)
    if z.ndim == 1:
        gradient = reference.binary_gradient(member, z, y)
        own = reference.softplus(np.where(y == 1, -z, z))  # of the true class
        curvature = member.slope(own, np) * np.exp(-own) * -np.expm1(-own)
    else:
        gradient = reference.gradient(member, z, y, reduction="sum")
        t = reference.nll(z)
        own = np.take_along_axis(t, y[:, None], 1)
        curvature = member.slope(own, np) * np.exp(-t) * -np.expm1(-t)
        w = None if w is None else w[:, None]
    curvature = np.maximum(factor * curvature, _LEAST_CURVATURE)
    return (gradient, curvature) if w is None else (gradient * w, curvature * w)


def mean_loss(loss: str | Member, scores: Any, labels: Any, weight: Any = None) -> float:
    """The mean loss of raw scores, weighed by the samples' weights.

    Arguments and errors as `gradient_and_curvature`; a ValueError too for no samples, or none that weighs anything.
    """
    member = member_of(loss)
    z, y, w = _checked(scores, labels, weight)
    if not len(y):
        raise ValueError("scores must hold at least one sample: a mean of none is nothing")
    if w is not None and not w.sum():
        raise ValueError("weight must not be 0 for every sample: a mean of none is nothing")
    function = reference.binary_loss if z.ndim == 1 else reference.loss
    return float(np.average(function(member, z, y, reduction="none"), weights=w))


def probabilities(loss: str | Member, scores: Any) -> Array:
    """Class probabilities (N, C) from raw scores by the loss's own posterior map; two columns for one score.

    Raises:
        ValueError: the loss does not determine them.
    """
    z = np.asarray(scores, dtype=np.float64)
    if z.ndim == 1:
        z = np.stack([np.zeros_like(z), z], 1)  # log-odds: the softmax of these two is the sigmoid
    return reference.posterior(member_of(loss), z)


def member_of(loss: str | Loss) -> Member:
    """The member of the family that a spec stands for.

    Raises:
        TypeError: the loss is none.
    """
    found = spec.parse(loss) if isinstance(loss, str) else loss
    if not isinstance(found, Member):
        raise TypeError(
            "loss must be a member of the family (cce, adma, gce, mae, focal, poly1, taylor, agce, aue, aexp, or your "
            f"own), got {found!r}: boosting needs a loss of the true class's probability alone"
        )
    return found


def _checked(scores: Any, labels: Any, weight: Any) -> tuple[Array, Array, Array | None]:
    z, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if z.ndim not in (1, 2) or y.shape != z.shape[:1]:
        raise ValueError(f"scores must be (N) or (N, C) and labels (N), got {z.shape} and {y.shape}")
    classes = 2 if z.ndim == 1 else z.shape[1]
    try:
        index = y.astype(np.int64)
    except (TypeError, ValueError):
        raise TypeError(
            f"labels must be whole numbers in [0, {classes}), got an array of {y.dtype} such as {str(y.flat[0])!r}"
        ) from None
    if y.size and (not np.array_equal(index, y) or index.min() < 0 or index.max() >= classes):
        bad = y[(index != y) | (index < 0) | (index >= classes)][0]
        more = " (for more classes the booster needs their number: num_class=K, CatBoost classes_count=K)"
        raise ValueError(f"labels must be whole numbers in [0, {classes}), got {bad!s}{more if z.ndim == 1 else ''}")
    if weight is None or np.size(weight) == 0:
        return z, index, None
    w = np.asarray(weight, dtype=np.float64)
    if w.shape != y.shape:
        raise ValueError(f"weight must be (N) = {y.shape}, got {w.shape}")
    return z, index, w


class _Objective:
    """What the objectives share: a member, its name, what becomes of raw scores."""

    def __init__(self, loss: str | Member) -> None:
        self.member = member_of(loss)

    @property
    def spec(self) -> str:
        """The loss as a spec."""
        return spec.format_spec(self.member)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.member == other.member

    def __hash__(self) -> int:
        return hash((type(self), self.member))

    def probabilities(self, scores: Any) -> Array:
        """Class probabilities (N, C) from raw scores; see `adma.boosting.probabilities`."""
        return probabilities(self.member, scores)

    def classes(self, scores: Any) -> Array:
        """The most probable class (N) by raw scores."""
        z = np.asarray(scores)
        return (z > 0).astype(np.int64) if z.ndim == 1 else z.argmax(1)


def _call(first: Any, second: Any, weight: Any) -> tuple[Any, Any, Any]:
    """(scores, labels, weight) of a call in the training API's manner, or in that of scikit-learn's wrappers."""
    if hasattr(second, "get_label"):
        return first, second.get_label(), second.get_weight()
    return second, first, weight


class LightGBMObjective(_Objective):
    """A member of the family as LightGBM's objective (4 on), for `lgb.train` and for its scikit-learn classes.

        objective = adma.boosting.LightGBMObjective("adma:a=0.26")
        booster = lgb.train({"objective": objective, "num_class": 3}, data, feval=objective.metric)
        probabilities = objective.probabilities(booster.predict(x))  # raw scores, as for any objective of one's own

    LightGBM's scikit-learn classes add a metric of their own, which takes the raw scores for probabilities, and which
    early stopping would watch too. `metric="None"` leaves it out:

        model = lgb.LGBMClassifier(objective=objective, metric="None")
        model.fit(x, y, eval_set=[held_out], eval_metric=objective.metric, callbacks=[lgb.early_stopping(10)])

    Args:
        loss: a member of the family, or its spec.
    """

    def __call__(self, first: Any, second: Any, weight: Any = None) -> tuple[Array, Array]:
        """(scores, Dataset), or (labels, scores, weight) -> gradient and curvature."""
        scores, labels, weight = _call(first, second, weight)
        z = np.asarray(scores)
        # LightGBM's own, of its softmax: with K classes of which one is redundant
        factor = z.shape[1] / (z.shape[1] - 1) if z.ndim == 2 else 1.0
        return gradient_and_curvature(self.member, z, labels, weight, factor=factor)

    def metric(self, first: Any, second: Any, weight: Any = None) -> tuple[str, float, bool]:
        """The mean loss as an evaluation function: `feval=`, or `eval_metric=` of `fit`."""
        scores, labels, weight = _call(first, second, weight)
        return self.spec, mean_loss(self.member, scores, labels, weight), False


class XGBoostObjective(_Objective):
    """A member of the family as XGBoost's objective, for `xgb.train` and for its scikit-learn classes (version 2 on).

        objective = adma.boosting.XGBoostObjective("adma:a=0.26")
        booster = xgb.train({"num_class": 3}, data, obj=objective, custom_metric=objective.metric)
        probabilities = objective.probabilities(booster.predict(test, output_margin=True))

    Args:
        loss: a member of the family, or its spec.
    """

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> tuple[Array, Array]:
        """(scores, DMatrix), or (labels, scores, sample_weight) -> gradient and curvature."""
        scores, labels, weight = _call(first, second, sample_weight)
        z = np.asarray(scores)
        return gradient_and_curvature(self.member, z, labels, weight, factor=2.0 if z.ndim == 2 else 1.0)  # as its own

    def metric(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        """The mean loss: (name, value) for `custom_metric=` of `xgb.train`, the value alone for `eval_metric=`."""
        scores, labels, weight = _call(first, second, sample_weight)
        value = mean_loss(self.member, scores, labels, weight)
        return (self.spec, value) if hasattr(second, "get_label") else value


class CatBoostObjective(_Objective):
    """A member of the family as CatBoost's `loss_function`, with the whole matrix of curvature for many classes.

        objective = adma.boosting.CatBoostObjective("adma:a=0.26")
        model = CatBoostClassifier(loss_function=objective, eval_metric=objective.metric, classes_count=3)
        probabilities = objective.probabilities(model.predict(x, prediction_type="RawFormulaVal"))

    `classes_count` is how CatBoost learns that there are more than two classes. It then calls Python once a sample,
    which is slow. Its derivatives are of minus the loss.

    Args:
        loss: a member of the family, or its spec.
    """

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> list[tuple[float, float]]:
        """Two classes: the derivatives of each sample in its score."""
        gradient, curvature = gradient_and_curvature(self.member, approxes, targets, weights)
        return list(zip((-gradient).tolist(), (-curvature).tolist(), strict=True))

    def calc_ders_multi(self, approxes: Any, target: Any, weight: float) -> tuple[list[float], list[list[float]]]:
        """Many classes: gradient and matrix of one sample."""
        z = np.asarray(approxes, dtype=np.float64)[None]
        gradient, _ = gradient_and_curvature(self.member, z, np.array([target]))
        t = reference.nll(z)[0]
        s = np.exp(-t)
        matrix = -np.outer(s, s)
        np.fill_diagonal(matrix, s * -np.expm1(-t))
        slope = max(float(self.member.slope(t[int(target)], np)), _LEAST_CURVATURE)
        return (-weight * gradient[0]).tolist(), (-weight * slope * matrix).tolist()

    @property
    def metric(self) -> CatBoostMetric:
        """The mean loss, for `eval_metric=`."""
        return CatBoostMetric(self.member)


class CatBoostMetric:
    """The mean loss as CatBoost's `eval_metric`."""

    def __init__(self, loss: str | Member) -> None:
        self.member = member_of(loss)

    def is_max_optimal(self) -> bool:
        """A loss is better when it is small."""
        return False

    def get_final_error(self, error: float, weight: float) -> float:
        """From the sums to the mean."""
        return error / weight if weight else 0.0

    def evaluate(self, approxes: Sequence[Any], target: Any, weight: Any) -> tuple[float, float]:
        """Scores, a row a class -> the weighed sum of losses, and of weights."""
        scores = np.asarray(approxes[0]) if len(approxes) == 1 else np.stack([np.asarray(row) for row in approxes], 1)
        labels = np.asarray(target)
        total = len(labels) if weight is None else float(np.sum(weight))
        if not total:
            return 0.0, 0.0
        return mean_loss(self.member, scores, labels, weight) * total, total
