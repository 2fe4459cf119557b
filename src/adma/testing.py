"""Conformance checks for a member of the family: run them on a loss of your own before you train with it.

Example, a member in eight lines (the logarithm of the odds' growth, a loss between cross-entropy and a bounded one):

    >>> from dataclasses import dataclass
    >>> import numpy
    >>> from adma.family import Member
    >>> from adma.spec import register
    >>> from adma.testing import check_member
    >>> @register
    ... @dataclass(frozen=True)
    ... class Damped(Member):
    ...     rate: float = 0.5
    ...     name = "damped"
    ...     def psi(self, t, xp=numpy):
    ...         return xp.log1p(self.rate * t) / self.rate
    ...     def slope(self, t, xp=numpy):
    ...         return 1.0 / (1.0 + self.rate * t)
    >>> check_member(Damped(rate=0.3))

Then `adma.make_loss("damped:rate=0.3")` is a module, and the loss has a name on every command line. A rule that
is broken is said with the t and both numbers:

    >>> @dataclass(frozen=True)
    ... class Wrong(Damped):
    ...     def slope(self, t, xp=numpy):
    ...         return 1.0 / (2.0 + self.rate * t)
    >>> check_member(Wrong())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: Wrong(rate=0.5): slope must be the derivative of psi: between t = 0 and t = 1e-12 psi grows by ...
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from adma import numpy as reference
from adma.family import Member
from adma.spec import format_spec, known, parse

Array = np.ndarray[Any, Any]

# both tails, the border of what exp(-t) resolves, and the limits themselves
_POINTS = np.array([0.0, 1e-300, 1e-100, 1e-12, 1e-8, 1e-3, 0.5, 1.0, 10.0, 50.0, 700.0, 800.0, 1e5, np.inf])
_GRID = np.concatenate([[0.0], np.geomspace(1e-12, 1.0, 41), np.linspace(2.0, 50.0, 49)])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def check_member(member: Member, *, torch: bool = True) -> None:
    """Check that a loss keeps the rules of the family, so that everything in this package works with it.

    The rules: psi(0) = 0; psi never falls and its slope is never negative; the slope is psi's derivative, and
    `log_slope` the slope's logarithm; both are finite or their limit for any t in [0, inf], never NaN; `supremum`
    is the limit of psi; `convex` is not claimed where it does not hold; the posterior map leads back to the
    posteriors, and is not claimed where `-dL/dp` stays bounded; the member is a value (frozen, hashable, equal to
    its like) and, if registered, its spec reads back as itself. With PyTorch: rows agree with the float64 reference,
    derivatives by autograd are the slope and are right to the second order, both engines agree.

    Args:
        member: the loss, with the parameters to be checked; check several, extremes among them.
        torch: whether to check the PyTorch half too.

    Raises:
        AssertionError: a rule is broken; the message names the rule, the t and both numbers.
        TypeError: `member` is no member of the family.

    Examples:
        >>> from adma.family import Adma
        >>> check_member(Adma(a=0.3))
    """
    if not isinstance(member, Member):
        raise TypeError(f"member must be an adma.family.Member, got {type(member).__name__}")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a parameter past its convex range, taken on purpose
        for check in (_value, _spec, _defined, _increasing, _derivative, _logarithm, _limit, _convexity, _posterior):
            check(member)
        if torch:
            for check in (_torch_derivative, _torch_rows, _torch_second_order):
                check(member)


def _hold(condition: Any, member: Member, message: str) -> None:
    if not bool(condition):
        raise AssertionError(f"{member}: {message}")


def _close(
    member: Member, rule: str, t: Array, names: tuple[str, str], pair: tuple[Array, Array], rtol: float, atol: float
) -> None:
    """Elementwise `|left - right| <= rtol |right| + atol`; equal infinities are equal, NaN is not."""
    left, right = (np.broadcast_to(np.asarray(x, dtype=np.float64), t.shape) for x in pair)
    off = ~((left == right) | (np.abs(left - right) <= rtol * np.abs(right) + atol))
    if off.any():
        i = int(np.argmax(off))
        at = f"at t = {t.flat[i]:g} {names[0]} is {left.flat[i]!r}, {names[1]} {right.flat[i]!r}"
        raise AssertionError(f"{member}: {rule}: {at}")


# -- a value ------------------------------------------------------------------------------------------------


def _value(member: Member) -> None:
    _hold(dataclasses.is_dataclass(member), member, "a member must be a dataclass")
    again = dataclasses.replace(member)
    _hold(again == member, member, f"two members with the same parameters must be equal, got {again}")
    try:
        same = hash(again) == hash(member)
    except TypeError as error:
        raise AssertionError(f"{member}: a member must be hashable: {error}") from None
    _hold(same, member, f"equal members must have equal hashes, got {hash(again)} and {hash(member)}")
    for key, value in member.parameters().items():
        try:
            setattr(again, key, value)
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"{member}: a member must be frozen: its parameter {key} can be set")


def _spec(member: Member) -> None:
    if known().get(getattr(member, "name", "")) is not type(member):
        return  # not registered: it has no spec
    text = format_spec(member)
    try:
        back = parse(text)
    except ValueError as error:
        raise AssertionError(f"{member}: the spec must read back as the member: {error}") from None
    _hold(back == member, member, f"the spec must read back as the member: {text!r} gives {back}")


# -- two scalar functions -----------------------------------------------------------------------------------


def _never_nan(member: Member, *names: str) -> None:
    for name in names:
        function = getattr(member, name)
        values = np.asarray(function(_POINTS, np))
        _hold(
            values.shape == _POINTS.shape,
            member,
            f"{name} must have the shape of t: for t of shape {_POINTS.shape} it has {values.shape}",
        )
        for t, value in zip(_POINTS, values, strict=True):
            _hold(not np.isnan(value), member, f"{name} must never be NaN: at t = {t:g} it is {value!r}")
            if name == "slope" or (name == "psi" and np.isfinite(t)):
                _hold(np.isfinite(value), member, f"{name} must be finite: at t = {t:g} it is {value!r}")


def _defined(member: Member) -> None:
    _never_nan(member, "psi", "slope")
    zero = float(member.psi(np.float64(0.0), np))
    _hold(abs(zero) <= 1e-300, member, f"psi(0) must be 0: at t = 0 it is {zero!r}, not 0")


def _increasing(member: Member) -> None:
    t = np.concatenate([_GRID, np.linspace(51.0, 2000.0, 400)])
    psi, slope = np.asarray(member.psi(t, np)), np.asarray(member.slope(t, np))
    falls = np.diff(psi) < -4e-16 * np.abs(psi[1:])
    if falls.any():
        i = int(np.argmax(falls))
        message = f"psi must not fall: at t = {t[i]:g} it is {psi[i]!r}, at t = {t[i + 1]:g} {psi[i + 1]!r}"
        raise AssertionError(f"{member}: {message}")
    if (slope < 0).any():
        i = int(np.argmax(slope < 0))
        raise AssertionError(f"{member}: slope must not be negative: at t = {t[i]:g} it is {slope[i]!r}, less than 0")


def _integral(f: Callable[[Array], Any], low: float, high: float, slack: float, depth: int = 0) -> float:
    """Gauss-Legendre of 20 points, halved where it does not agree with its halves (a kink)."""
    middle = 0.5 * (low + high)

    def rule(a: float, b: float) -> float:
        return float(0.5 * (b - a) * np.sum(_WEIGHTS * f(0.5 * (a + b) + 0.5 * (b - a) * _NODES)))

    whole, parts = rule(low, high), rule(low, middle) + rule(middle, high)
    if depth >= 40 or abs(whole - parts) <= 1e-12 * abs(parts) + slack:
        return parts
    return _integral(f, low, middle, slack, depth + 1) + _integral(f, middle, high, slack, depth + 1)


def _derivative(member: Member) -> None:
    psi = np.asarray(member.psi(_GRID, np))
    for low, high, left, right in zip(_GRID, _GRID[1:], psi, psi[1:], strict=False):
        rounding = 4e-15 * abs(right)  # of the difference
        grown, area = float(right - left), _integral(lambda x: member.slope(x, np), low, high, rounding)
        _hold(
            abs(grown - area) <= 1e-9 * abs(grown) + 2 * rounding,
            member,
            f"slope must be the derivative of psi: between t = {low:g} and t = {high:g} psi grows by {grown!r}, "
            f"the slope's integral is {area!r}",
        )


def _logarithm(member: Member) -> None:
    _never_nan(member, "log_slope")  # after the sign of the slope, which has no logarithm below 0
    t = _POINTS[np.isfinite(_POINTS)]
    slope, log_slope = np.asarray(member.slope(t, np)), np.asarray(member.log_slope(t, np))
    normal = slope >= np.finfo(np.float64).tiny
    _close(
        member, "log_slope must be the logarithm of slope", t[normal], ("log_slope", "log(slope)"),
        (log_slope[normal], np.log(slope[normal])), 1e-12, 1e-12,
    )  # fmt: skip
    if type(member).log_slope is not Member.log_slope:  # its own, so it is there to reach further
        beyond = ~normal & (t > 1.0) & (t <= 1e5)
        for at, value in zip(t[beyond], log_slope[beyond], strict=True):
            _hold(np.isfinite(value), member, f"log_slope must be finite for finite t: at t = {at:g} it is {value!r}")


def _limit(member: Member) -> None:
    far, top = float(member.psi(np.float64(1e300), np)), float(member.supremum)
    _hold(not math.isnan(top), member, f"supremum must be the limit of psi: at t = inf it is {top!r}")
    if math.isfinite(top):
        message = f"supremum must be the limit of psi: at t = 1e300 psi is {far!r}, supremum {top!r}"
        _hold(abs(far - top) <= 1e-9 * abs(top), member, message)
        highest = float(np.max(member.psi(_POINTS, np)))
        message = f"psi must not exceed its supremum: its largest value is {highest!r}, supremum {top!r}"
        _hold(highest <= top * (1 + 1e-12), member, message)
    else:
        before = float(member.psi(np.float64(1e150), np))
        message = f"supremum is inf, but psi stops growing: at t = 1e150 it is {before!r}, at t = 1e300 {far!r}"
        _hold(far > before, member, message)
    at_zero = float(member.slope_at_zero)
    near = float(member.slope(np.float64(1e-300), np))
    message = f"slope_at_zero must be the limit of slope: at t = 1e-300 slope is {near!r}, slope_at_zero {at_zero!r}"
    _hold(abs(near - at_zero) <= 1e-9 * abs(at_zero) + 1e-9, member, message)


# -- what is claimed of it ----------------------------------------------------------------------------------


def _convexity(member: Member) -> None:
    if not member.convex:
        return
    t = np.concatenate([_GRID[_GRID >= 1e-6], np.linspace(51.0, 300.0, 250)])
    rate = np.asarray(member.log_slope(t, np)) + t  # log(-dL/dp), which rises in t where L is convex in p
    finite = np.isfinite(rate)
    t, rate = t[finite], rate[finite]
    falls = np.diff(rate) < -1e-11 * (1 + np.abs(rate[1:]))
    if falls.any():
        i = int(np.argmax(falls))
        raise AssertionError(
            f"{member}: convex is claimed, but log(-dL/dp) falls with t: at t = {t[i]:g} it is {rate[i]!r}, "
            f"at t = {t[i + 1]:g} {rate[i + 1]!r}"
        )


def _posterior(member: Member) -> None:
    if member.no_posterior:
        return
    rng = np.random.default_rng(0)
    for classes in (2, 3, 10):
        for _ in range(20):
            t = reference.nll(rng.normal(scale=2.0, size=(1, classes)))[0]
            eta, p = reference.posterior(member, -t), np.exp(-t)
            pull = eta * np.asarray(member.slope(t, np))
            gradient = p * pull.sum() - pull  # of the risk sum_j eta_j psi(t_j), in the logits
            k = int(np.argmax(np.abs(gradient)))
            _hold(
                abs(gradient[k]) <= 1e-12 * pull.sum(),
                member,
                f"the posterior map must lead back: with eta mapped from p, at t = {t[k]:g} the gradient of the "
                f"risk in the logit is {gradient[k]!r}, not 0",
            )
            here = float(np.sum(eta * member.psi(t, np)))
            for step in (1e-2, 0.3, 3.0):
                moved = reference.nll((-t + rng.normal(scale=step, size=classes))[None])[0]
                there = float(np.sum(eta * member.psi(moved, np)))
                _hold(
                    there >= here * (1 - 1e-12),
                    member,
                    f"the posterior map must lead back: the risk has its minimum elsewhere, {there!r} at "
                    f"t = {moved.round(3).tolist()}, less than {here!r} at t = {t.round(3).tolist()}",
                )
    near, far = (float(member.log_slope(np.float64(t), np)) + t for t in (300.0, 600.0))  # log(-dL/dp)
    _hold(
        far - near > 1e-9,
        member,
        f"posteriors are claimed, but -dL/dp stays bounded, so the minimiser has p = 0 for every class of a small "
        f"posterior: log(-dL/dp) is {near!r} at t = 300 and {far!r} at t = 600",
    )


# -- PyTorch ------------------------------------------------------------------------------------------------


def _torch_derivative(member: Member) -> None:
    torch, terms = importlib.import_module("torch"), importlib.import_module("adma.torch.kernels.terms")
    for name, values in (("psi", member.psi(_POINTS, np)), ("slope", member.slope(_POINTS, np))):
        got = getattr(member, name)(torch.tensor(_POINTS), terms.xp)
        _hold(
            isinstance(got, torch.Tensor) and got.shape == _POINTS.shape,
            member,
            f"{name} on tensors must give a tensor of t's shape {_POINTS.shape}, got {got!r}",
        )
        _close(member, f"{name} must be the same on both", _POINTS, ("PyTorch's", "NumPy's"),
               (got.numpy(), np.asarray(values)), 1e-13, 1e-300)  # fmt: skip
    t = torch.tensor(_POINTS, requires_grad=True)
    (found,) = torch.autograd.grad(member.psi(t, terms.xp).sum(), t)
    # 1e-140: where a power of t near 1e-300 underflows on the way
    _close(member, "psi's derivative by autograd must be the slope", _POINTS, ("it", "slope"),
           (found.numpy(), np.asarray(member.slope(_POINTS, np))), 1e-12, 1e-140)  # fmt: skip


def _torch_rows(member: Member) -> None:
    torch, eager = importlib.import_module("torch"), importlib.import_module("adma.torch.kernels.eager")
    engine = importlib.import_module("adma.torch.engine")
    rng = np.random.default_rng(1)
    for classes in (2, 7):
        logits = rng.uniform(-1, 1, (60, classes)) * np.geomspace(1e-2, 40, 60)[:, None]
        target = rng.integers(0, classes, 60)
        t = np.take_along_axis(reference.nll(logits), target[:, None], 1)[:, 0]
        z, y = torch.tensor(logits, requires_grad=True), torch.tensor(target)
        rows = engine.flexible_loss(member, z, y, reduction="none")
        true = reference.loss(member, logits, target, reduction="none")
        _close(member, "rows must be the same on both", t, ("PyTorch's", "NumPy's"),
               (rows.detach().numpy(), true), 1e-13, 1e-290)  # fmt: skip
        (grad,) = torch.autograd.grad(rows.sum(), z)
        expected = reference.gradient(member, logits, target, reduction="sum")
        each = np.broadcast_to(t[:, None], logits.shape)
        _close(member, "gradients in the logits must be the same on both", each, ("PyTorch's", "NumPy's"),
               (grad.numpy(), expected), 1e-12, 1e-290)  # fmt: skip
        z3, y3 = z.detach()[:, :, None].requires_grad_(), y[:, None]
        composed = eager.composed_index_rows(z3, y3, member)
        (grad3,) = torch.autograd.grad(composed.sum(), z3)
        _close(member, "the two engines must agree on rows", t, ("composed", "eager"),
               (composed.detach().numpy()[:, 0], rows.detach().numpy()), 1e-12, 1e-290)  # fmt: skip
        _close(member, "the two engines must agree on gradients", each, ("composed", "eager"),
               (grad3.numpy()[:, :, 0], grad.numpy()), 1e-11, 1e-140)  # fmt: skip


def _torch_second_order(member: Member) -> None:
    torch, engine = importlib.import_module("torch"), importlib.import_module("adma.torch.engine")
    rng = np.random.default_rng(2)
    z = torch.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    soft = torch.tensor(rng.dirichlet(np.ones(4), 3))
    for target in (torch.tensor([0, 3, 1]), soft):

        def function(x: Any, target: Any = target) -> Any:
            return engine.flexible_loss(member, x, target)

        kind = "probabilities" if target is soft else "indices"
        for test in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            try:
                test(function, (z,))
            except Exception as error:
                raise AssertionError(f"{member}: {test.__name__} fails for targets of class {kind}: {error}") from error
