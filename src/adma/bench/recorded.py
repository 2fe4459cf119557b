"""Training steps recorded once as a CUDA graph and replayed: a small network's step is mostly the starting of kernels.

What is computed is the same; only the optimizer keeps its step count on the device, which rounds Adam's corrections
otherwise in the last place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# indices of a batch and its draws -> loss and correct answers, after the optimizer's step
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_WARM_UP = 3  # steps before a recording, as PyTorch's notes on CUDA graphs ask for


class RecordedStep:
    """A step for batches of one size; batches of another size take the step as it is.

    Args:
        step: reads nothing on the host and takes the same way for every batch.
        model, optimizer: all that a step changes; they are left as they were found.
        size: of a batch.
        width: of the draws of a sample.
        device: a CUDA device.
    """

    def __init__(
        self, step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, size: int, width: int, device: str
    ) -> None:
        self._step, self._size = step, size
        self._index = torch.zeros(size, dtype=torch.int64, device=device)
        self._draws = torch.zeros(size, width, device=device)
        for group in optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
        weights, chance = copy.deepcopy(model.state_dict()), torch.cuda.get_rng_state(device)
        try:
            self._record(model, optimizer, weights, device)
        finally:  # also if it failed half-way
            _forget(model, optimizer, weights)
            torch.cuda.set_rng_state(chance, device)

    @classmethod
    def attempt(
        cls, step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, size: int, width: int, device: str
    ) -> RecordedStep | None:
        """A recording, or None if the step cannot be recorded: a loss of a user's may look at values."""
        try:
            return cls(step, model, optimizer, size, width, device)
        except RuntimeError:
            return None

    def _record(self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], device: str) -> None:
        step = self._step
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    step(self._index, self._draws)
            torch.cuda.current_stream().wait_stream(side)
            _forget(model, optimizer, weights)
            self._graph = torch.cuda.CUDAGraph()
            optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(self._graph):
                self._result = step(self._index, self._draws)

    def __call__(self, index: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """As the step; the result is overwritten by the next call."""
        if len(index) != self._size:
            return self._step(index, draws)
        self._index.copy_(index)
        self._draws.copy_(draws)
        self._graph.replay()
        return self._result


@torch.no_grad()
def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict`, but into the tensors that are there: a recording knows them by their place."""
    if not optimizer.state:
        optimizer.load_state_dict(state)
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, there in state["state"].items():
        mine = optimizer.state[parameters[number]]
        for name, value in there.items():
            if isinstance(value, Tensor):
                mine[name].copy_(value)
            else:
                mine[name] = value
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        group.update({k: v for k, v in saved.items() if k not in ("params", "capturable")})


@torch.no_grad()
def _forget(model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any]) -> None:
    """The model's weights put back, and the optimizer's state to that before the first step, in place."""
    model.load_state_dict(weights)
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
