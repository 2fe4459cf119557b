"""A loss that is named by its place (`own_loss`), made, and tried before anything trains with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from adma.bench.errors import BenchError
from adma.bench.importing import current_folder_importable, find_function
from adma.bench.own_loss import is_own, parse

_LEAST_SAMPLES = 8  # of the batch that a loss is tried on


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
