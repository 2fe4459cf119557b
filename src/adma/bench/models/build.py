"""From a model's spec to a network: `convnet:activation=relu`, `resnet34`, `mlp`, `unet`, `package.module:function`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from adma._check import nearest
from adma.bench import _options
from adma.bench.adapted import check_own_losses
from adma.bench.data.dataset import PLAIN, Kind
from adma.bench.errors import BenchError
from adma.bench.importing import current_folder_importable, find_function, is_function_name
from adma.bench.models.convnet import ConvNetOptions, convnet
from adma.bench.models.mlp import MLP, MLPOptions
from adma.bench.models.resnet import ResNet34, ResNet34Options
from adma.bench.models.unet import UNet, UNetOptions
from adma.bench.own_loss import is_own
from adma.classic import LargeMarginSoftmax
from adma.flex.spec import parse
from adma.torch.large_margin import last_linear

_KNOWN: dict[str, type[Any]] = {
    "convnet": ConvNetOptions,
    "mlp": MLPOptions,
    "resnet34": ResNet34Options,
    "unet": UNetOptions,
}
BUILT_IN = tuple(_KNOWN)


def canonical_model(text: str) -> str:
    """A model's spec in its one spelling: keys in a fixed order, defaults left out; a function's name as it is.

    Nothing is imported or built.

    Raises:
        BenchError: an unknown name or key, a repeated key, a value that its key does not take.
    """
    if isinstance(text, str) and is_function_name(text):
        return text
    return _options.format_spec(*_parse(text))


def is_built_in(name: str) -> bool:
    """Whether a spec names a network of ours, and not a function of the user's."""
    return not is_function_name(name)


def build_model(name: str, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A network by its spec, with fresh weights from torch's global generator.

    Args:
        name: "convnet", "resnet34" (images), "unet" (images, a class for each pixel) or "mlp" (anything), with options
            as `ConvNetOptions` and its like have them ("convnet:kernel=5"); or `package.module:function`, called with
            `in_channels` and `num_classes`; in_channels is the first axis of a sample.
        sample_shape: (C, H, W) of images, (D) of vectors, (T) of token ids.
        num_classes: of the logits.

    Raises:
        BenchError: an unknown name or option, a network that does not fit the samples, pretrained weights that
            cannot be had, a function that fails.
    """
    if isinstance(name, str) and is_function_name(name):
        return _call(name, sample_shape, num_classes)
    kind, options = _parse(name)
    if kind == "mlp":
        return MLP(math.prod(sample_shape), num_classes)
    if len(sample_shape) != 3:
        raise BenchError(f"--model {name} takes images (C, H, W), the samples are {sample_shape}; try --model mlp")
    channels, height, width = sample_shape
    if kind == "convnet":
        return convnet(channels, num_classes, (height, width), options)
    if kind == "unet":
        return UNet(channels, num_classes, (height, width), **asdict(options))
    return ResNet34(channels, num_classes, (height, width), weights=options.weights, top=options.top, size=options.size)


def check_model(
    name: str, sample_shape: tuple[int, ...], num_classes: int, losses: Iterable[str] = (), kind: Kind = PLAIN
) -> None:
    """Build once and pass two empty samples through, so that a misfit is told before anything trains.

    Args:
        losses: that the network is to be trained with, by their specs.
        kind: of the data; token ids are all the largest one.

    Raises:
        BenchError: as `build_model`, or the network has nothing to train, fails on such samples, gives another
            shape than (N, classes, ...), or has no last layer for a loss that looks at it; and as `check_own_losses`.
    """
    with torch.random.fork_rng():
        model = build_model(name, sample_shape, num_classes).eval()
        try:
            with torch.no_grad():
                output = model(_samples(sample_shape, kind))
        except Exception as error:
            message = f"--model {name} fails on samples of shape {sample_shape}: {type(error).__name__}: {error}"
            raise BenchError(message) from error
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (2, num_classes, *kind.target_shape):
        one = kind.dense and shape == (2, num_classes)
        hint = "; it gives a sample one class, and the data have one for each position" if one else ""
        raise BenchError(
            f"--model {name}: for 2 samples it must give logits {(2, num_classes, *kind.target_shape)}, got "
            f"{shape}{hint}" + ("; try --model unet" if one and kind.segments else "")
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise BenchError(f"--model {name}: it has no parameter to train; set requires_grad on some")
    named = tuple(losses)
    check_own_losses(named, num_classes, kind.target_shape)
    for loss in named:
        if not is_own(loss) and isinstance(parse(loss).loss, LargeMarginSoftmax):
            try:
                last_linear(model, num_classes)
            except ValueError as error:
                raise BenchError(f"--loss {loss} with --model {name}: {error}") from error


def _samples(sample_shape: tuple[int, ...], kind: Kind) -> Tensor:
    if kind.vocabulary:
        return torch.full((2, *sample_shape), kind.vocabulary - 1)
    return torch.zeros(2, *sample_shape)


def _parse(text: str) -> tuple[str, Any]:
    if isinstance(text, str) and text.partition(":")[0].strip() not in _KNOWN:
        raise BenchError(
            f"--model {text}: not known{nearest(text.partition(':')[0].strip(), BUILT_IN)}; "
            f"known: {', '.join(BUILT_IN)}, or package.module:function"
        )
    return _options.parse("--model", text, _KNOWN)


def _call(name: str, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """What the user's function returns, if it is a network."""
    what = f"--model {name}"
    with current_folder_importable():
        try:
            function = find_function(what, name)
        except BenchError as error:
            kind = name.partition(":")[0]
            if kind not in _KNOWN:
                raise
            raise BenchError(f"{error}; an option of {kind} is written {kind}:key=value") from error
        try:
            model = function(in_channels=sample_shape[0], num_classes=num_classes)
        except Exception as error:
            raise BenchError(
                f"{what}: calling it with in_channels={sample_shape[0]}, num_classes={num_classes} failed: "
                f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(model, nn.Module):
        raise BenchError(f"{what}: must return a torch.nn.Module, got {type(model).__name__}")
    return model
