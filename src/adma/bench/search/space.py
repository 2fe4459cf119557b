"""What is searched: from `--loss adma:a=0.1..0.5` and `--lr 1e-4..1e-2` to ranges, and from values to specs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adma._check import nearest
from adma.bench import own_loss
from adma.bench.errors import BenchError
from adma.bench.loss_specs import canonical_loss
from adma.family import Loss, Range
from adma.flex.spec import parse

LR = "lr"
SEARCH = "search"  # `adma:base=search`: over the range that the loss declares
_SPREAD = 10.0  # the learning rate is searched from a tenth of the usual one to ten times it


@dataclass(frozen=True)
class Template:
    """A loss with parameters to be searched.

    name: what was written, in one spelling: "adma", "adma:a=0.1..0.5", "gce:q=0.7".
    fixed: the rest of the spec, as text by key.
    space: searched parameter -> range; empty if the learning rate alone is searched.
    defaults: searched parameter -> the loss's own value, or the middle of a range that does not hold it.
    """

    name: str
    loss: str
    fixed: Mapping[str, str]
    space: Mapping[str, Range]
    defaults: Mapping[str, float]

    def spec(self, values: Mapping[str, float]) -> str:
        """The canonical spec with these values.

        Args:
            values: parameter -> value; others than the searched ones are not looked at.
        """
        return _canonical(_spec(self.loss, {**self.fixed, **{k: _write(r, values[k]) for k, r in self.space.items()}}))


@dataclass(frozen=True)
class Space:
    """All that one loss's study searches: the loss's parameters, then the learning rate if it is searched.

    lr: its one value if it is fixed, or its usual one, where a search starts.
    """

    template: Template
    lr_range: Range | None
    lr: float

    @property
    def ranges(self) -> dict[str, Range]:
        return {**self.template.space, **({LR: self.lr_range} if self.lr_range else {})}

    @property
    def defaults(self) -> dict[str, float]:
        """Where the search starts: the loss's own parameters and the usual learning rate."""
        found = dict(self.template.defaults)
        if self.lr_range:
            inside = self.lr_range.low <= self.lr <= self.lr_range.high
            found[LR] = self.lr if inside else middle(self.lr_range)
        return found

    def lr_of(self, values: Mapping[str, float]) -> float:
        return values.get(LR, self.lr)

    def config(self) -> dict[str, Any]:
        """As plain data, to be compared with another search's."""
        return {key: asdict(r) for key, r in self.ranges.items()} | ({} if self.lr_range else {LR: self.lr})


def parse_template(text: str) -> Template:
    """The search that a `--loss` means.

    A parameter that is given a number is fixed. `KEY=search` and `KEY=LOW..HIGH` are searched; so is every parameter
    for which the loss declares a range, unless that range is optional: then it has to be named.

    Raises:
        BenchError: an unknown loss or parameter, a range that is none or that the loss refuses.
    """
    where = f"--loss {text}"
    if own_loss.is_own(text):
        return _own(text, where)
    name, colon, tail = text.partition(":")
    fixed: dict[str, str] = {}
    asked: dict[str, str] = {}
    for part in tail.split(",") if colon else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key and (key in fixed or key in asked):  # an empty one is told below, as in every other command
            raise BenchError(f"{where}: {key} is given twice")
        if value != SEARCH and ".." not in value:
            fixed[key] = f"{key}{equals}{value}"
        else:
            asked[key] = value
    lows = {key: value.partition("..")[0].strip() for key, value in asked.items() if value != SEARCH}
    given = [*fixed.values(), *(f"{key}={low}" for key, low in lows.items())]
    loss = _parse(f"{name}:{','.join(given)}" if given or (colon and not asked) else name, where)
    parameters = loss.parameters()
    space: dict[str, Range] = {}
    for key in [*parameters, *asked]:
        declared = loss.space.get(key)
        if key in asked:
            if key not in parameters:
                listing = f"it has {', '.join(parameters)}" if parameters else "it has none"
                raise BenchError(f"{where}: {loss.name} has no parameter {key!r}{nearest(key, parameters)}; {listing}")
            space[key] = _asked_range(where, loss, key, asked[key], declared)
        elif declared is not None and not declared.optional and key not in fixed:
            space[key] = declared
    if LR in space:
        raise BenchError(f"{where}: a parameter named {LR!r} cannot be searched, as the learning rate has that name")
    own = {key: parameters[key] if asked.get(key, SEARCH) == SEARCH else _default(loss, key) for key in space}
    defaults = {k: v if (v := own[k]) is not None and r.low <= v <= r.high else middle(r) for k, r in space.items()}
    written = {k: fixed[k] if k in fixed else f"{k}={_words(asked[k], space[k])}" for k in [*fixed, *asked]}
    ordered = [written[key] for key in parameters if key in written]
    template = Template(
        name=f"{loss.name}:{','.join(ordered)}" if ordered else loss.name,
        loss=loss.name,
        fixed={key: part.partition("=")[2] for key, part in fixed.items()},
        space=space,
        defaults=defaults,
    )
    for end in ("low", "high"):
        _parse(_spec(loss.name, {**template.fixed, **{k: _write(r, getattr(r, end)) for k, r in space.items()}}), where)
    return template


def _own(text: str, where: str) -> Template:
    """A loss that is named by its place: there is nothing to search, as it says nothing of its parameters."""
    try:
        own = own_loss.parse(text)
    except ValueError as error:
        raise BenchError(f"{where}: {error}") from error
    for key, value in own.options.items():
        if isinstance(value, str) and (value == SEARCH or ".." in value):
            raise BenchError(f"{where}: {key} cannot be searched, as this is no loss of adma; give it one value")
    return Template(str(own), str(own), {}, {}, {})


def parse_templates(texts: Sequence[str]) -> tuple[Template, ...]:
    """All losses of a search.

    Raises:
        BenchError: as `parse_template`; a loss is given twice.
    """
    found: dict[str, Template] = {}
    for text in texts:
        template = parse_template(text)
        if template.name in found:
            raise BenchError(f"--loss {text}: this loss is given twice")
        found[template.name] = template
    return tuple(found.values())


def parse_lr(text: str | None, usual: float) -> tuple[Range | None, float]:
    """The range of the learning rate, None where it is fixed; and its value there, or where a search starts.

    Args:
        text: `LOW..HIGH`, a number, or None for a range around `usual`.

    Raises:
        BenchError: it is neither.
    """
    if text is None:
        return Range(usual / _SPREAD, usual * _SPREAD, log=True), usual
    if ".." in text:
        low, high = _ends("--lr", "the learning rate", text)
        if low <= 0:
            raise BenchError(f"--lr {text}: a learning rate is above 0")
        return Range(low, high, log=True), usual
    value = _number("--lr", "the learning rate", text)
    if value <= 0:
        raise BenchError(f"--lr {text}: a learning rate is above 0")
    return None, value


def at(r: Range, unit: float) -> float:
    """The value at a place of the range, 0 its low end and 1 its high one; equal steps are ratios where it is log."""
    value = r.low * (r.high / r.low) ** unit if r.log else r.low + unit * (r.high - r.low)
    value = min(max(value, r.low), r.high)  # up to rounding
    return float(round(value)) if r.whole else float(value)


def place(r: Range, value: float) -> float:
    """The inverse of `at`."""
    if r.log:
        return math.log(value / r.low) / math.log(r.high / r.low)
    return (value - r.low) / (r.high - r.low)


def middle(r: Range) -> float:
    """The middle of a range, as `at` means it, in few digits."""
    return tidy(r, at(r, 0.5))


def tidy(r: Range, value: float) -> float:
    """The value in three significant digits, as one writes it down, unless that leaves the range."""
    rounded = float(f"{value:.3g}")
    return rounded if r.low <= rounded <= r.high else float(value)


def _asked_range(where: str, loss: Loss, key: str, value: str, declared: Range | None) -> Range:
    if value == SEARCH:
        if declared is None:
            raise BenchError(f"{where}: {loss.name} declares no range for {key}; write one, such as {key}=0.1..1")
        return declared
    current = getattr(loss, key)
    if isinstance(current, (bool, str)) or not isinstance(current, (int, float)):
        raise BenchError(f"{where}: {key} is no number, so it has no range; give it one value")
    low, high = _ends(where, key, value)
    log = declared is not None and declared.log
    if log and low <= 0:
        raise BenchError(f"{where}: the range of {key} must begin above 0, as it is searched by ratios")
    whole = isinstance(current, int)
    if whole and not (low.is_integer() and high.is_integer()):  # rounding could step over an end
        raise BenchError(f"{where}: {key} is a whole number, so the ends of its range must be, got {value!r}")
    return Range(low, high, log=log, whole=whole)


def _ends(where: str, what: str, text: str) -> tuple[float, float]:
    low, high = (_number(where, f"each end of the range of {what}", end) for end in text.split("..", 1))
    if not low < high:
        raise BenchError(f"{where}: the range of {what} must be LOW..HIGH with LOW below HIGH, got {text!r}")
    return low, high


def _number(where: str, what: str, text: str) -> float:
    try:
        value = float(text.replace("_", "x"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BenchError(f"{where}: {what} must be a number, got {text!r}; a range is written such as 0.1..0.5")
    return value


def _default(loss: Loss, key: str) -> Any:
    value = type(loss).__dataclass_fields__[key].default
    return value if isinstance(value, (int, float)) else None


def _words(asked: str, r: Range) -> str:
    return SEARCH if asked == SEARCH else f"{_write(r, r.low)}..{_write(r, r.high)}"


def _write(r: Range, value: float) -> str:
    return repr(int(value)) if r.whole else repr(float(value))


def _spec(loss: str, values: Mapping[str, str]) -> str:
    return f"{loss}:{','.join(f'{key}={value}' for key, value in values.items())}" if values else loss


def _parse(text: str, where: str) -> Loss:
    """A loss at its start values, if the bench can train it: scheduled and learned parameters are fixed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a shape that deserves a warning gets it where it trains
        try:
            return parse(canonical_loss(text)).loss
        except ValueError as error:
            raise BenchError(f"{where}: {error}") from error


def _canonical(text: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return canonical_loss(text)
