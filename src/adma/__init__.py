"""Flexible classification losses: drop-in for `torch.nn.CrossEntropyLoss`, with a shape that is a parameter.

>>> import torch, adma
>>> loss_fn = adma.AdmaLoss(a=0.26)
>>> logits, target = torch.randn(8, 10, requires_grad=True), torch.randint(10, (8,))
>>> loss_fn(logits, target).backward()
>>> loss_fn.posterior(logits).shape  # calibrated class probabilities
torch.Size([8, 10])
"""

from adma import constraints, flex, functional
from adma.spec import parse, register
from adma.torch import *  # noqa: F403
from adma.torch import __all__ as _torch_names

__version__ = "0.1.0"

__all__ = ["__version__", "constraints", "flex", "functional", "parse", "register"]
__all__ += _torch_names
