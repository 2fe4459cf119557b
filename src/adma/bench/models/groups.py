"""Which parameters an optimizer gets, and which of them have L2."""

from __future__ import annotations

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups for an optimizer: L2 on the weights of the convolutions only, as in the paper.

    A network without convolutions to train has it on the weights of its linear layers. Never on biases or
    normalisation. Frozen parameters (`requires_grad` is False) are in no group.
    """

    def weights(kinds: tuple[type[nn.Module], ...]) -> list[nn.Parameter]:
        found = [m.weight for m in model.modules() if isinstance(m, kinds)]
        # by id: two layers may share a weight, and an optimizer takes it once
        return list({id(p): p for p in found if isinstance(p, nn.Parameter) and p.requires_grad}.values())

    decayed = weights((nn.modules.conv._ConvNd,)) or weights((nn.Linear,))
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    groups: list[dict[str, object]] = [{"params": rest, "weight_decay": 0.0}]
    return [{"params": decayed, "weight_decay": weight_decay}, *groups] if decayed else groups
