"""A shape parameter as an unbounded number to step in: its logarithm where its range is one of ratios."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adma._check import nearest, real
from adma.family import Adma, Member, Range

_WIDTH = 5.0  # a linear range has this length, about that of a logarithmic one of two decades


@dataclass(frozen=True)
class Coordinate:
    """One parameter within its bounds.

    name: of the parameter.
    range: where it may go.
    of_base: whether it is Adma's `base`, of which the logarithm is what moves by ratios.
    """

    name: str
    range: Range
    of_base: bool = False

    def __post_init__(self) -> None:
        low, high = self.range.low, self.range.high
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds of {self.name} must be two numbers, low < high, got ({low}, {high})")
        if self.range.log and low <= (1.0 if self.of_base else 0.0):
            least = "1" if self.of_base else "0"
            raise ValueError(f"bounds of {self.name} must lie above {least}, as it moves by ratios, got {low}")

    def inward(self, value: float) -> float:
        """The coordinate of a value."""
        if not self.range.log:
            return _WIDTH * (value - self.range.low) / (self.range.high - self.range.low)
        return math.log(math.log(value) if self.of_base else value)

    def outward(self, u: float) -> float:
        """The value at a coordinate; one outside the bounds is taken to the nearer bound."""
        if not self.range.log:
            value = self.range.low + u * (self.range.high - self.range.low) / _WIDTH
        else:
            value = math.exp(math.exp(u)) if self.of_base else math.exp(u)
        return min(max(value, self.range.low), self.range.high)

    def rate(self, value: float) -> float:
        """`d value / d u`."""
        if not self.range.log:
            return (self.range.high - self.range.low) / _WIDTH
        return value * math.log(value) if self.of_base else value


def coordinates(
    member: Member, names: tuple[str, ...], bounds: Mapping[str, tuple[float, float]]
) -> tuple[Coordinate, ...]:
    """The coordinates of a member's parameters, within its `space` unless other bounds are given.

    Raises:
        TypeError: bounds that are no two numbers.
        ValueError: no name, a name twice, a parameter that the member has not or that states no range, a whole
            number, bounds that are none, that the member refuses or that do not hold its present value.

    Warns:
        UserWarning: as the member does at the bounds that are given (Adma past its convex range).
    """
    if not names:
        raise ValueError("parameters: name at least one parameter to learn, such as ('a',)")
    if len(set(names)) < len(names):
        raise ValueError(f"parameters: each once, got {names}")
    for name in (*names, *bounds):
        if name not in member.parameters():
            near = nearest(name, member.parameters())
            raise ValueError(
                f"{member.name} has no parameter {name!r}{near}; it has {', '.join(member.parameters()) or 'none'}"
            )
    bounds = {name: _pair(name, given) for name, given in bounds.items()}
    found = []
    for name in names:
        stated = member.space.get(name)
        if stated is None and name not in bounds:
            raise ValueError(f"{member.name} states no range for {name}; give bounds={{{name!r}: (low, high)}}")
        if stated is not None and stated.whole:
            raise ValueError(f"{name} of {member.name} takes whole numbers, which cannot be learned; search it instead")
        low, high = bounds.get(name, (0.0, 0.0) if stated is None else (stated.low, stated.high))
        span = Range(low, high, log=low > 0 if stated is None else stated.log)
        found.append(Coordinate(name, span, isinstance(member, Adma) and name == "base"))
        for end in bounds.get(name, ()):
            try:
                replace(member, **{name: end})  # or it would be refused in the middle of a training
            except ValueError as error:
                raise ValueError(f"bounds of {name}: {error}") from None
        value = member.parameters()[name]
        if name == yielding(member, names, bounds):
            high = min(high, convex_limit(member, name))
        if not low <= value <= high:
            raise ValueError(
                f"{name} = {value} of {member.name} lies outside its bounds ({low:g}, {high:g}); start within, or give "
                f"bounds={{{name!r}: (low, high)}}"
            )
    return tuple(found)


def _pair(name: str, given: Any) -> tuple[float, float]:
    try:
        low, high = given
    except (TypeError, ValueError):
        raise TypeError(f"bounds of {name} must be two numbers (low, high), got {given!r}") from None
    return real(f"a bound of {name}", low), real(f"a bound of {name}", high)


def yielding(member: Member, names: Collection[str], bounds: Collection[str] = ()) -> str | None:
    """Which of the learned parameters is kept where Adma is convex, whatever the other one is: `a` before `base`.

    Args:
        member: None is kept of one that is not Adma.
        names: of the learned parameters.
        bounds: those that go by bounds of their own.
    """
    if not isinstance(member, Adma):
        return None
    return next((name for name in ("a", "base") if name in names and name not in bounds), None)


def convex_limit(member: Member, name: str) -> float:
    """The largest `a` for which Adma with its base is convex in p, or the largest base for its `a`."""
    assert isinstance(member, Adma)
    if name == "a":
        return member.convex_limit
    # a <= 1 / (1 + ln base), and below that by more than its rounding
    return math.exp(min((1.0 - 1e-15) / member.a - 1.0, 700.0))
