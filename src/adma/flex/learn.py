"""Learn a loss's shape from held-out data while a network trains.

    >>> import torch, adma
    >>> model = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> x, y = torch.randn(64, 4), torch.randint(3, (64,))
    >>> loss_fn = adma.AdmaLoss(a=0.1)
    >>> tuner = adma.flex.ShapeTuner(loss_fn, model, optimizer, held_out=(x[:16], y[:16]), every=2)
    >>> for batch in torch.arange(16, 64).split(16):
    ...     optimizer.zero_grad()
    ...     loss_fn(model(x[batch]), y[batch]).backward()
    ...     optimizer.step()
    ...     tuner.step(x[batch], y[batch])
    >>> len(tuner.trace["a"])
    1

Why not by plain descent on the training loss: `dL/da >= 0`, so `a` falls to 0, where the loss is zero everywhere. A
shape needs a signal from data that the weights do not see: how much the next step would lower the held-out expected
error, mean of 1 - p, if `a` were a little larger (`adma.flex.sensitivity`). The expected error and not the NLL: a
calibration score rewards timid models, and sends `a` to 0 on any data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.parallel import DistributedDataParallel

from adma import _check
from adma.family import Adma, Member
from adma.flex.coordinates import Coordinate, convex_limit, coordinates, yielding
from adma.flex.held_out import HeldOut
from adma.flex.precondition import SCALE_FREE, Preconditioner, of_optimizer
from adma.flex.score import expected_error
from adma.flex.sensitivity import Terms, hypergradient, sums, terms_of
from adma.torch.flexible import BinaryFlexibleLoss, FlexibleLoss
from adma.torch.kernels import terms

# of Adam on the coordinates: the hypergradient has no scale of its own. The second moment remembers long, so that
# steps become small where the signal does
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-12
_FLOAT16_SCALE = 4096.0  # keeps the gradient of the held-out score from vanishing in float16
_STEP = 1e-3  # of the difference, relative to the weights


class ShapeTuner:
    """Learns parameters of a loss's shape (`a` of Adma, `base`, `q` of GCE, `gamma` of focal) while a network trains.

    Call `step` after each step of the optimizer. Every `every`-th call takes one held-out batch, computes the
    look-ahead hypergradient and moves the parameters, each by its logarithm, with Adam; `loss_fn.a` is then the new
    value. Nothing else changes: the network's mode, buffers, gradients and the random state are left as they were.

    Args:
        loss_fn: a loss of the family, as a module (binary ones too); it must take logits.
        model: the network, also wrapped by `DistributedDataParallel` or `torch.compile`.
        optimizer: that trains it; any of torch's that `adma.flex.precondition` knows, or see `precondition`.
        held_out: samples that the weights are not trained on: a pair of tensors (inputs, targets), or an iterable of
            such pairs that can be gone through again, such as a DataLoader. Inputs may be a tensor, a tuple or
            list (positional arguments) or a dict (keyword arguments). What lies in the CPU's memory is taken to the
            weights' device. Under DDP each process may have its own.
        parameters: their names.
        every: steps of the optimizer from one step of the shape to the next.
        step_size: of the shape's steps, in units of the logarithm.
        bounds: parameter -> (low, high) in the place of the member's own `space`. Adma's `a` goes no further than
            1 / (1 + ln base), beyond which the loss is not convex, unless it has bounds here; where `a` has or is not
            learned, `base` stops there, unless it has.
        precondition: f(v, state, group), what the optimizer makes of a gradient v; None looks at the optimizer.
        score: f(logits, target) -> scalar to be lowered on held-out data; by default the expected error.
        product: "forward" differentiates in forward mode; "difference" takes a central difference of two passes, for
            networks with an operator that has no forward mode.
        batch_size: of held-out batches, if `held_out` is a pair of tensors.
        seed: of their shuffling.

    Attributes:
        trace: "step" (of the optimizer) and each parameter after that step of the shape, as lists; and
            "gradient/NAME", the hypergradient in the parameter's logarithm. One that is not finite moves nothing.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, with what would be right.
    """

    def __init__(
        self,
        loss_fn: FlexibleLoss | BinaryFlexibleLoss,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        held_out: Any,
        *,
        parameters: Sequence[str] = ("a",),
        every: int = 16,
        step_size: float = 0.2,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        precondition: Preconditioner | None = None,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        product: str = "forward",
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if not isinstance(loss_fn, (FlexibleLoss, BinaryFlexibleLoss)):
            raise TypeError(
                f"loss_fn must be a loss of the family such as adma.AdmaLoss(), got {type(loss_fn).__name__}"
            )
        if isinstance(loss_fn, FlexibleLoss) and loss_fn.from_probabilities:
            raise ValueError("loss_fn takes probabilities (from_probabilities=True); a shape is learned from logits")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number from 1, got {every!r}")
        self.loss_fn, self.model, self.optimizer = loss_fn, model, optimizer
        self.every = every
        self.step_size = _check.real("step_size", step_size, low=0, open_low=True)
        self.product = _check.one_of("product", product, ("forward", "difference"))
        names = (parameters,) if isinstance(parameters, str) else tuple(parameters)
        self._coordinates = coordinates(loss_fn.member, names, bounds or {})
        self._yielding = yielding(loss_fn.member, names, bounds or {})
        self._precondition = precondition or of_optimizer(optimizer)
        self._score = score or expected_error(loss_fn)
        self._network = _unwrapped(model)
        self._group = model.process_group if isinstance(model, DistributedDataParallel) else None
        _trained(self._network, optimizer)
        self._held_out = HeldOut(held_out, batch_size=batch_size, seed=seed)
        self._u = [c.inward(float(loss_fn.member.parameters()[c.name])) for c in self._coordinates]
        self._moments = [[0.0, 0.0] for _ in self._coordinates]
        self._updates, self._calls = 0, 0
        self._batches: list[tuple[Any, Tensor]] = []
        self.trace: dict[str, list[float]] = {
            "step": [], **{n: [] for n in names}, **{f"gradient/{n}": [] for n in names}
        }  # fmt: skip
        self._warn_of_step_length(loss_fn.member)

    @property
    def values(self) -> dict[str, float]:
        """The learned parameters at present."""
        return {c.name: float(self.loss_fn.member.parameters()[c.name]) for c in self._coordinates}

    @property
    def _weights(self) -> dict[str, tuple[nn.Parameter, dict[str, Any]]]:
        """Looked up anew each time: `optimizer.load_state_dict` puts other groups in the place of those that it had."""
        return _trained(self._network, self.optimizer)

    @property
    def due(self) -> bool:
        """Whether the next `step` moves the shape."""
        return (self._calls + 1) % self.every == 0

    def collect(self, inputs: Any, target: Tensor) -> None:
        """With gradient accumulation: tell every batch that goes into the optimizer's next step, then call `step()`.

        A batch is kept only if the shape is due to move.
        """
        if self.due:
            self._batches.append((inputs, target))

    def step(self, inputs: Any = None, target: Tensor | None = None) -> None:
        """After each step of the optimizer: move the shape if it is due.

        Args:
            inputs: what the network was just trained on; nothing if it was told by `collect`.
            target: its targets.

        Raises:
            ValueError: the shape is due, but no batch was given.
            RuntimeError: the network has an operator without forward mode.
        """
        if target is not None:
            self.collect(inputs, target)
        due, batches = self.due, self._batches
        self._calls += 1
        if not due:
            return
        self._batches = []
        if not batches:
            raise ValueError("step: no training batch was given; call step(inputs, target), or collect before it")
        gradient = self._hypergradient(batches)
        if all(map(math.isfinite, gradient)):
            self._move(gradient)
        self.trace["step"].append(self._calls)
        for coordinate, g in zip(self._coordinates, gradient, strict=True):
            self.trace[coordinate.name].append(self.values[coordinate.name])
            self.trace[f"gradient/{coordinate.name}"].append(g)

    def _hypergradient(self, batches: Sequence[tuple[Any, Tensor]]) -> list[float]:
        """Of the held-out score, in each coordinate."""
        with _evaluating(self._network):
            device = next(iter(self._weights.values()))[0].device
            inputs, target = (_taken_to(device, part) for part in self._held_out.next())
            direction = self._direction(inputs, target)
            member = self.loss_fn.member
            parts = [self._terms(direction, *batch) for batch in batches]
            added = sums(member, [c.name for c in self._coordinates], parts)
            if self._group is not None:
                dist.all_reduce(added, group=self._group)
        per_value = hypergradient(added).tolist()
        return [g * c.rate(self.values[c.name]) for g, c in zip(per_value, self._coordinates, strict=True)]

    def _direction(self, inputs: Any, target: Tensor) -> dict[str, Tensor]:
        """P times the gradient of the held-out score."""
        device = next(iter(self._weights.values()))[0].device.type
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
        scale = _FLOAT16_SCALE if half else 1.0
        weights = {name: w.detach().requires_grad_() for name, (w, _) in self._weights.items()}
        with torch.enable_grad():
            score = self._score(self._logits(weights, inputs), target) * scale
            found = torch.autograd.grad(score, list(weights.values()), allow_unused=True)
        gradients = [
            torch.zeros_like(w) if g is None else g / scale for w, g in zip(weights.values(), found, strict=True)
        ]
        if self._group is not None:
            for g in gradients:
                dist.all_reduce(g, group=self._group)
                g /= dist.get_world_size(self._group)  # so that another number of processes may go on from a state
        with torch.no_grad():
            return {
                name: self._precondition(g, self.optimizer.state.get(w, {}), group)
                for (name, (w, group)), g in zip(self._weights.items(), gradients, strict=True)
            }

    def _terms(self, direction: Mapping[str, Tensor], inputs: Any, target: Tensor) -> Terms:
        weights = {name: w.detach() for name, (w, _) in self._weights.items()}
        gain = _gain(weights, direction)  # a step of 1e-6 would vanish in the arithmetic of a half type
        direction = {name: v * gain for name, v in direction.items()}

        def logits(weights: dict[str, Tensor]) -> Tensor:
            return self._logits(weights, inputs)

        with torch.no_grad():
            if self.product == "difference":
                z, zdot = _difference(logits, weights, direction)
            else:
                try:
                    z, zdot = jvp(logits, (weights,), (direction,))  # type: ignore[misc]
                except (NotImplementedError, RuntimeError) as error:
                    if "forward" not in str(error).lower():
                        raise
                    raise RuntimeError(
                        f"the network cannot be differentiated in forward mode ({error}); pass product='difference'"
                    ) from error
            return terms_of(self.loss_fn, z, zdot.to(terms.row_dtype(zdot.device)) / gain, target)

    def _logits(self, weights: Mapping[str, Tensor], inputs: Any) -> Tensor:
        positional, named = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
        # a DataLoader makes lists of a data set's tuples
        positional = tuple(positional) if isinstance(positional, (tuple, list)) else (positional,)
        output = functional_call(self._network, dict(weights), positional, dict(named))
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor):
            raise TypeError(f"model must return logits, or an object with .logits, got {type(output).__name__}")
        return logits

    def _move(self, gradient: Sequence[float]) -> None:
        """One step of Adam on the coordinates, back into the bounds."""
        self._updates += 1
        moved = []
        for n, (coordinate, g) in enumerate(zip(self._coordinates, gradient, strict=True)):
            m, v = self._moments[n]
            m, v = _BETA1 * m + (1 - _BETA1) * g, _BETA2 * v + (1 - _BETA2) * g * g
            self._moments[n] = [m, v]
            mean, root = m / (1 - _BETA1**self._updates), math.sqrt(v / (1 - _BETA2**self._updates))
            moved.append(coordinate.outward(self._u[n] - self.step_size * mean / (root + _EPS * (root == 0))))
        values = dict(zip(self.values, moved, strict=True))
        for coordinate in self._coordinates:
            if coordinate.name == self._yielding:
                most = convex_limit(self.loss_fn.member.bind(**values), coordinate.name)
                values[coordinate.name] = max(min(values[coordinate.name], most), coordinate.range.low)
        self._u = [c.inward(values[c.name]) for c in self._coordinates]
        set_shape(self.loss_fn, values)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: plain numbers and lists, for an exact resume.

        The state of a generator of one's own in `held_out`, `DataLoader(shuffle=True, generator=...)`, is not in it:
        without one the loader is shuffled by `seed`, and resumes exactly.
        """
        return {
            "parameters": self.values,
            "coordinates": list(self._u),
            "moments": [list(m) for m in self._moments],
            "updates": self._updates,
            "calls": self._calls,
            "held_out": self._held_out.state_dict(),
            "trace": {key: list(values) for key, values in self.trace.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; sets the loss's parameters too.

        Raises:
            ValueError: the state is of other parameters.
        """
        if list(state["parameters"]) != list(self.values):
            raise ValueError(
                f"the state is of {', '.join(state['parameters'])}, this tuner learns {', '.join(self.values)}"
            )
        set_shape(self.loss_fn, state["parameters"])
        self._u = list(state["coordinates"])
        self._moments = [list(m) for m in state["moments"]]
        self._updates, self._calls = state["updates"], state["calls"]
        self._held_out.load_state_dict(state["held_out"])
        self.trace = {key: list(values) for key, values in state["trace"].items()}

    def _warn_of_step_length(self, member: Member) -> None:
        unscaled = member.parameters().get("normalize") is False
        if unscaled and self._precondition not in SCALE_FREE:
            warnings.warn(
                f"{type(self.optimizer).__name__}'s steps grow with the loss, and {member.name}'s slope with its "
                "shape: learning the shape then also changes the length of the steps. Use normalize=True, or Adam.",
                stacklevel=3,
            )


def set_shape(loss_fn: FlexibleLoss | BinaryFlexibleLoss, values: Mapping[str, float]) -> None:
    """Give a loss module's member other parameter values, checked as at construction.

    Adma's warning past its convex range is not said again at each step: who gave such bounds has read it.
    """
    member = loss_fn.member
    # a parameter that compiled code reads from a tensor stays that tensor
    numbers: dict[str, Any] = {n: float(v) if isinstance(v, Tensor) else v for n, v in member.parameters().items()}
    numbers |= values
    checked = Adma.checked(**numbers) if isinstance(member, Adma) else replace(member, **numbers).parameters()
    object.__setattr__(loss_fn, "member", member.bind(**{name: checked[name] for name in values}))


def _unwrapped(model: nn.Module) -> nn.Module:
    """The user's own network: DDP's hooks and torch.compile's graphs are for training steps."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _trained(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[nn.Parameter, dict[str, Any]]]:
    """Name -> (the weight, its group of the optimizer), for the weights that the optimizer trains."""
    groups = {id(w): group for group in optimizer.param_groups for w in group["params"]}
    found = {n: (w, groups[id(w)]) for n, w in network.named_parameters() if w.requires_grad and id(w) in groups}
    if not found:
        raise ValueError("optimizer holds no weight of model; pass the optimizer that trains this model")
    return found


def _taken_to(device: torch.device, part: Any) -> Any:
    """A DataLoader makes its batches in the CPU's memory, and nobody but the tuner sees those held out."""
    if isinstance(part, Tensor):
        return part.to(device) if part.device.type == "cpu" else part
    if isinstance(part, Mapping):
        return {key: _taken_to(device, value) for key, value in part.items()}
    if type(part) in (tuple, list):  # others, such as a PackedSequence, are the network's own affair
        return type(part)(_taken_to(device, value) for value in part)
    return part


def _gain(weights: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> float:
    """The factor that makes the direction as long as the weights; 1 if it has no length, or none that is finite."""
    size, length = (math.sqrt(sum(float((v.double() ** 2).sum()) for v in of.values())) for of in (weights, direction))
    return max(size, 1.0) / length if 0 < length < math.inf else 1.0


def _difference(
    function: Callable[[dict[str, Tensor]], Tensor], weights: Mapping[str, Tensor], direction: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The function at the weights and its change along the direction, by a central difference."""
    ahead, behind = (function({n: w + h * direction[n] for n, w in weights.items()}) for h in (_STEP, -_STEP))
    return 0.5 * (ahead + behind), (ahead.double() - behind.double()) / (2 * _STEP)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, module by module put back as it was: no dropout, no batch statistics."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


__all__ = ["Coordinate", "ShapeTuner", "set_shape"]
