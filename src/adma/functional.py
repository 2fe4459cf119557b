"""`adma.functional`: the losses as functions; see `adma.torch.functional`."""

from adma.torch.functional import *  # noqa: F403
from adma.torch.functional import __all__ as __all__
