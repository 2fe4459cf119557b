"""A trained network of logits as one of class probabilities: what to deploy after training with a flexible loss.

>>> import torch, adma
>>> model = torch.nn.Linear(8, 3)  # trained with adma.AdmaLoss(a=0.26)
>>> classifier = adma.posterior_head(model, "adma:a=0.26")
>>> classifier(torch.randn(5, 8)).shape  # probabilities
torch.Size([5, 3])
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from adma.family import Loss
from adma.torch.distributed import GlobalMean
from adma.torch.flexible import BinaryFlexibleLoss, CallLoss
from adma.torch.linear_modules import LinearFlexibleLoss
from adma.torch.make import make_loss
from adma.torch.posterior import refuse


class PosteriorHead(nn.Module):
    """A network followed by its loss's `posterior`; made by `posterior_head`.

    Attributes:
        model: the network; its parameters stand in `state_dict` under `model.`.
        loss_fn: the loss; its class weights stand there under `loss_fn.`.
    """

    loss_fn: CallLoss | BinaryFlexibleLoss | LinearFlexibleLoss

    def __init__(self, model: nn.Module, loss_fn: CallLoss | BinaryFlexibleLoss | LinearFlexibleLoss) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn
        self.training = model.training  # of this module alone: layers that were frozen in eval mode stay so

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        output = self.model(*args, **kwargs)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"the model must give a tensor of logits, or an object that holds one as .logits, got "
                f"{type(output).__name__}; wrap it in a module that gives the logits alone"
            )
        return self.loss_fn.posterior(logits)


def posterior_head(model: nn.Module, loss: str | Loss | nn.Module, *, binary: bool = False) -> PosteriorHead:
    """A trained network that gives logits as one that gives calibrated class probabilities; nothing is fitted.

    The result shares the network and the loss (no copy), starts in the network's train or eval mode, and can be saved,
    compiled, exported (`torch.export`, ONNX) and traced (`torch.jit.trace`; not scripted: a loss's formula is Python).
    Its inputs are the network's, so a free batch size is exported with
    `dynamic_shapes=(({0: torch.export.Dim("batch")},),)`.

    Args:
        model: gives logits (C), (N, C) or (N, C, d1, ...), or an object that holds them as `.logits`, as the models of
            transformers do; one logit a label if binary. Before a `Linear...Loss`, which has the last layer in it, the
            hidden states.
        loss: what the network was trained with: a spec, a loss of `adma.family` or `adma.classic`, or the loss module
            itself, whose class weights (`pos_weight`) are then divided out.
        binary: that a spec or a member was used with one logit a label; a module says so itself.

    Returns:
        A module with the network's call, which gives probabilities of the logits' shape: see
        `adma.functional.posterior` and, for what they are worth, docs/posteriors.md.

    Raises:
        ValueError: this loss does not determine the posteriors (with the reason), or is not known.
        TypeError: `model` or `loss` is none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    loss_fn: Any = loss.loss_fn if isinstance(loss, GlobalMean) else loss
    if isinstance(loss, (str, Loss)):
        loss_fn = make_loss(loss, binary=binary)
    elif binary:
        raise ValueError(f"binary=True belongs to a spec or a member; {type(loss).__name__} says by itself what it is")
    if not isinstance(loss_fn, (CallLoss, BinaryFlexibleLoss, LinearFlexibleLoss)):
        raise TypeError(
            f"loss must be a spec such as 'adma:a=0.26', a loss of adma.family or a loss module of adma, got "
            f"{type(loss_fn).__name__}; torch's own cross-entropy is 'cce'"
        )
    refuse(loss_fn.no_posterior)
    return PosteriorHead(model, loss_fn)
