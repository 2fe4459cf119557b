"""Anyone's loss by its place: `kornia.losses:FocalLoss:alpha=0.5,reduction=mean`, `my_losses:make_loss`.

What stands there, a class or a function, is called with the options, or with nothing, and gives the loss: something
to call with logits (N, C, ...) and class indices (N, ...) that gives a scalar. Unlike a loss of adma it says nothing of
itself: no posterior can be recovered, no parameter searched or learned, and as it need not be a mean over samples, a
batch is never taken in parts. A cell's key holds the place and the options, not the code behind them.

Here is what the text says; `adapted` makes the loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adma.bench.errors import BenchError
from adma.bench.importing import is_function_name
from adma.spec import known

_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class OwnLoss:
    """A loss's place, `package.module:name`, and the keyword arguments of the call that makes it."""

    place: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        """The spec in its one spelling: `parse` is the inverse."""
        written = ",".join(f"{key}={_write(value)}" for key, value in sorted(self.options.items()))
        return f"{self.place}:{written}" if written else self.place

    @property
    def lines(self) -> str:
        """As one writes it in Python."""
        module, _, name = self.place.partition(":")
        call = ", ".join(f"{key}={value!r}" for key, value in sorted(self.options.items()))
        return f"from {module} import {name.partition('.')[0]}\nloss_fn = {name}({call})"


def is_own(text: str) -> bool:
    """Whether a spec names a place: `a:b` is one unless `a` is a loss that is known by that name."""
    module, _, rest = text.partition(":")
    if not is_function_name(f"{module}:{rest.partition(':')[0]}"):
        return False
    return not any(module in (name, *cls.aliases) for name, cls in known().items())


def parse(text: str) -> OwnLoss:
    """What a spec for which `is_own` holds stands for; nothing is imported.

    Options are numbers as Python writes them, `true`, `false`, `none`, or else text.

    Raises:
        ValueError: an option is not of the form key=value, or is given twice.
    """
    module, _, rest = text.partition(":")
    name, colon, tail = rest.partition(":")
    place = f"{module}:{name}"
    if colon and not tail.strip():
        raise ValueError(f"{text!r}: nothing stands behind the second colon; write {place!r}, or '{place}:key=value'")
    options: dict[str, Any] = {}
    for part in tail.split(",") if colon else []:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if not key.isidentifier() or not value:
            raise ValueError(f"{text!r}: {part.strip()!r} is not of the form key=value")
        if key in options:
            raise ValueError(f"{text!r}: {key} is given twice")
        options[key] = _read(value)
    return OwnLoss(place, options)


def check_whole_batches(losses: Iterable[str], devices: int) -> None:
    """Whether each process may take its part of a batch.

    Raises:
        BenchError: there are several, and a loss is named by its place.
    """
    own = [text for text in losses if is_own(text)]
    if own and devices > 1:
        raise BenchError(
            f"--devices {devices} with --loss {own[0]}: a loss that is not of adma need not be a mean over samples, so "
            "a batch cannot be divided between processes; train each cell on one device"
        )


def _read(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text.replace("_", "x"))  # Python's 1_0 is a slip here
        except ValueError:
            pass
    return text


def _write(value: Any) -> str:
    if isinstance(value, str):
        return value
    return repr(value).lower()
