"""What `cross_entropy.py` times: our losses by every engine, torch's, the paper's formula, and peers where installed.

A call knows how to make one step ready (forward and backward on fresh logits), what it ought to give in float64, and
which call it is compared with. Peers that can be installed beside: `pip install kornia optax jax`, torchvision.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

import adma
from adma.bench import environment
from adma.torch.kernels import choose, fused, native

INDICES, SMOOTHED, PROBABILITIES = "indices", "indices, label_smoothing=0.1", "probabilities"
SMOOTHING = 0.1
OURS, TORCH, PEER = "ours", "torch", "peer"
# the two parts of the benchmark: common shapes with every loss, ever longer rows with every engine
SHAPES, CLASSES = ("shapes",), ("classes",)
BOTH = SHAPES + CLASSES
BASELINE = "torch cross_entropy"
COPY = "copy"
ADMA, GCE, FOCAL = "adma:a=0.26", "gce:q=0.7", "focal:gamma=2.0"

# logits, their negative log-likelihoods of every class, targets -> a loss for each row
Rows = Callable[[Tensor, Tensor, Tensor], Tensor]
Psi = Callable[[Tensor], Tensor]
Step = Callable[[], object]


def psi_cce(t: Tensor) -> Tensor:
    return t


def psi_adma(t: Tensor) -> Tensor:
    return torch.e - torch.exp(torch.exp(-0.26 * t))


def psi_gce(t: Tensor) -> Tensor:
    return -torch.expm1(-0.7 * t) / 0.7


def psi_focal(t: Tensor) -> Tensor:
    return torch.expm1(-t) ** 2 * t


@cache
def rows_of(psi: Psi, kind: str) -> Rows:
    """The loss rows in plain operators, from psi of the negative log-likelihood and targets of a kind."""

    def rows(logits: Tensor, t: Tensor, target: Tensor) -> Tensor:
        if kind == PROBABILITIES:
            return (target * psi(t)).sum(1)
        row = psi(t.gather(1, target.unsqueeze(1)).squeeze(1))
        return row if kind == INDICES else (1 - SMOOTHING) * row + SMOOTHING * psi(t).mean(1)

    return rows


def paper_formula(logits: Tensor, target: Tensor) -> Tensor:
    """The paper's equation 5 as written, y (e - e^(p^a)) on softmax probabilities, y one-hot."""
    p = torch.softmax(logits, 1).gather(1, target.unsqueeze(1))
    return (torch.e - torch.exp(p**0.26)).mean()


def one_hot(logits: Tensor, target: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(1, target.unsqueeze(1), 1.0)


def sigmoid_focal_rows(logits: Tensor, t: Tensor, target: Tensor) -> Tensor:
    """A focal loss a class, each a yes or no of its own (Lin 2017), summed over the classes; alpha 0.25, gamma 2."""
    y = one_hot(logits.detach(), target)
    signed = torch.where(y == 1, logits, -logits)
    share = 0.25 * y + 0.75 * (1 - y)
    return (share * torch.sigmoid(-signed) ** 2 * F.softplus(-signed)).sum(1)


@contextmanager
def eager_engine() -> Iterator[None]:
    """Without the compiled kernel: torch's operators, block by block."""
    with mock.patch.object(native, "load", return_value="left out by the benchmark"):
        yield


@contextmanager
def composed_engine() -> Iterator[None]:
    """Plain operators, each over all logits, differentiated by torch."""
    asked = choose.Choice("composed", "asked for by the benchmark")
    with (
        mock.patch.object(choose, "choose", return_value=asked),
        mock.patch.object(fused, "ordinary", return_value=False),
    ):
        yield


class _Through(torch.autograd.Function):
    """The leaf's memory as the output of an operation, as a network's logits are."""

    @staticmethod
    def forward(ctx: object, leaf: Tensor) -> Tensor:
        return leaf.detach()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


@dataclass(frozen=True)
class Call:
    """One thing to time.

    name: in the table. kind: of its targets. rows: what it gives, a row each, in plain operators. function: the loss.
    maker: a wrong value of OURS or TORCH is an error, of a PEER a reason to leave it out. engine: what serves it while
    it runs. inplace: whether the gradient goes into the logits' memory. parts: of the benchmark that it is in.
    """

    name: str
    kind: str
    rows: Rows
    function: Any
    maker: str = OURS
    engine: Callable[[], AbstractContextManager[None]] = nullcontext
    inplace: bool = False
    parts: tuple[str, ...] = BOTH

    def ready(self, base: Tensor, target: Tensor, repeats: int) -> Step:
        """A step that goes forward and backward so many times, each on logits of its own, made here."""
        leaves = [base.clone().requires_grad_() for _ in range(repeats)]
        logits = [_Through.apply(leaf) for leaf in leaves] if self.inplace else leaves

        def step() -> None:
            for z in logits:
                self.function(z, target).backward()

        return step

    def result(self, base: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient."""
        leaf = base.clone().requires_grad_()
        with self.engine():
            loss = self.function(_Through.apply(leaf) if self.inplace else leaf, target)
            loss.backward()
        assert leaf.grad is not None
        return loss.detach(), leaf.grad


class JaxCall(Call):
    """A function of jax arrays, compiled with its gradient."""

    def _arrays(self, base: Tensor, target: Tensor) -> tuple[Any, Any]:
        import jax.numpy as jnp

        kind = str(base.dtype).removeprefix("torch.")
        return jnp.asarray(base.float().numpy()).astype(kind), jnp.asarray(target.int().numpy())

    def ready(self, base: Tensor, target: Tensor, repeats: int) -> Step:
        import jax

        z, y = self._arrays(base, target)
        jax.block_until_ready(z)

        def step() -> None:
            for _ in range(repeats):
                jax.block_until_ready(self.function(z, y))

        return step

    def result(self, base: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        import numpy as np

        found = self.function(*self._arrays(base, target))
        loss, gradient = (torch.from_numpy(np.array(value, dtype="float32")) for value in found)
        return loss, gradient


def our_calls() -> list[Call]:
    """Every loss and engine of ours, and torch's with the same targets."""
    found = []
    for kind, options in ((INDICES, {}), (SMOOTHED, {"label_smoothing": SMOOTHING}), (PROBABILITIES, {})):
        cce, adma_, parts = rows_of(psi_cce, kind), rows_of(psi_adma, kind), BOTH if kind == INDICES else SHAPES
        found.append(Call(BASELINE, kind, cce, torch.nn.CrossEntropyLoss(**options), TORCH, parts=parts))
        found.append(Call("cce", kind, cce, adma.make_loss("cce", **options), parts=parts))
        found.append(Call(ADMA, kind, adma_, adma.make_loss(ADMA, **options), parts=parts))
    rows, loss = rows_of(psi_adma, INDICES), adma.make_loss(ADMA)
    found += [
        Call(GCE, INDICES, rows_of(psi_gce, INDICES), adma.make_loss(GCE), parts=SHAPES),
        Call(FOCAL, INDICES, rows_of(psi_focal, INDICES), adma.make_loss(FOCAL), parts=SHAPES),
        Call(f"{ADMA}, in place", INDICES, rows, adma.AdmaLoss(inplace=True), inplace=True),
        Call(f"{ADMA}, eager engine", INDICES, rows, loss, engine=eager_engine),
        Call(f"{ADMA}, composed engine", INDICES, rows, loss, engine=composed_engine, parts=CLASSES),
        Call(f"{ADMA}, torch.compile", INDICES, rows, torch.compile(loss, dynamic=False), PEER, parts=CLASSES),
        Call("paper's formula", INDICES, rows, paper_formula, PEER),
    ]
    return found


def peers() -> tuple[list[Call], dict[str, str], dict[str, str]]:
    """Calls of other libraries; the versions of those that are here; why the others are not."""
    cce = rows_of(psi_cce, INDICES)
    compiled = torch.compile(F.cross_entropy, dynamic=False)
    found, versions, missing = [Call("torch.compile cross_entropy", INDICES, cce, compiled, PEER)], {}, {}
    for maker, packages in ((_kornia, ("kornia",)), (_torchvision, ("torchvision",)), (_optax, ("optax", "jax"))):
        try:
            found.append(maker())
        except (ImportError, RuntimeError, _UnequalError) as error:
            missing[packages[0]] = str(error) or type(error).__name__
        else:
            versions |= {name: _version(name) for name in packages}
    return found, versions, missing


class _UnequalError(Exception):
    """A comparison would not be of like with like."""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _kornia() -> Call:
    focal_loss = importlib.import_module("kornia.losses").focal_loss

    def focal(logits: Tensor, target: Tensor) -> Tensor:
        # its mean is over rows and classes
        return focal_loss(logits, target, alpha=None, gamma=2.0, reduction="mean") * logits.shape[1]

    return Call("kornia focal_loss", INDICES, rows_of(psi_focal, INDICES), focal, PEER)


def _torchvision() -> Call:
    sigmoid_focal_loss = importlib.import_module("torchvision.ops").sigmoid_focal_loss

    def focal(logits: Tensor, target: Tensor) -> Tensor:
        y = one_hot(logits.detach(), target)
        return sigmoid_focal_loss(logits, y, alpha=0.25, gamma=2, reduction="sum") / target.numel()

    return Call("torchvision sigmoid_focal_loss", INDICES, sigmoid_focal_rows, focal, PEER)


def _optax() -> Call:
    if torch.get_num_threads() != environment.cores():
        raise _UnequalError(
            f"jax takes all {environment.cores()} cores of the process, torch has {torch.get_num_threads()} threads"
        )
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")

    def loss(z: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(z, y, axis=1).mean()

    function = jax.jit(jax.value_and_grad(loss))
    return JaxCall("optax under jit", INDICES, rows_of(psi_cce, INDICES), function, PEER)
