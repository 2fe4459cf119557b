"""What is true of a label vector, as a circuit: exactly one class, at most two, these rules, this function.

A constraint on n Boolean variables is compiled to an ordered decision diagram, in which every path from the root to the
end is a set of satisfying assignments. The probability that independent variables satisfy it, the weighted model count,
is then one sum over its nodes, exact, also where enumeration would need 2^n terms (Xu, Zhang, Friedman, Liang &
Van den Broeck 2018, Sec. 3; Darwiche & Marquis 2002).

    >>> from adma import constraints
    >>> rule = constraints.exactly(1, 4)
    >>> rule.count, rule.satisfied([False, True, False, False])
    (4, True)
    >>> constraints.from_clauses([(1, 2), (-1, -2)], 2).count  # x1 or x2, and not both
    2
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adma import _check

MOST_NODES = 200_000  # of a diagram: beyond them a step of training would wait for the circuit
MOST_ENUMERATED = 20  # variables of a function: 2^20 assignments are looked at

# a state before a variable and the variable's value -> the state after it, None where nothing can satisfy it any more
Step = Callable[[Hashable, int, bool], Hashable | None]


@dataclass(frozen=True)
class Constraint:
    """A satisfiable constraint, compiled.

    variables: n, their number.
    levels: for each variable the nodes that ask for it: (nodes, 2) indices into the nodes of the next variable, by its
        value False and True; -1 where that cannot be satisfied any more. The last level points at one end, 0. The
        first has one node, the root.
    name: as a message says it.
    """

    variables: int
    levels: tuple[np.ndarray[Any, Any], ...]
    name: str

    def __repr__(self) -> str:
        return f"<Constraint {self.name} of {self.variables} variables, {self.nodes} nodes>"

    @property
    def nodes(self) -> int:
        """The circuit's size: what an evaluation costs."""
        return sum(len(level) for level in self.levels)

    @property
    def count(self) -> int:
        """How many assignments satisfy it."""
        counts = [1]
        for level in reversed(self.levels):
            counts = [sum(counts[child] for child in node if child >= 0) for node in level.tolist()]
        return counts[0]

    def satisfied(self, assignment: Sequence[bool]) -> bool:
        """Whether an assignment of all variables, in their order, satisfies it.

        Raises:
            ValueError: it has another length.
        """
        if len(assignment) != self.variables:
            raise ValueError(f"assignment must have {self.variables} values, got {len(assignment)}")
        node = 0
        for level, value in zip(self.levels, assignment, strict=True):
            node = int(level[node, int(bool(value))])
            if node < 0:
                return False
        return True

    def log_probability(self, logits: Any) -> np.ndarray[Any, Any]:
        """The logarithm of the probability that independent variables satisfy it: the reference, in float64.

        Args:
            logits: (n, ...), of each variable's probability of being true.
        """
        z = np.asarray(logits, dtype=np.float64)
        if z.shape[:1] != (self.variables,):
            raise ValueError(f"logits must have {self.variables} variables on axis 0, got shape {z.shape}")
        never = np.full((1, *z.shape[1:]), -np.inf)
        values = np.zeros((1, *z.shape[1:]))
        for level, on in zip(reversed(self.levels), z[::-1], strict=True):
            values = np.concatenate([values, never])
            off = -np.logaddexp(0.0, on)
            values = np.logaddexp(off + values[level[:, 0]], -np.logaddexp(0.0, -on) + values[level[:, 1]])
        return values[0]


def compile_states(variables: int, start: Hashable, step: Step, accepts: Callable[[Hashable], bool],
                   name: str = "constraint") -> Constraint:  # fmt: skip
    """A constraint from what has to be remembered of the variables so far.

    Args:
        variables: n, at least 1.
        start: the state before the first variable.
        step: state, index of a variable (from 0), its value -> the next state, or None.
        accepts: whether a state after the last variable satisfies the constraint.
        name: as a message says it.

    Raises:
        ValueError: nothing satisfies it, or the diagram has more than 200,000 nodes.
    """
    n = _check.whole("variables", variables, low=1, high=1_000_000)
    layers: list[list[tuple[int, int]]] = []  # of each variable, its nodes' children among the next layer's states
    states: dict[Hashable, int] = {start: 0}
    total = 0
    for index in range(n):
        total += len(states)
        if total > MOST_NODES:
            raise ValueError(
                f"{name} of {n} variables has more than {MOST_NODES:,} nodes at variable {index + 1}; put variables "
                "that stand in the same rules beside each other, or split it into constraints whose losses are added"
            )
        following: dict[Hashable, int] = {}
        nodes = []
        for state in states:
            children = [step(state, index, value) for value in (False, True)]
            nodes.append(tuple(-1 if c is None else following.setdefault(c, len(following)) for c in children))
        layers.append(nodes)  # type: ignore[arg-type]
        states = following
    return Constraint(n, _reduced(layers, [accepts(state) for state in states], name), name)


def _reduced(
    layers: list[list[tuple[int, int]]], accepted: Sequence[bool], name: str
) -> tuple[np.ndarray[Any, Any], ...]:
    """From the end to the root: nodes without a satisfying path go, nodes with the same children are one."""
    place = [0 if good else -1 for good in accepted]
    levels: list[np.ndarray[Any, Any]] = []
    for nodes in reversed(layers):
        own: dict[tuple[int, int], int] = {}
        places = []
        for low, high in nodes:
            node = (-1 if low < 0 else place[low], -1 if high < 0 else place[high])
            places.append(-1 if node == (-1, -1) else own.setdefault(node, len(own)))
        place = places
        levels.append(np.array(list(own), dtype=np.int64).reshape(-1, 2))
    if place[0] < 0:
        raise ValueError(f"{name} cannot be satisfied by any assignment")
    return tuple(reversed(levels))


def between(low: int, high: int, variables: int) -> Constraint:
    """At least `low` and at most `high` of the variables are true.

    Raises:
        ValueError: not 0 <= low <= high <= variables.
    """
    n = _check.whole("variables", variables, low=1, high=1_000_000)
    high = _check.whole("high", high, low=0, high=n)
    low = _check.whole("low", low, low=0, high=high)

    def step(state: Any, index: int, value: bool) -> int | None:
        count: int = state + value
        return count if count <= high and count + n - index - 1 >= low else None

    words = f"exactly {low}" if low == high else f"between {low} and {high}"
    return compile_states(n, 0, step, lambda count: True, words)


def exactly(count: int, variables: int) -> Constraint:
    """Exactly `count` of the variables are true; 1 is a class label's own."""
    return between(count, count, variables)


def from_clauses(clauses: Iterable[Sequence[int]], variables: int) -> Constraint:
    """A conjunction of clauses (a CNF), each a disjunction of literals as DIMACS writes them.

    The diagram remembers which clauses are still open at a variable, so it is small where clauses join neighbours.

    Args:
        clauses: each a sequence of literals: 3 is "variable 3 is true", -3 "it is false"; variables count from 1.
        variables: n.

    Raises:
        ValueError: a literal is no variable, nothing satisfies the clauses, or the diagram has too many nodes.
    """
    n = _check.whole("variables", variables, low=1, high=1_000_000)
    last: list[int] = []  # the index of each clause's last variable
    begins: list[list[int]] = [[] for _ in range(n)]
    meets: dict[tuple[int, bool], set[int]] = {}
    for number, clause in enumerate(dict.fromkeys(tuple(dict.fromkeys(c)) for c in clauses)):
        for literal in clause:
            if isinstance(literal, bool) or not isinstance(literal, int) or not 1 <= abs(literal) <= n:
                raise ValueError(f"a literal must be a whole number from 1 to {n} or its negative, got {literal!r}")
            meets.setdefault((abs(literal) - 1, literal > 0), set()).add(number)
        if not clause:
            raise ValueError("a clause without literals cannot be satisfied; leave it out")
        indices = [abs(literal) - 1 for literal in clause]
        begins[min(indices)].append(number)
        last.append(max(indices))

    def step(state: Any, index: int, value: bool) -> frozenset[int] | None:
        met = meets.get((index, value), set())
        left = (state | set(begins[index])) - met
        return None if any(last[clause] == index for clause in left) else frozenset(left)

    return compile_states(n, frozenset(), step, lambda state: True, f"a conjunction of {len(last)} clauses")


def from_dimacs(text: str) -> Constraint:
    """A conjunction of clauses from the text of a DIMACS file (`p cnf VARIABLES CLAUSES`).

    Raises:
        ValueError: the text is no such file, or as `from_clauses`.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("c")]
    head = lines[0].split() if lines else []
    if len(head) != 4 or head[:2] != ["p", "cnf"] or not all(word.isdigit() for word in head[2:]):
        raise ValueError(f"a DIMACS file begins with 'p cnf VARIABLES CLAUSES', got {lines[0] if lines else ''!r}")
    try:
        literals = [int(word) for line in lines[1:] for word in line.split()]
    except ValueError as error:
        raise ValueError(f"a DIMACS file holds literals, whole numbers: {error}") from None
    clauses: list[list[int]] = [[]]
    for literal in literals:
        if literal:
            clauses[-1].append(literal)
        else:
            clauses.append([])
    if clauses[-1]:
        raise ValueError(f"the last clause {clauses[-1]} does not end with 0")
    if len(clauses) - 1 != int(head[3]):
        raise ValueError(f"the head says {head[3]} clauses, the file holds {len(clauses) - 1}")
    return from_clauses(clauses[:-1], int(head[2]))


def from_function(function: Callable[[np.ndarray[Any, Any]], Any], variables: int) -> Constraint:
    """Any constraint on at most 20 variables, by looking at all assignments once.

    Args:
        function: assignments, Boolean (2^n, n) -> which of them satisfy it, Boolean (2^n).
        variables: n, in [1, 20].

    Raises:
        ValueError: n is too large, the function gives something else, or nothing satisfies it.
    """
    n = _check.whole(
        "variables", variables, low=1, high=MOST_ENUMERATED, hint="write more variables as clauses (from_clauses)"
    )
    assignments = (np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)) & 1
    table = np.asarray(function(assignments.astype(bool)))
    if table.shape != (2**n,) or table.dtype != np.bool_:
        raise ValueError(
            f"function must give a Boolean for each of the {2**n} assignments, got shape {table.shape}, {table.dtype}"
        )

    def step(state: Any, index: int, value: bool) -> bytes | None:
        half = len(state) // 2
        rest: bytes = state[half:] if value else state[:half]
        return rest if any(rest) else None

    name = getattr(function, "__name__", type(function).__name__)
    return compile_states(n, table.tobytes(), step, lambda state: True, name)


# -- by name: how a spec says it ------------------------------------------------------------------------------

Maker = Callable[[int], Constraint]
_NAMED: dict[str, Maker] = {}
_COUNTS = {"exactly": lambda k, n: (k, k), "at_most": lambda k, n: (0, k), "at_least": lambda k, n: (k, n)}
_COMPILED: dict[tuple[str, int], Constraint] = {}


def register(name: str, maker: Maker) -> None:
    """Make a constraint known by name: in `SemanticLoss("NAME")` and in the spec `semantic:constraint=NAME`.

    Args:
        name: a word.
        maker: number of variables (classes) -> the constraint.

    Raises:
        ValueError: the name is no word, or is taken.
    """
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"name must be a word such as 'no_two_animals', got {name!r}")
    if _count_of(name) is not None:
        raise ValueError(f"the name {name!r} is taken")
    there = _NAMED.get(name)
    if there is not None and _origin(there) != _origin(maker):
        raise ValueError(f"the name {name!r} belongs to {there!r}")
    _NAMED[name] = maker
    for key in [key for key in _COMPILED if key[0] == name]:
        del _COMPILED[key]


def check_name(name: str) -> str:
    """`name`, if it stands for a constraint.

    Raises:
        ValueError: it does not, with what does.
    """
    if isinstance(name, str) and (name in _NAMED or _count_of(name) is not None):
        return name
    near = _check.nearest(str(name), ["exactly_one", "at_most_one", "at_least_one", *_NAMED])
    listing = ", ".join(["exactly_K", "at_most_K", "at_least_K (K a whole number, or one)", *_NAMED])
    raise ValueError(
        f"constraint {name!r} is not known{near}; known: {listing}, and what adma.constraints.register adds"
    )


def named(name: str, variables: int) -> Constraint:
    """The constraint that a name stands for; compiled once.

    Raises:
        ValueError: it is not known, does not fit that many variables, or nothing satisfies it.
    """
    check_name(name)
    found = _COMPILED.get((name, variables))
    if found is None:
        counted = _count_of(name)
        if counted is not None:
            kind, k = counted
            if k > variables:
                raise ValueError(f"constraint {name!r} needs at least {k} variables, got {variables}")
            found = between(*_COUNTS[kind](k, variables), variables)
        else:
            found = _NAMED[name](variables)
            if not isinstance(found, Constraint) or found.variables != variables:
                raise ValueError(
                    f"the maker of {name!r} must give a Constraint of {variables} variables, got {found!r}"
                )
        _COMPILED[name, variables] = found
    return found


def _count_of(name: str) -> tuple[str, int] | None:
    kind, _, count = name.rpartition("_")
    if kind not in _COUNTS:
        return None
    if count == "one":
        return kind, 1
    return (kind, int(count)) if count.isdecimal() and count == str(int(count)) else None


def _origin(maker: Any) -> str:
    """A maker's place: a module that is loaded again registers its constraints again."""
    return f"{getattr(maker, '__module__', '')}.{getattr(maker, '__qualname__', repr(maker))}"
