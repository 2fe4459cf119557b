"""A shape parameter as a function of training progress, and the object that steps it, as an LR scheduler does.

A schedule is written in one line (`parse` and `str` are inverses):

    constant/0.3               0.3 throughout
    linear/0.01/0.4/0.01       straight lines through two or more knots, evenly spaced: here up and back
    cosine/0.01/0.4            half a cosine between neighbours: slow at every knot, as in cosine annealing
    geometric/0.01/0.4         equal ratios in equal times, which is natural where a parameter's scale is logarithmic
    warmup/0.01/0.3/0.2        from 0.01 to 0.3 over the first 0.2 of the training, a straight line, then 0.3

    >>> import adma
    >>> loss_fn = adma.AdmaLoss(normalize=True)
    >>> shape = ShapeScheduler(loss_fn, total_steps=100, a="linear/0.01/0.41")
    >>> loss_fn.a
    0.01
    >>> for _ in range(50):
    ...     shape.step()  # after optimizer.step()
    >>> round(loss_fn.a, 12)
    0.21

Without `normalize` a small `a` shrinks Adma itself, and with it every step of the optimizer: `a -> 0` is the loss
that is zero everywhere. With `normalize` it is cross-entropy: schedules that start there use it.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from adma import _check
from adma.family import Adma, Loss, Member
from adma.spec import number, numeric

if TYPE_CHECKING:
    from torch import Tensor, nn

_GRID = 64  # points between the knots at which a path is checked too: two schedules may meet badly off their knots
_WEAK = 0.1  # a sample's greatest weight, cross-entropy = 1, below which a loss hardly moves the network


@dataclass(frozen=True)
class Schedule:
    """A value as a function of training progress: 0 before the first step, 1 after the last."""

    kind: ClassVar[str]
    example: ClassVar[str]

    def __call__(self, progress: float) -> float:
        """The value at `progress` in [0, 1].

        Raises:
            TypeError, ValueError: no number, or outside.
        """
        return self._at(_check.real("progress", progress, low=0, high=1))

    def _at(self, progress: float) -> float:
        raise NotImplementedError

    @property
    def numbers(self) -> tuple[float, ...]:
        """What stands behind the kind in the text."""
        raise NotImplementedError

    @property
    def bends(self) -> tuple[float, ...]:
        """The progress at each knot: between two of them the value moves one way."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "/".join([self.kind, *map(repr, self.numbers)])


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float
    kind: ClassVar[str] = "constant"
    example: ClassVar[str] = "constant/0.3"

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _check.real("value", self.value))

    def _at(self, progress: float) -> float:
        return self.value

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.value,)

    @property
    def bends(self) -> tuple[float, ...]:
        return (0.0,)


@dataclass(frozen=True)
class _Knotted(Schedule):
    """Through two or more knots, evenly spaced from progress 0 to 1. Exact at the knots, never outside of them."""

    knots: Sequence[float]

    def __post_init__(self) -> None:
        if isinstance(self.knots, str) or not isinstance(self.knots, Sequence):
            raise TypeError(f"knots must be a sequence of numbers such as (0.01, 0.4), got {self.knots!r}")
        if len(self.knots) < 2:
            raise ValueError(f"{self.kind} needs at least two knots, such as {self.example!r}, got {len(self.knots)}")
        object.__setattr__(self, "knots", tuple(self._knot(i, knot) for i, knot in enumerate(self.knots, 1)))

    def _knot(self, place: int, knot: float) -> float:
        return _check.real(f"knot {place}", knot)

    def _at(self, progress: float) -> float:
        place = progress * (len(self.knots) - 1)
        before = min(int(place), len(self.knots) - 2)
        return _between(self.knots[before], self.knots[before + 1], place - before, self._move)

    def _move(self, low: float, high: float, share: float) -> float:
        return _straight(low, high, share)

    @property
    def numbers(self) -> tuple[float, ...]:
        return tuple(self.knots)

    @property
    def bends(self) -> tuple[float, ...]:
        return tuple(i / (len(self.knots) - 1) for i in range(len(self.knots)))


@dataclass(frozen=True)
class Linear(_Knotted):
    """Straight lines through the knots."""

    kind: ClassVar[str] = "linear"
    example: ClassVar[str] = "linear/0.01/0.4"


@dataclass(frozen=True)
class Cosine(_Knotted):
    """Half a cosine from each knot to the next, with slope 0 at the knots (Loshchilov & Hutter 2017, eq. 5)."""

    kind: ClassVar[str] = "cosine"
    example: ClassVar[str] = "cosine/0.01/0.4"

    def _move(self, low: float, high: float, share: float) -> float:
        return _straight(low, high, 0.5 * (1 - math.cos(math.pi * share)))


@dataclass(frozen=True)
class Geometric(_Knotted):
    """Straight lines of the logarithm; the knots are above 0."""

    kind: ClassVar[str] = "geometric"
    example: ClassVar[str] = "geometric/0.01/0.4"

    def _knot(self, place: int, knot: float) -> float:
        return _check.real(f"knot {place} of geometric", knot, low=0, open_low=True)

    def _move(self, low: float, high: float, share: float) -> float:
        return math.exp(_straight(math.log(low), math.log(high), share))


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line from `start` to `end` over the first `fraction` of the training, then `end`.

    fraction: in (0, 1].
    """

    start: float
    end: float
    fraction: float
    kind: ClassVar[str] = "warmup"
    example: ClassVar[str] = "warmup/0.01/0.3/0.2"

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            object.__setattr__(self, name, _check.real(name, getattr(self, name)))
        fraction = _check.real("fraction", self.fraction, low=0, high=1, open_low=True)
        object.__setattr__(self, "fraction", fraction)

    def _at(self, progress: float) -> float:
        return _between(self.start, self.end, min(1.0, progress / self.fraction), _straight)

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.start, self.end, self.fraction)

    @property
    def bends(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys((0.0, self.fraction, 1.0)))


def _straight(low: float, high: float, share: float) -> float:
    return (1 - share) * low + share * high


def _between(low: float, high: float, share: float, move: Any) -> float:
    """`move` from low to high: exact at both ends, and not past them by its rounding."""
    if share in (0.0, 1.0):
        return high if share else low
    return float(min(max(move(low, high, share), min(low, high)), max(low, high)))


KINDS: dict[str, type[Schedule]] = {cls.kind: cls for cls in (Constant, Linear, Cosine, Geometric, Warmup)}


def parse(text: str) -> Schedule:
    """The schedule that a text stands for; numbers as `adma.spec` reads them.

    Raises:
        TypeError: `text` is no string.
        ValueError: an unknown kind (with the nearest spelling), too few or too many numbers, or one that is none.
    """
    if not isinstance(text, str):
        raise TypeError(f"a schedule is written as a string such as 'linear/0.01/0.4', got {text!r}")
    kind, *parts = (part.strip() for part in text.split("/"))
    if kind not in KINDS:
        near = _check.nearest(kind, KINDS)
        raise ValueError(f"{text!r}: the schedule {kind!r} is not known{near}; known: {', '.join(KINDS)}")
    cls = KINDS[kind]
    count = {Constant: 1, Warmup: 3}.get(cls)
    if len(parts) != count if count else len(parts) < 2:
        takes = "at least two numbers" if count is None else f"{count} number{'s' * (count > 1)}"
        raise ValueError(f"{text!r}: {kind} takes {takes}, such as {cls.example!r}, got {len(parts)}")
    try:
        values = [number(part) for part in parts]
        return cls(*values) if count else cls(values)  # type: ignore[call-arg]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error


def check_path(loss: Loss, schedules: Mapping[str, Schedule]) -> Loss:
    """The loss at progress 0, once the loss itself has taken the values at every knot and at points between.

    What it warns of on the way (a shape that is not convex) is said once.

    Raises:
        ValueError: a parameter that the loss has not, that is no real number, or a value that the loss refuses.
    """
    changeable = numeric(type(loss))
    for name in schedules:
        if name not in changeable:
            near, listing = _check.nearest(name, changeable), ", ".join(changeable) or "none"
            raise ValueError(f"{loss.name} has no number {name!r} to change{near}; it has {listing}")
    bends = sorted({u for schedule in schedules.values() for u in schedule.bends})
    words = ", ".join(f"{name}={schedule}" for name, schedule in schedules.items())
    losses = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for u in [0.0, *bends, *(i / _GRID for i in range(_GRID + 1))]:
            try:
                losses.append(replace(loss, **{name: schedule(u) for name, schedule in schedules.items()}))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{words} at {u:.3g} of the training: {error}") from error
    if heard:
        warnings.warn(f"{words}: {heard[0].message}", heard[0].category, stacklevel=3)
    weights = [x.slope_at_zero for x in losses if isinstance(x, Adma) and not x.normalize]
    if min(weights, default=1.0) < _WEAK:
        warnings.warn(
            f"{words}: where it is smallest, no sample weighs more than {min(weights):.2g} of what it does under "
            "cross-entropy, so the network hardly moves. With normalize=true the greatest weight stays 1.",
            stacklevel=3,
        )
    return losses[0]


class ShapeScheduler:
    """Changes parameters of a loss module as training goes on; stepped as `torch.optim.lr_scheduler`s are.

    At once the loss has the values at progress 0; after `step()` number k those at k / total_steps, so the last
    batch is trained just before the end and what is measured afterwards (`loss_fn.posterior`) is of the end. A
    value depends on k alone: every process of a parallel training has the same, and a resumed one too.
    Compiled code sees the values: `torch.compile` compiles again when a parameter first changes, not at each step;
    for Adma's `base` and focal's `gamma`, whose functions it specialises on their value, that takes `tensors=True`.

    Args:
        loss_fn: a loss module of adma: `AdmaLoss`, a binary one, `BiTemperedLoss`, `FlexibleLoss` of your own member.
        total_steps: how often `step` will be called: the optimizer's steps in the whole training.
        tensors: hold the values in float64 tensors of no dimension that are filled in place, for compiled members of
            the family. Without compilation a float is faster.
        schedules: parameter -> a `Schedule`, its text such as "linear/0.01/0.4", or a number, which stays.

    Raises:
        TypeError: no loss of adma (with `tensors`, no member of the family), or a schedule of another type.
        ValueError: no schedule, an unknown parameter, a text that is none, or values that the loss refuses
            anywhere on the way: nothing is left to fail in the middle of a training.

    Warns:
        UserWarning: once, if the loss warns on the way (Adma past its convex range), or an Adma that is not
            normalised gets so small that it hardly trains.
    """

    def __init__(
        self, loss_fn: nn.Module, /, total_steps: int, *, tensors: bool = False, **schedules: Schedule | str | float
    ) -> None:
        member = getattr(loss_fn, "member", None)
        if not isinstance(member, Loss):
            kind = type(loss_fn).__name__
            raise TypeError(f"loss_fn must be a loss module of adma such as adma.AdmaLoss(), got {kind}")
        if not schedules:
            listing = ", ".join(numeric(type(member))) or "none"
            raise ValueError(f"name a parameter and its schedule, such as a='linear/0.01/0.4'; the loss has {listing}")
        self.schedules: dict[str, Schedule] = {name: _schedule(name, given) for name, given in schedules.items()}
        self.total_steps: int = _whole("total_steps", total_steps, 1)
        if _check.boolean("tensors", tensors) and not isinstance(member, Member):
            raise TypeError(f"tensors=True is for members of the family, {member.name} is none; leave it out")
        check_path(member, self.schedules)
        self._loss_fn: Any = loss_fn
        self._tensors: dict[str, Tensor] = _numbers(self.schedules) if tensors else {}
        self._set(0)

    def _set(self, step: int) -> None:
        self.last_step = step
        self._values = {name: schedule(step / self.total_steps) for name, schedule in self.schedules.items()}
        for name, tensor in self._tensors.items():
            tensor.fill_(self._values[name])
        # checked at construction, and `bind` neither checks nor warns again
        self._loss_fn.member = self._loss_fn.member.bind(**(self._tensors or self._values))

    def step(self) -> None:
        """After each step of the optimizer.

        Raises:
            RuntimeError: more steps than `total_steps`.
        """
        if self.last_step == self.total_steps:
            raise RuntimeError(
                f"the shape's schedule was made for {self.total_steps} steps, this is one more; total_steps is the "
                "number of the optimizer's steps in the whole training"
            )
        self._set(self.last_step + 1)

    def restart(self, total_steps: int, last_step: int = 0) -> None:
        """Make it a schedule over `total_steps` steps of which `last_step` are done.

        For a framework that knows the number of steps only when training begins.

        Raises:
            ValueError: not 1 <= total_steps, or not 0 <= last_step <= total_steps.
        """
        total, last = _whole("total_steps", total_steps, 1), _whole("last_step", last_step, 0)
        if last > total:
            raise ValueError(f"last_step must be at most total_steps {total}, got {last}")
        self.total_steps = total
        self._set(last)

    def get_last_value(self) -> dict[str, float]:
        """The parameters as they stand now."""
        return dict(self._values)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: plain values."""
        return {
            "schedules": {name: str(schedule) for name, schedule in self.schedules.items()},
            "total_steps": self.total_steps,
            "last_step": self.last_step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; sets the loss's parameters too.

        Raises:
            ValueError: the state is of other schedules or of another number of steps.
        """
        mine = self.state_dict()
        for name in ("schedules", "total_steps"):
            if state[name] != mine[name]:
                raise ValueError(f"the state has {name} {state[name]!r}, this scheduler has {mine[name]!r}")
        self.restart(self.total_steps, state["last_step"])


def _numbers(names: Iterable[str]) -> dict[str, Tensor]:
    import torch  # a schedule can be read and drawn without

    return {name: torch.zeros((), dtype=torch.float64) for name in names}


def _whole(name: str, value: int, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise ValueError(f"{name} must be a whole number from {low}, got {value!r}")
    return int(value)


def _schedule(name: str, given: Schedule | str | float) -> Schedule:
    if isinstance(given, Schedule):
        return given
    if isinstance(given, str):
        return parse(given)
    try:
        return Constant(given)
    except TypeError:
        raise TypeError(
            f"{name} must be a schedule, a text such as 'linear/0.01/0.4', or a number, got {given!r}"
        ) from None
