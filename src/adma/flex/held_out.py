"""Held-out samples, batch by batch, without end, and where one stands among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


class HeldOut:
    """Batches of held-out samples, over and over.

    Args:
        source: a pair of tensors (inputs, targets), shuffled anew in each round by a seed of its own; or an iterable of
            such pairs that can be gone through again, such as a DataLoader. What that draws of torch's random numbers
            (its order, augmentation in this process) it draws from a stream of its own.
        batch_size: of a pair of tensors.
        seed: of its shuffling, and of that stream in each round.

    Raises:
        TypeError, ValueError: neither kind, no samples, tensors of different length.
    """

    def __init__(self, source: Any, *, batch_size: int = 64, seed: int = 0) -> None:
        self._pair: tuple[Tensor, Tensor] | None = None
        self._batches: Iterable[Any] = ()
        if isinstance(source, (tuple, list)) and len(source) == 2 and all(isinstance(s, Tensor) for s in source):
            inputs, targets = source
            if len(inputs) != len(targets):
                raise ValueError(f"held_out: {len(inputs)} inputs go with {len(targets)} targets; give one to each")
            if not len(inputs):
                raise ValueError("held_out holds no samples; set some of the training samples aside")
            if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
                raise ValueError(f"batch_size must be a whole number from 1, got {batch_size!r}")
            self._pair = (inputs, targets)
        elif isinstance(source, Iterator) or not hasattr(source, "__iter__") or isinstance(source, (str, Tensor)):
            raise TypeError(
                "held_out must be a pair of tensors (inputs, targets), or an iterable of such pairs that can be gone "
                f"through again, such as a DataLoader; got {type(source).__name__}"
            )
        else:
            self._batches = source
        self._batch_size, self._seed = batch_size, seed
        self.round, self.position = 0, 0
        self._open: Iterator[Any] | None = None
        self._random = self._generator().get_state()  # of the stream that an iterable draws from

    def next(self) -> tuple[Any, Tensor]:
        """The next (inputs, targets).

        Raises:
            ValueError: the iterable yields nothing, or something else than pairs.
        """
        if self._open is None:
            self._open = self._from_here()
            self._random = self._generator().get_state()
        batch = self._drawn(self._open)
        if batch is None:
            if self.position == 0:
                raise ValueError("held_out yields no batch; set some of the training samples aside")
            self.round, self.position = self.round + 1, 0
            self._open = None
            return self.next()
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            raise ValueError(f"held_out must yield pairs (inputs, targets), got {type(batch).__name__}")
        self.position += 1
        return batch[0], batch[1]

    def _drawn(self, batches: Iterator[Any]) -> Any:
        """The next one, None at the end.

        A DataLoader draws a seed of the global random numbers in each round, shuffled or not: the training would no
        longer be the one without a tuner, and one that resumes would see other batches.
        """
        before = torch.get_rng_state()
        torch.set_rng_state(self._random)
        try:
            return next(batches, None)
        finally:
            self._random = torch.get_rng_state()
            torch.set_rng_state(before)

    def _generator(self) -> torch.Generator:
        """Of this round."""
        return torch.Generator().manual_seed((self._seed * 1_000_003 + self.round) % 2**63)

    def _from_here(self) -> Iterator[Any]:
        """The batches of this round from the present position."""
        if self._pair is None:
            batches = iter(self._batches)
            for _ in range(self.position):
                next(batches, None)
            yield from batches
            return
        inputs, targets = self._pair
        order = torch.randperm(len(inputs), generator=self._generator()).to(targets.device)
        for index in order.split(self._batch_size)[self.position :]:
            yield inputs[index.to(inputs.device)], targets[index]

    def state_dict(self) -> dict[str, int]:
        """Round and position."""
        return {"round": self.round, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there; an iterable is gone through again up to its position."""
        self.round, self.position = state["round"], state["position"]
        self._open = None
