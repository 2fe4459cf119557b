"""A member's psi and slope as a short list of operations, so that a kernel computes any member without knowing it.

`trace` calls `psi` and `slope` once with a symbol in the place of t and records what they do to it. What comes out
depends on the member's formula alone: its parameters are constants beside the list, so a schedule, or learning, changes
numbers and not code. A kernel in C++ interprets the list over many rows at a time; one in Triton is generated from it.
A member that cannot be traced (it looks at values, or asks for other operators) is computed by plain operators.

>>> from adma.family import GeneralizedCrossEntropy
>>> print(trace(GeneralizedCrossEntropy(q=0.5)).text)
v3 = mul c0 t
v4 = expm1 v3
v5 = neg v4
v6 = div v5 c1
v7 = exp v3
psi = v6, slope = v7
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeVar

import torch

from adma.torch.kernels.terms import Shape

# name -> number of operands; all of float64 but for `where`, whose first is what a comparison gave (1 or 0)
OPERATIONS = {
    "neg": 1, "exp": 1, "expm1": 1, "log": 1, "log1p": 1, "abs": 1,
    "add": 2, "sub": 2, "mul": 2, "div": 2, "pow": 2, "less": 2, "less_equal": 2,
    "where": 3,
}  # fmt: skip
_LONGEST = 256


_F = TypeVar("_F", bound=Callable[..., Any])


def constant_in_a_graph(function: _F) -> _F:
    """What `torch.compiler.assume_constant_result` does, which imports the compiler: as long as torch itself takes."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Instruction(NamedTuple):
    """One operation; operands are numbers of values: 0 is t, then the constants, then the instructions before."""

    operation: str
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Psi and slope of one member.

    code: in an order in which each operand is known before it is used.
    constants: the values 1 to len(constants); value 1 + len(constants) + i is what instruction i gives.
    psi, slope: the numbers of the values that are the result.
    """

    code: tuple[Instruction, ...]
    constants: tuple[float, ...]
    psi: int
    slope: int

    @property
    def text(self) -> str:
        """The program without its constants, for people and as the name of what is generated from it."""
        lines = [
            f"v{1 + len(self.constants) + i} = {' '.join([step.operation, *map(self._name, step.operands)])}"
            for i, step in enumerate(self.code)
        ]
        return "\n".join([*lines, f"psi = {self._name(self.psi)}, slope = {self._name(self.slope)}"])

    @cached_property
    def _hash(self) -> int:
        return hash((self.code, self.constants, self.psi, self.slope))

    def __hash__(self) -> int:  # asked for at every launch of a kernel
        return self._hash

    @classmethod
    def parse(cls, text: str, constants: Sequence[float]) -> Program:
        """The program whose `text` this is."""

        def value(name: str) -> int:
            return 0 if name == "t" else int(name[1:]) + (name[0] == "c")

        *lines, last = text.split("\n")
        steps = (line.split(" = ")[1].split() for line in lines)
        code = tuple(Instruction(name, tuple(map(value, operands))) for name, *operands in steps)
        psi, slope = (part.split(" = ")[1] for part in last.split(", "))
        return cls(code, tuple(constants), value(psi), value(slope))

    def _name(self, value: int) -> str:
        if value == 0:
            return "t"
        return f"c{value - 1}" if value <= len(self.constants) else f"v{value}"

    def run(self, t: Any, xp: Any) -> tuple[Any, Any]:
        """Psi and slope at t by a namespace's own operators: what every kernel must agree with."""
        values: list[Any] = [t, *self.constants]
        for step in self.code:
            values.append(_APPLY[step.operation](xp, *(values[i] for i in step.operands)))
        zero = 0.0 * xp.exp(-t)  # a constant result gets t's shape
        return values[self.psi] + zero, values[self.slope] + zero


_APPLY: dict[str, Callable[..., Any]] = {
    "neg": lambda xp, x: -x,
    "exp": lambda xp, x: xp.exp(x),
    "expm1": lambda xp, x: xp.expm1(x),
    "log": lambda xp, x: xp.log(x),
    "log1p": lambda xp, x: xp.log1p(x),
    "abs": lambda xp, x: abs(x),
    "add": lambda xp, x, y: x + y,
    "sub": lambda xp, x, y: x - y,
    "mul": lambda xp, x, y: x * y,
    "div": lambda xp, x, y: x / y,
    "pow": lambda xp, x, y: x**y,
    "less": lambda xp, x, y: x < y,
    "less_equal": lambda xp, x, y: x <= y,
    "where": lambda xp, condition, x, y: xp.where(condition, x, y),
}


class UntraceableError(TypeError):
    """What a formula asks for is not among the operations of a program."""


@dataclass
class _Recorder:
    """Instructions as they come, equal ones once. Constants are numbered below 0 until all are known."""

    code: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    constants: dict[str, float] = field(default_factory=dict)  # by their repr: 0.0 and -0.0 are two
    seen: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)

    def operand(self, value: Any) -> int:
        if isinstance(value, _Symbol):
            return value.number
        if not isinstance(value, numbers.Real):  # a tensor may change, and may want a gradient
            raise UntraceableError(f"{type(value).__name__} in a formula")
        number = float(value)
        self.constants.setdefault(repr(number), number)
        return -1 - list(self.constants).index(repr(number))

    def emit(self, operation: str, *operands: Any) -> _Symbol:
        key = (operation, tuple(self.operand(o) for o in operands))
        if key not in self.seen:
            if len(self.code) == _LONGEST:
                raise UntraceableError(f"more than {_LONGEST} operations")
            self.code.append(key)
            self.seen[key] = len(self.code)
        return _Symbol(self, self.seen[key])

    def finish(self, psi: int, slope: int) -> Program:
        def final(number: int) -> int:
            return -number if number < 0 else number and number + len(self.constants)

        code = tuple(Instruction(operation, tuple(map(final, operands))) for operation, operands in self.code)
        return Program(code, tuple(self.constants.values()), final(psi), final(slope))


class _Symbol:
    """A value that is not known: number 0 is t, number i > 0 the result of instruction i."""

    __array_ufunc__ = None  # NumPy's scalars leave the operator to us
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, recorder: _Recorder, number: int) -> None:
        self.recorder, self.number = recorder, number

    def __bool__(self) -> bool:
        raise UntraceableError("a formula that branches on values")

    def __eq__(self, other: object) -> bool:
        raise UntraceableError("== in a formula")

    def __neg__(self) -> _Symbol:
        return self.recorder.emit("neg", self)

    def __abs__(self) -> _Symbol:
        return self.recorder.emit("abs", self)

    def __add__(self, other: Any) -> _Symbol:
        return self.recorder.emit("add", self, other)

    def __radd__(self, other: Any) -> _Symbol:
        return self.recorder.emit("add", other, self)

    def __sub__(self, other: Any) -> _Symbol:
        return self.recorder.emit("sub", self, other)

    def __rsub__(self, other: Any) -> _Symbol:
        return self.recorder.emit("sub", other, self)

    def __mul__(self, other: Any) -> _Symbol:
        return self.recorder.emit("mul", self, other)

    def __rmul__(self, other: Any) -> _Symbol:
        return self.recorder.emit("mul", other, self)

    def __truediv__(self, other: Any) -> _Symbol:
        return self.recorder.emit("div", self, other)

    def __rtruediv__(self, other: Any) -> _Symbol:
        return self.recorder.emit("div", other, self)

    def __pow__(self, other: Any) -> _Symbol:
        return self.recorder.emit("pow", self, other)

    def __rpow__(self, other: Any) -> _Symbol:
        return self.recorder.emit("pow", other, self)

    def __lt__(self, other: Any) -> _Symbol:
        return self.recorder.emit("less", self, other)

    def __le__(self, other: Any) -> _Symbol:
        return self.recorder.emit("less_equal", self, other)

    def __gt__(self, other: Any) -> _Symbol:
        return self.recorder.emit("less", other, self)

    def __ge__(self, other: Any) -> _Symbol:
        return self.recorder.emit("less_equal", other, self)


class _Tracing:
    """The namespace that records."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Callable[..., _Symbol]:
        if name not in ("exp", "expm1", "log", "log1p", "where", "abs"):
            raise UntraceableError(f"xp.{name} in a formula")

        def operator(*operands: Any) -> _Symbol:
            if len(operands) != OPERATIONS[name]:
                raise UntraceableError(f"xp.{name} of {len(operands)} operands")
            return self._recorder.emit(name, *operands)

        return operator


def trace(member: Shape) -> Program:
    """The program of a member.

    Raises:
        UntraceableError: its formulas do something else than the operations of a program.
    """
    recorder = _Recorder()
    t, xp = _Symbol(recorder, 0), _Tracing(recorder)
    psi = recorder.operand(member.psi(t, xp))
    slope = recorder.operand(member.slope(t, xp))
    return recorder.finish(psi, slope)


def program_of(member: Shape) -> Program | None:
    """The program of a member, remembered; None if it cannot be traced."""
    try:
        return _remembered(member)  # type: ignore[arg-type]
    except TypeError:  # it cannot be hashed
        return _attempt(member)


def _attempt(member: Any) -> Program | None:
    try:
        return trace(member)
    except Exception:  # whatever a formula of a user's raises on a symbol
        return None


_remembered = lru_cache(maxsize=1024)(_attempt)


def parameters(member: Shape) -> tuple[Any, ...] | None:
    """A member's parameters in the order of its fields, as torch.compile follows them; None if it is no dataclass."""
    names = _field_names(type(member))
    return None if names is None else tuple([getattr(member, name) for name in names])


def formula(member: Shape) -> tuple[str, tuple[float, ...]]:
    """Text and constants of a member that has a program; inside torch.compile, of the parameters' values there."""
    if torch.compiler.is_compiling():
        values = parameters(member)
        assert values is not None
        return _formula_of(type(member), values)
    return _formula(member)


def _formula(member: Shape) -> tuple[str, tuple[float, ...]]:
    program = program_of(member)
    assert program is not None
    return program.text, program.constants


def member_of(kind: type, values: tuple[Any, ...]) -> Any:
    """The member with these parameters, unchecked: torch.compile hands values on, and no objects that it is making."""
    member: Any = object.__new__(kind)
    for name, value in zip(_field_names(kind) or (), values, strict=True):
        object.__setattr__(member, name, value)
    return member


@constant_in_a_graph
def _formula_of(kind: type, values: tuple[Any, ...]) -> tuple[str, tuple[float, ...]]:
    return _formula(member_of(kind, values))


@constant_in_a_graph
def _field_names(kind: type) -> tuple[str, ...] | None:
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else None
