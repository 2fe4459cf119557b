"""A loss whose shape changes in training, in one line: `adma:a=learn`, `adma:a=linear/0.01/0.4,normalize=true`.

A spec as `adma.spec` reads it, in which a number may also be

    learn, learn/START      learned while the network trains, from the default or from START
    KIND/NUMBER/...         a schedule of `adma.flex.schedule`: linear/0.01/0.4, warmup/0.01/0.3/0.2

    >>> parse("adma:a=linear/0.01/0.4,normalize=true").scheduled["a"](0.5)
    0.20500000000000002
    >>> canonical("adma:normalize=true, a=learn/0.26")
    'adma:a=learn,normalize=true'

A plain spec is its own canonical form as in `adma.spec`, and a constant schedule is a plain spec.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from adma import _check, spec
from adma.family import Adma, Loss, Member, Range
from adma.flex import schedule
from adma.flex.coordinates import convex_limit, yielding
from adma.flex.schedule import Constant, Schedule, check_path

LEARN = "learn"


@dataclass(frozen=True)
class FlexibleSpec:
    """A loss, and which of its parameters change in training.

    loss: at its start values: what is learned at its start, what is scheduled at progress 0.
    learned: parameter -> the value that learning starts from.
    scheduled: parameter -> its schedule; a constant one becomes the loss's own value.

    Raises:
        ValueError: a parameter that the loss has not or that is no number, that is both learned and scheduled, or
            whose values the loss refuses; one to be learned that has no range (`Loss.space`) or starts outside of
            it, or where Adma is not convex; a loss to be learned that is no function of the true class's probability.
    """

    loss: Loss
    learned: Mapping[str, float] = field(default_factory=dict)
    scheduled: Mapping[str, Schedule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = set(self.learned) & set(self.scheduled)
        if both:
            raise ValueError(f"{min(both)} cannot be both learned and scheduled")
        learned = {name: _start(self.loss, name, start) for name, start in self.learned.items()}
        loss = self.loss
        if any(getattr(loss, name) != start for name, start in learned.items()):
            loss = replace(loss, **learned)
        if self.scheduled:
            loss = check_path(loss, self.scheduled)
        _check_convex(loss, learned)
        moving = {name: s for name, s in self.scheduled.items() if not isinstance(s, Constant)}
        places = [f.name for f in fields(loss)]
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "learned", dict(sorted(learned.items(), key=lambda item: places.index(item[0]))))
        object.__setattr__(self, "scheduled", dict(sorted(moving.items(), key=lambda item: places.index(item[0]))))

    @property
    def fixed(self) -> bool:
        """Whether nothing changes: a plain spec."""
        return not self.learned and not self.scheduled

    @property
    def bends(self) -> tuple[float, ...]:
        """The progress at every knot of its schedules, 0 the first; 0 alone if there is none."""
        return tuple(sorted({0.0, *(u for s in self.scheduled.values() for u in s.bends)}))

    def at(self, progress: float) -> Loss:
        """The loss at `progress` in [0, 1] of the training; what is learned stays at its start."""
        return self.loss.bind(**{name: s(progress) for name, s in self.scheduled.items()})

    def __str__(self) -> str:
        """The spec in its canonical form; `parse` is the inverse."""
        words = {name: str(s) for name, s in self.scheduled.items()}
        for name, start in self.learned.items():
            words[name] = LEARN if start == default_start(type(self.loss), name) else f"{LEARN}/{start!r}"
        return spec.format_spec(self.loss, words)


def parse(text: str) -> FlexibleSpec:
    """What a spec stands for; a plain one learns and schedules nothing.

    Raises:
        TypeError: `text` is no string.
        ValueError: as `adma.spec.parse` and `FlexibleSpec`, and for a schedule that cannot be read.
    """
    cls, written = spec.split(text)
    numeric = spec.numeric(cls)
    values: dict[str, Any] = {}
    learned: dict[str, float] = {}
    scheduled: dict[str, Schedule] = {}
    for key, value in written.items():
        kind = value.partition("/")[0].strip()
        if key not in numeric:
            values[key] = spec.read(text, cls, key, value)
        elif kind == LEARN:
            values[key] = learned[key] = _read_start(text, cls, key, value)
        elif "/" in value or kind in schedule.KINDS:
            try:
                scheduled[key] = schedule.parse(value)
            except ValueError as error:
                raise ValueError(f"{text!r}: {key}: {error}") from error
            values[key] = scheduled[key](0.0)
        else:
            values[key] = _read_number(text, cls, key, value)
    with warnings.catch_warnings():
        if scheduled:
            warnings.simplefilter("ignore")  # `check_path` says it
        loss = spec.build(text, cls, values)
    if not learned and not scheduled:
        return FlexibleSpec(loss)
    try:
        return FlexibleSpec(loss, learned, scheduled)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error


def canonical(text: str) -> str:
    """A spec in its one normal form: two specs of the same loss give the same text."""
    return str(parse(text))


def default_start(cls: type[Loss], name: str) -> float:
    """Where learning starts if nothing is said: the parameter's default, or the middle of its range.

    Raises:
        ValueError: as `FlexibleSpec`, for a parameter that cannot be learned.
    """
    span = learned_range(cls, name)
    default = next(f.default for f in fields(cls) if f.name == name)
    if default is not MISSING and span.low <= default <= span.high:
        return float(default)
    return math.sqrt(span.low * span.high) if span.log else 0.5 * (span.low + span.high)


def learned_range(cls: type[Loss], name: str) -> Range:
    """Within what a parameter is learned.

    Raises:
        ValueError: it cannot be learned.
    """
    can = [key for key in spec.numeric(cls) if key in cls.space and not cls.space[key].whole]
    if not issubclass(cls, Member):
        raise ValueError(
            f"{cls.name} cannot learn {name}: only losses of the family can, functions of the true class's probability"
        )
    if name not in can:
        raise ValueError(f"{cls.name} cannot learn {name}: it has no range to learn it in; it has {_listing(can)}")
    return cls.space[name]


def _listing(names: list[str]) -> str:
    return f"one for {', '.join(names)}" if names else "none for any parameter"


def _start(loss: Loss, name: str, start: float) -> float:
    span = learned_range(type(loss), name)
    return _check.real(f"the start of {name}", start, low=span.low, high=span.high, hint="it is learned within that")


def _check_convex(loss: Loss, learned: Mapping[str, float]) -> None:
    """The tuner keeps Adma convex and would refuse another start, when the training has begun."""
    if isinstance(loss, Adma) and not loss.convex and (name := yielding(loss, learned)):
        most, other = convex_limit(loss, name), "base" if name == "a" else "a"
        raise ValueError(
            f"the start of {name} must be at most {most:.4g} where {other} = {getattr(loss, other):g}, got "
            f"{learned[name]:g}; a is learned while the loss is convex in p, a <= 1 / (1 + ln base)"
        )


def _read_start(text: str, cls: type[Loss], key: str, value: str) -> float:
    _, slash, start = value.partition("/")
    try:
        if not slash:
            return default_start(cls, key)
        return spec.number(start.strip())
    except ValueError as error:
        what = f"the start of {key} " if slash else ""
        raise ValueError(f"{text!r}: {what}{error}") from None


def _read_number(text: str, cls: type[Loss], key: str, value: str) -> float:
    try:
        return float(spec.read(text, cls, key, value))
    except ValueError as error:
        near = _check.nearest(value, [LEARN, *schedule.KINDS])
        kinds = f"; to change in training, {LEARN} or a schedule ({', '.join(schedule.KINDS)})"
        raise ValueError(f"{error}{near or kinds}") from None
