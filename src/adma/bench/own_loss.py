"""Anyone's loss by its place: `kornia.losses:FocalLoss:alpha=0.5,reduction=mean`, `my_losses:make_loss`.

What stands there, a class or a function, is called with the options, or with nothing, and gives the loss: something
to call with logits (N, C, ...) and class indices (N, ...) that gives a scalar. Unlike a loss of adma it says nothing of
itself: no posterior can be recovered, no parameter searched or learned, and as it need not be a mean over samples, a
batch is never taken in parts. A cell's key holds the place and the options, not the code behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adma.bench.errors import BenchError
from adma.bench.importing import current_folder_importable, find_function, is_function_name
from adma.spec import known

_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
_LEAST_SAMPLES = 8  # of the batch that a loss is tried on


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


class Adapted(nn.Module):
    """A loss of someone else's, as a training holds it: its buffers go where the network goes.

    Shape:
        logits (N, C, ...) and class indices (N, ...) to ().
    """

    no_posterior = "it is no loss of adma, and what posterior its minimum stands for is not known"

    def __init__(self, loss_fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.loss_fn(logits, target)


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


def build(text: str) -> Adapted:
    """The loss that a spec stands for; its module is also looked for in the current folder.

    Raises:
        BenchError: it cannot be imported or called, or the call gives nothing that can be called.
    """
    own, what = parse(text), f"--loss {text}"
    given = ", ".join(f"{key}={value!r}" for key, value in own.options.items())
    with current_folder_importable():
        make = find_function(what, own.place)
        try:
            loss_fn = make(**own.options)
        except Exception as error:
            raise BenchError(
                f"{what}: calling it with {given or 'nothing'}, which must give the loss, failed: "
                f"{type(error).__name__}: {error}; options are written {own.place}:key=value,key=value, and a function "
                "that is itself the loss is given by another one, which returns it"
            ) from error
    if not callable(loss_fn):
        raise BenchError(
            f"{what}: calling it with {given or 'nothing'} must give a loss to call with logits and targets, got "
            f"{_named(loss_fn)}; a function that is itself the loss is given by another one, which returns it"
        )
    return Adapted(loss_fn)


def check_own_losses(losses: Iterable[str], num_classes: int, places: tuple[int, ...] = ()) -> None:
    """Try each loss that is named by its place on random logits, so that a misfit is told before anything trains.

    Args:
        losses: specs; others are not looked at.
        num_classes: C of the logits (N, C, ...).
        places: what follows C, () where a sample has one label.

    Raises:
        BenchError: as `build`; the loss fails on them, gives something else than a finite scalar, or one whose
            gradient is missing, zero or not finite; or it has parameters, which nothing trains.
    """
    for text in losses:
        if is_own(text):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _check(text, num_classes, places)


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


def _check(text: str, num_classes: int, places: tuple[int, ...]) -> None:
    what = f"--loss {text}"
    loss_fn = build(text)
    trained = [name.removeprefix("loss_fn.") for name, p in loss_fn.named_parameters() if p.requires_grad]
    if trained:
        raise BenchError(
            f"{what}: its parameter {trained[0]!r} would stay as it is, as the optimizer has the network's alone; give "
            "the loss fixed values, such as buffers"
        )
    n = 2 if places else max(_LEAST_SAMPLES, num_classes)
    logits = torch.randn(n, num_classes, *places, requires_grad=True)
    target = torch.randint(num_classes, (n, *places))
    if not places:
        target[:num_classes] = torch.arange(num_classes)
    tried = f"for logits {tuple(logits.shape)} and class indices {tuple(target.shape)}"
    try:
        value = loss_fn(logits, target)
    except Exception as error:
        raise BenchError(f"{what} fails {tried}: {type(error).__name__}: {error}") from error
    if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
        raise BenchError(f"{what}: {tried} it must give a scalar, a tensor of shape (), got {_named(value)}")
    if not math.isfinite(value.item()):
        raise BenchError(f"{what}: {tried}, which are random normal, it must give a finite number, got {value.item()}")
    if not value.requires_grad:
        raise BenchError(f"{what}: its value has no gradient, so nothing can be trained with it")
    try:
        (slope,) = torch.autograd.grad(value, logits, allow_unused=True)
    except Exception as error:
        raise BenchError(f"{what}: its backward pass fails {tried}: {type(error).__name__}: {error}") from error
    if slope is None or not bool(slope.any()):
        raise BenchError(f"{what}: its gradient in the logits is zero, so nothing can be trained with it")
    if not bool(torch.isfinite(slope).all()):
        raise BenchError(f"{what}: {tried}, which are random normal, its gradient must be finite")


def _named(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


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
