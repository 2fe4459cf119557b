"""A shape parameter as an unbounded number to step in: its logarithm where its range is one of ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from adma._check import nearest
from adma.family import Member, Range

_WIDTH = 5.0  # a linear range has this length, about that of a logarithmic one of two decades


@dataclass(frozen=True)
class Coordinate:
    """One parameter within its bounds.

    name: of the parameter.
    range: where it may go. For Adma's `base` the logarithm of the base is what moves by ratios.
    """

    name: str
    range: Range

    def __post_init__(self) -> None:
        low, high = self.range.low, self.range.high
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds of {self.name} must be two numbers, low < high, got ({low}, {high})")
        if self.range.log and low <= (1.0 if self._of_base else 0.0):
            least = "1" if self._of_base else "0"
            raise ValueError(f"bounds of {self.name} must lie above {least}, as it moves by ratios, got {low}")

    @property
    def _of_base(self) -> bool:
        return self.name == "base"

    def inward(self, value: float) -> float:
        """The coordinate of a value."""
        if not self.range.log:
            return _WIDTH * (value - self.range.low) / (self.range.high - self.range.low)
        return math.log(math.log(value) if self._of_base else value)

    def outward(self, u: float) -> float:
        """The value at a coordinate; one outside the bounds is taken to the nearer bound."""
        if not self.range.log:
            value = self.range.low + u * (self.range.high - self.range.low) / _WIDTH
        else:
            value = math.exp(math.exp(u)) if self._of_base else math.exp(u)
        return min(max(value, self.range.low), self.range.high)

    def rate(self, value: float) -> float:
        """`d value / d u`."""
        if not self.range.log:
            return (self.range.high - self.range.low) / _WIDTH
        return value * math.log(value) if self._of_base else value


def coordinates(
    member: Member, names: tuple[str, ...], bounds: Mapping[str, tuple[float, float]]
) -> tuple[Coordinate, ...]:
    """The coordinates of a member's parameters, within its `space` unless other bounds are given.

    Raises:
        ValueError: no name, a name twice, a parameter that the member has not or that states no range, a whole
            number, bounds that are none or that do not hold the member's present value.
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
    found = []
    for name in names:
        stated = member.space.get(name)
        if stated is None and name not in bounds:
            raise ValueError(f"{member.name} states no range for {name}; give bounds={{{name!r}: (low, high)}}")
        if stated is not None and stated.whole:
            raise ValueError(f"{name} of {member.name} takes whole numbers, which cannot be learned; search it instead")
        low, high = bounds.get(name, (0.0, 0.0) if stated is None else (stated.low, stated.high))
        if name == "a" and "base" in member.parameters() and name not in bounds:
            high = min(high, member.convex_limit)  # type: ignore[attr-defined]
        found.append(Coordinate(name, Range(low, high, log=low > 0 if stated is None else stated.log)))
        value = member.parameters()[name]
        if not low <= value <= high:
            raise ValueError(
                f"{name} = {value} of {member.name} lies outside its bounds ({low:g}, {high:g}); start within, or give "
                f"bounds={{{name!r}: (low, high)}}"
            )
    return tuple(found)
