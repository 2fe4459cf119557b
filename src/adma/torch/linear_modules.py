"""The last layer and the loss together as modules: those of `torch.nn.LinearCrossEntropyLoss`, for every member.

>>> import torch
>>> head = LinearAdmaLoss(16, 1000, a=0.26)
>>> hidden, target = torch.randn(2, 5, 16, requires_grad=True), torch.randint(1000, (2, 5))
>>> head(hidden, target).backward()
>>> head.logits(hidden[:, -1]).shape  # to generate, or to evaluate
torch.Size([2, 1000])
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from adma import _check, asymmetric, family, taylor
from adma.family import Member
from adma.spec import format_spec, parse
from adma.torch import checks
from adma.torch.flexible import Named, Shape
from adma.torch.linear import linear_flexible_loss
from adma.torch.linear_checks import LinearLossOptions
from adma.torch.posterior import no_trace, posterior


class LinearFlexibleLoss(nn.Module):
    """A linear layer and any member of the family, without the logits in memory (`linear_flexible_loss`).

    The layer is `self.linear`, an `nn.Linear`, so names in a `state_dict` are those of
    `torch.nn.LinearCrossEntropyLoss`.

    Args:
        in_features: H.
        num_classes: C.
        member: psi and slope (`adma.family`), also one of your own; or a spec such as "adma:a=0.26".
        linear_weight: (C, H), a parameter that is used elsewhere too, as the embedding's is where head and embedding
            are tied. None makes one.
        bias: whether the layer has a bias.
        device: of the layer.
        dtype: of the layer.
        weight: (C), a factor for each class; a buffer.
        reduction: "none", "mean" or "sum"; a mean over nothing is 0, not NaN.
        ignore_index: index targets with this value count nothing and get no gradient; None is -100.
        label_smoothing: in [0, 1].
        softcap: the loss sees `softcap * tanh(logits / softcap)`; in (0, inf).
        z_loss: the factor of the squared log of the softmax's denominator; in [0, inf).
        options: chunk size and accumulation (`LinearLossOptions`).

    Shape:
        input (H) or (..., H); target (...) as class indices or (..., C) as class probabilities; the result is a
        scalar, or (...) for "none".
    """

    weight: Tensor | None
    member: Member

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        member: Member | str,
        *,
        linear_weight: nn.Parameter | None = None,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        weight: Tensor | None = None,
        reduction: str = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        softcap: float | None = None,
        z_loss: float = 0.0,
        options: LinearLossOptions | None = None,
    ) -> None:
        super().__init__()
        in_features = _check.whole("in_features", in_features, low=1, high=2**31)
        num_classes = _check.whole("num_classes", num_classes, low=1, high=2**31)
        found = parse(member) if isinstance(member, str) else member
        if not isinstance(found, Member):
            raise TypeError(f"member must be an adma.family.Member or the spec of one, got {member!r}")
        if options is not None and not isinstance(options, LinearLossOptions):
            raise TypeError(f"options must be adma.LinearLossOptions or None, got {type(options).__name__}")
        if weight is not None:
            checks.floating("weight", weight)
            if weight.shape != (num_classes,):
                raise ValueError(f"weight must have shape ({num_classes},), one a class, got {tuple(weight.shape)}")
        self.register_buffer("weight", weight)
        self.member = found
        self.linear = _layer(in_features, num_classes, linear_weight, bias, device, dtype)
        self.reduction = checks.reduction_name(reduction, None, None)
        self.ignore_index = ignore_index
        self.label_smoothing = _check.real("label_smoothing", label_smoothing, low=0, high=1)
        self.softcap = None if softcap is None else _check.real("softcap", softcap, low=0, open_low=True)
        self.z_loss = _check.real("z_loss", z_loss, low=0)
        self.options = options

    @property
    def spec(self) -> str:
        """The loss as `adma.make_loss` reads it (its shape, not its options)."""
        return format_spec(self.member)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return linear_flexible_loss(
            self.member, input, self.linear.weight, target, linear_bias=self.linear.bias, weight=self.weight,
            reduction=self.reduction, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
            softcap=self.softcap, z_loss=self.z_loss, options=self.options,
        )  # fmt: skip

    def logits(self, input: Tensor) -> Tensor:
        """The layer's output (..., C) for `input` (..., H), soft-capped: to generate, or to evaluate."""
        logits: Tensor = self.linear(input)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    @property
    def no_posterior(self) -> str:
        """Why `posterior` refuses; empty if it does not."""
        return self.member.no_posterior or no_trace(self.weight)

    def posterior(self, input: Tensor) -> Tensor:
        """Class probabilities (..., C) for `input` (..., H), by `adma.functional.posterior`.

        Raises:
            ValueError: this loss does not determine the posteriors.
        """
        logits = self.logits(input)
        rows = posterior(self.member, logits.reshape(-1, logits.shape[-1]), weight=self.weight)
        return rows.reshape(logits.shape)

    def extra_repr(self) -> str:
        shape = [f"{key}={value!r}" for key, value in self.member.parameters().items()]
        defaults = {
            "reduction": "mean", "ignore_index": None, "label_smoothing": 0.0, "softcap": None, "z_loss": 0.0,
            "options": None,
        }  # fmt: skip
        said = [f"{k}={getattr(self, k)!r}" for k, v in defaults.items() if getattr(self, k) != v]
        weight = [] if self.weight is None else [f"weight=({self.weight.numel()},)"]
        name = [self.member.name] if type(self) is LinearFlexibleLoss else []
        return ", ".join([*name, *shape, *weight, *said])


def _layer(
    in_features: int,
    num_classes: int,
    linear_weight: nn.Parameter | None,
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Linear:
    if linear_weight is None:
        return nn.Linear(in_features, num_classes, bias=bias, device=device, dtype=dtype)
    if not isinstance(linear_weight, nn.Parameter):
        raise TypeError(f"linear_weight must be an nn.Parameter, got {type(linear_weight).__name__}")
    if linear_weight.shape != (num_classes, in_features):
        raise ValueError(
            f"linear_weight must have shape (num_classes, in_features) = {(num_classes, in_features)}, "
            f"got {tuple(linear_weight.shape)}"
        )
    for name, given, own in (("device", device, linear_weight.device), ("dtype", dtype, linear_weight.dtype)):
        if given is not None and given not in (own, str(own)):
            raise ValueError(f"{name} = {given} is not that of linear_weight, {own}: leave it out")
    layer = nn.Linear(in_features, num_classes, bias=False, device="meta")
    layer.weight = linear_weight
    if bias:
        bound = 1 / math.sqrt(in_features)  # as nn.Linear
        start = torch.empty(num_classes, device=linear_weight.device, dtype=linear_weight.dtype)
        layer.bias = nn.Parameter(nn.init.uniform_(start, -bound, bound))
    return layer


class LinearMemberLoss(Named, LinearFlexibleLoss):
    """A member with a class of its own; arguments, shapes and errors as `LinearFlexibleLoss`, and its shape."""

    kind: ClassVar[type[Member]]

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        linear_weight: nn.Parameter | None = None,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        weight: Tensor | None = None,
        reduction: str = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        softcap: float | None = None,
        z_loss: float = 0.0,
        options: LinearLossOptions | None = None,
        **shape: float,
    ) -> None:
        super().__init__(
            in_features, num_classes, self.kind(**shape), linear_weight=linear_weight, bias=bias, device=device,
            dtype=dtype, weight=weight, reduction=reduction, ignore_index=ignore_index,
            label_smoothing=label_smoothing, softcap=softcap, z_loss=z_loss, options=options,
        )  # fmt: skip


class LinearCrossEntropyLoss(LinearMemberLoss):
    """A linear layer and `CrossEntropyLoss`."""

    kind = family.CrossEntropy


class LinearAdmaLoss(LinearMemberLoss):
    """A linear layer and `AdmaLoss`; `a`, `base` and `normalize` as there."""

    kind = family.Adma
    a = Shape[float]()
    base = Shape[float]()
    normalize = Shape[bool]()


class LinearGeneralizedCrossEntropyLoss(LinearMemberLoss):
    """A linear layer and `GeneralizedCrossEntropyLoss`; `q` as there."""

    kind = family.GeneralizedCrossEntropy
    q = Shape[float]()


class LinearMeanAbsoluteErrorLoss(LinearMemberLoss):
    """A linear layer and `MeanAbsoluteErrorLoss`."""

    kind = family.MeanAbsoluteError


class LinearFocalLoss(LinearMemberLoss):
    """A linear layer and `FocalLoss`; `gamma` as there."""

    kind = family.Focal
    gamma = Shape[float]()


class LinearPoly1Loss(LinearMemberLoss):
    """A linear layer and `Poly1Loss`; `epsilon` as there."""

    kind = family.Poly1
    epsilon = Shape[float]()


class LinearTaylorCrossEntropyLoss(LinearMemberLoss):
    """A linear layer and `TaylorCrossEntropyLoss`; `order` as there."""

    kind = taylor.TaylorCrossEntropy
    order = Shape[int]()


class LinearAsymmetricGeneralizedCrossEntropyLoss(LinearMemberLoss):
    """A linear layer and `AsymmetricGeneralizedCrossEntropyLoss`; `a` and `q` as there."""

    kind = asymmetric.AsymmetricGeneralizedCrossEntropy
    a = Shape[float]()
    q = Shape[float]()


class LinearAsymmetricUnhingedLoss(LinearMemberLoss):
    """A linear layer and `AsymmetricUnhingedLoss`; `a` and `q` as there."""

    kind = asymmetric.AsymmetricUnhinged
    a = Shape[float]()
    q = Shape[float]()


class LinearAsymmetricExponentialLoss(LinearMemberLoss):
    """A linear layer and `AsymmetricExponentialLoss`; `a` as there."""

    kind = asymmetric.AsymmetricExponential
    a = Shape[float]()
