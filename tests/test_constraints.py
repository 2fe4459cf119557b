"""Constraints against brute force: every assignment looked at, and its probability added up."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adma import constraints
from adma.constraints import between, compile_states, exactly, from_clauses, from_dimacs, from_function

NEGATIVE_LITERAL = st.integers(1, 6).flatmap(lambda v: st.sampled_from([v, -v]))
CLAUSES = st.lists(st.lists(NEGATIVE_LITERAL, min_size=1, max_size=4), max_size=6)
LOGITS = st.lists(st.floats(-30, 30), min_size=6, max_size=6)


def log_probability(holds, logits):
    """By all assignments, in exact order of nothing: a sum of products."""
    total = 0.0
    for values in itertools.product([False, True], repeat=len(logits)):
        if holds(values):
            total += math.exp(sum(-math.log1p(math.exp(-z if v else z)) for z, v in zip(logits, values, strict=True)))
    return math.log(total)


def meets(clauses, values):
    return all(any(values[abs(x) - 1] == (x > 0) for x in clause) for clause in clauses)


@settings(max_examples=150)
@given(clauses=CLAUSES, logits=LOGITS)
def test_clauses_are_counted_and_weighed_as_by_enumeration(clauses, logits):
    every = list(itertools.product([False, True], repeat=6))
    true = [values for values in every if meets(clauses, values)]
    if not true:
        with pytest.raises(ValueError, match="cannot be satisfied"):
            from_clauses(clauses, 6)
        return
    rule = from_clauses(clauses, 6)
    assert rule.count == len(true)
    assert [v for v in every if rule.satisfied(v)] == true
    found = float(rule.log_probability(np.array(logits)))
    assert found == pytest.approx(log_probability(lambda v: meets(clauses, v), logits), rel=1e-9, abs=1e-12)


@settings(max_examples=50)
@given(bounds=st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted), logits=LOGITS)
def test_counts_are_weighed_as_by_enumeration(bounds, logits):
    low, high = bounds
    rule = between(low, high, 6)
    assert rule.count == sum(math.comb(6, k) for k in range(low, high + 1))
    true = log_probability(lambda v: low <= sum(v) <= high, logits)
    assert float(rule.log_probability(np.array(logits))) == pytest.approx(true, rel=1e-9, abs=1e-12)


@given(
    table=st.lists(st.booleans(), min_size=16, max_size=16).filter(any), logits=st.lists(LOGITS, min_size=4, max_size=4)
)
def test_any_function_of_four_labels(table, logits):
    def function(assignments):
        return np.array(table)[assignments @ np.array([8, 4, 2, 1])]

    rule = from_function(function, 4)
    assert rule.count == sum(table)
    z = np.array(logits)
    for column in range(z.shape[1]):
        true = log_probability(lambda v: table[int("".join("01"[x] for x in v), 2)], z[:, column])
        assert rule.log_probability(z)[column] == pytest.approx(true, rel=1e-9, abs=1e-12)


def test_a_diagram_is_as_small_as_its_memory():
    assert exactly(1, 1000).nodes == 1999  # "one so far" or "none so far" before each variable but the first
    assert from_function(lambda x: x.sum(1) % 2 == 0, 12).nodes == 23  # the parity so far
    chain = from_clauses([(i, i + 1) for i in range(1, 500)], 500)  # no two neighbours false: Fibonacci's numbers
    assert chain.nodes < 1000
    a, b = 1, 1
    for _ in range(500):
        a, b = b, a + b
    assert chain.count == b


def test_probabilities_of_impossible_and_certain_labels():
    rule = exactly(1, 3)
    z = np.array([[np.inf, -np.inf, np.inf], [-np.inf, -np.inf, np.inf], [0.0, -np.inf, 0.0]])
    with np.errstate(all="raise"):
        assert rule.log_probability(z).tolist() == [math.log(0.5), -np.inf, -np.inf]


def test_a_state_machine_of_ones_own():
    """No two labels beside each other."""
    rule = compile_states(4, False, lambda last, i, v: None if last and v else v, lambda state: True, "apart")
    assert rule.count == 8
    assert rule.satisfied([True, False, False, True])
    assert not rule.satisfied([True, True, False, False])
    assert "apart of 4 variables" in repr(rule)


def test_dimacs():
    rule = from_dimacs("c a comment\np cnf 3 2\n1 -2 0\n2 3\n0\n")
    assert rule.count == from_clauses([(1, -2), (2, 3)], 3).count == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with 'p cnf"),
        ("p cnf 3\n1 0", "begins with"),
        ("p cnf 3 1\n1 x 0", "whole numbers"),
        ("p cnf 3 1\n1 2", "does not end with 0"),
        ("p cnf 3 2\n1 2 0", "says 2 clauses, the file holds 1"),
        ("p cnf 3 1\n4 0", r"from 1 to 3 or its negative, got 4"),
    ],
)
def test_a_file_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        from_dimacs(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exactly(4, 3), r"high must be a whole number in \[0, 3\], got 4"),
        (lambda: between(2, 1, 3), r"low must be a whole number in \[0, 1\], got 2"),
        (lambda: exactly(1, 0), "variables must be"),
        (lambda: from_clauses([()], 3), "without literals"),
        (lambda: from_clauses([(True,)], 3), "literal must be a whole number"),
        (lambda: from_clauses([(1,), (-1,)], 3), "cannot be satisfied"),
        (lambda: from_function(lambda x: x.sum(1) > 9, 3), "cannot be satisfied"),
        (lambda: from_function(lambda x: x.sum(1), 3), "must give a Boolean"),
        (lambda: from_function(lambda x: x.all(1), 21), r"in \[1, 20\], got 21; write more variables as clauses"),
        (lambda: exactly(1, 3).satisfied([True]), "must have 3 values, got 1"),
        (lambda: exactly(1, 3).log_probability(np.zeros(2)), "3 variables on axis 0"),
    ],
)
def test_what_is_no_constraint_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_diagram_without_an_end_is_refused():
    pairs = [(i, i + 20) for i in range(1, 21)]  # partners far apart: all of the first half must be remembered
    with pytest.raises(ValueError, match="more than 200,000 nodes at variable"):
        from_clauses(pairs, 40)


def test_names():
    assert constraints.named("exactly_one", 5).count == 5
    assert constraints.named("at_most_2", 4).count == 11
    assert constraints.named("at_least_one", 4).count == 15
    assert constraints.named("exactly_one", 5) is constraints.named("exactly_one", 5)
    with pytest.raises(ValueError, match="needs at least 6 variables, got 5"):
        constraints.named("exactly_6", 5)
    with pytest.raises(ValueError, match="'exactly_on' is not known, did you mean 'exactly_one'"):
        constraints.check_name("exactly_on")
    for name in ("exactly_", "exactly_-1", "exactly_01", "one", "", "exactly_1.0"):
        with pytest.raises(ValueError, match="is not known"):
            constraints.check_name(name)


def test_a_registered_name():
    constraints.register("all_or_none", all_or_none)
    constraints.register("all_or_none", all_or_none)  # a module that is loaded again
    assert constraints.named("all_or_none", 3).count == 2
    with pytest.raises(ValueError, match="belongs to"):
        constraints.register("all_or_none", lambda n: exactly(1, n))
    with pytest.raises(ValueError, match="is taken"):
        constraints.register("exactly_one", all_or_none)
    with pytest.raises(ValueError, match="must be a word"):
        constraints.register("all, or none", all_or_none)
    constraints.register("three", three)
    with pytest.raises(ValueError, match="must give a Constraint of 4 variables"):
        constraints.named("three", 4)


def all_or_none(n):
    return compile_states(n, None, lambda s, i, v: v if s is None or s == v else None, lambda s: True)


def three(n):
    return exactly(1, 3)
