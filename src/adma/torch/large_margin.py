"""Large-margin softmax (Liu, Wen, Yu & Yang 2016): the true class has to win by an angle.

A last layer's logit is `z_y = |w_y| |x| cos(theta) + b_y`. While it trains, the true class's is replaced by
`|w_y| |x| psi(theta) + b_y` with

    psi(theta) = (-1)^k cos(m theta) - 2 k,   theta in [k pi / m, (k + 1) pi / m]

which is below the cosine, so the loss is small only where the angle to the true class is m times smaller than to the
others. Networks predict by the plain logits.

>>> import torch, adma
>>> layer = torch.nn.Linear(8, 3)
>>> loss_fn = adma.LargeMarginSoftmaxLoss(margin=2).attach(layer)
>>> loss_fn(layer(torch.randn(5, 8)), torch.tensor([0, 1, 2, 0, 1])).backward()
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from adma import classic
from adma.family import CrossEntropy
from adma.torch import checks
from adma.torch.classic import ClassicLoss
from adma.torch.engine import flexible_loss
from adma.torch.flexible import Shape
from adma.torch.kernels import terms


def large_margin_logits(
    logits: Tensor, target: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None = None, *,
    margin: int = 4, lam: float = 0.0,
) -> Tensor:  # fmt: skip
    """Logits of a last layer with the true class's own made harder by the margin; for any loss of logits.

    Args:
        logits: (N, C), what the layer gave: `features @ weight.T + bias`.
        target: class indices (N), in [0, C).
        features: (N, D), what the layer was given.
        weight: (C, D), of the layer.
        bias: (C), of the layer; the paper has none. It takes no part in the angle.
        margin: m, a whole number from 1 (plain softmax) to 8.
        lam: lambda >= 0, which eases the margin: the true class's logit is `(lambda z_y + z_y') / (1 + lambda)`. The
            paper lets it fall from a large value while the network trains.

    Returns:
        (N, C), of the logits' type.

    Raises:
        TypeError, ValueError: shapes that do not belong together, margin or lam out of their range.
        IndexError: a class index outside [0, C), where the values can be read without waiting for a device.
    """
    member = classic.LargeMarginSoftmax(margin=margin, lam=lam)
    _check_shapes(logits, target, features, weight)
    if checks.values_readable(target):
        wrong = target[(target < 0) | (target >= logits.shape[1])]
        if wrong.numel():
            raise IndexError(
                f"target {int(wrong[0])} is out of range: with {logits.shape[1]} classes an index is in "
                f"[0, {logits.shape[1] - 1}]"
            )
    kind = terms.row_dtype(logits.device)
    own = weight[target].to(kind)
    x = features.to(kind)
    plain = (own * x).sum(1)
    size = torch.linalg.vector_norm(own, dim=1) * torch.linalg.vector_norm(x, dim=1)
    there = size > 0  # a vector of length 0 has no angle, and no margin
    cosine = plain / torch.where(there, size, torch.ones_like(size))
    hard = torch.where(there, size * _psi(cosine, member.margin), torch.zeros_like(size))
    change = (hard - plain) / (1 + member.lam)
    z = logits.gather(1, target[:, None]).to(kind) + change[:, None]
    return logits.scatter(1, target[:, None], z.to(logits.dtype))


def _psi(cosine: Tensor, margin: int) -> Tensor:
    """`(-1)^k cos(m theta) - 2 k` from cos(theta): by Chebyshev's polynomial, whose slope is finite at theta = 0."""
    with torch.no_grad():
        theta = torch.acos(cosine.clamp(-1.0, 1.0))
        k = torch.floor(theta * (margin / math.pi)).clamp(max=margin - 1)
        sign = 1 - 2 * (k % 2)
    before, now = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, now = now, 2 * cosine * now - before
    return sign * now - 2 * k


def _check_shapes(logits: Tensor, target: Tensor, features: Tensor, weight: Tensor) -> None:
    shapes = (tuple(logits.shape), tuple(target.shape), tuple(features.shape), tuple(weight.shape))
    if logits.dim() != 2 or features.dim() != 2 or shapes[3] != (logits.shape[1], features.shape[1]):
        raise ValueError(
            "logits (N, C), features (N, D) and weight (C, D) must belong together, got "
            f"{shapes[0]}, {shapes[2]} and {shapes[3]}"
        )
    if target.dtype != torch.int64 or shapes[1] != shapes[0][:1] or shapes[2][0] != shapes[0][0]:
        raise ValueError(
            f"target must be class indices (N,) of type int64 for logits {shapes[0]} and features {shapes[2]}, got "
            f"{shapes[1]}, {target.dtype}; a margin is of one class, so it has no class probabilities"
        )


def last_linear(model: nn.Module, num_classes: int | None = None) -> nn.Linear:
    """The last `nn.Linear` of a network, in the order of its modules: the layer that gives the logits.

    Args:
        model: the network.
        num_classes: C, if it has to be that layer's number of outputs.

    Raises:
        ValueError: there is none.
    """
    for layer in reversed(list(model.modules())):
        if isinstance(layer, nn.Linear):
            if num_classes is None or layer.out_features == num_classes:
                return layer
            break
    want = "" if num_classes is None else f" with {num_classes} outputs"
    raise ValueError(
        f"{type(model).__name__} does not end in an nn.Linear{want}, which the large margin's angle is taken from"
    )


class LargeMarginSoftmaxLoss(ClassicLoss):
    """Large-margin softmax, L-Softmax (Liu 2016): cross-entropy with an angular margin at the last layer.

    It is called as `nn.CrossEntropyLoss` is, and looks at the layer that it was attached to: `attach` it once, then
    call the network and the loss in turn. Predict with the plain logits.

    Args:
        margin: m, a whole number from 1 (cross-entropy) to 8; the paper uses 2 to 4.
        lam: lambda >= 0 eases the margin; set it while the network trains, or by a schedule.

    Shape:
        input (N, C) and target (N), class indices; the result is a scalar, or (N) for "none".

    Raises:
        RuntimeError: in the call, it is attached to no layer, or the logits are not of the layer's last call.
    """

    kind = classic.LargeMarginSoftmax
    member: classic.LargeMarginSoftmax
    margin = Shape[int]()
    lam = Shape[float]()

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        from_probabilities: bool = False,
        inplace: bool = False,
        **shape: float,
    ) -> None:
        super().__init__(
            weight, size_average, ignore_index, reduce, reduction, label_smoothing,
            from_probabilities=from_probabilities, inplace=inplace, **shape,
        )  # fmt: skip
        self._layer: weakref.ref[nn.Linear] | None = None  # not a child: its weights are the network's
        self._hook: Any = None
        self._seen: tuple[Tensor, Tensor] | None = None
        if self.from_probabilities or self.inplace:
            option = "inplace" if self.inplace else "from_probabilities"
            raise ValueError(
                f"{option}=True cannot be done with a large margin, which changes the logits; leave it out"
            )

    def attach(self, layer: nn.Module) -> LargeMarginSoftmaxLoss:
        """Look at a last layer from now on, and at no other.

        Args:
            layer: the `nn.Linear` that gives the logits, or a network that ends in one (`last_linear`).
        """
        found = layer if isinstance(layer, nn.Linear) else last_linear(layer)
        if self._hook is not None:
            self._hook.remove()
        self._layer = weakref.ref(found)
        self._seen = None
        self._hook = found.register_forward_hook(self._remember)
        return self

    def _remember(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled():
            self._seen = (inputs[0], output)

    def __getstate__(self) -> dict[str, Any]:
        """A copy and a pickle are attached to nothing."""
        return {**self.__dict__, "_layer": None, "_hook": None, "_seen": None}

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        layer = self._layer() if self._layer is not None else None
        if layer is None:
            raise RuntimeError("attach the loss to the network's last layer first: loss_fn.attach(model.classifier)")
        if self._seen is None or self._seen[1].data_ptr() != input.data_ptr() or self._seen[1].shape != input.shape:
            raise RuntimeError(
                "these logits are not what the attached layer gave at its last call with gradients; call the network "
                "and the loss in turn, or use adma.functional.large_margin_logits"
            )
        features, self._seen = self._seen[0], None
        keep = target != self.ignore_index
        real = torch.where(keep, target, 0)
        z = large_margin_logits(input, real, features, layer.weight, margin=self.margin, lam=self.lam)
        return flexible_loss(
            CrossEntropy(), z, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
