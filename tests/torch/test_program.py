"""Tracing a member: the recorded operations give its psi and slope, to the last bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adma
from adma import family
from adma.torch.kernels import terms
from adma.torch.kernels.program import OPERATIONS, Program, UntraceableError, program_of, trace

SPECS = [
    "cce", "adma:a=0.26", "adma:a=0.01,base=20", "adma:a=0.4,normalize=true", "gce:q=0.7", "mae", "focal:gamma=2",
    "focal:gamma=0", "poly1:epsilon=-1", "poly1:epsilon=3", "taylor:order=1", "taylor:order=6", "agce", "aue", "aexp",
]  # fmt: skip
T = np.concatenate([[0.0], np.logspace(-300, 4, 500), [np.inf]])


def program_of_spec(spec: str):
    program = program_of(adma.make_loss(spec).member)
    assert program is not None
    return program


@pytest.mark.parametrize("spec", SPECS)
def test_a_program_gives_what_the_member_gives(spec):
    member = adma.make_loss(spec).member
    with np.errstate(all="ignore"):
        psi, slope = program_of_spec(spec).run(T, np)
        np.testing.assert_array_equal(psi, member.psi(T, np))
        np.testing.assert_array_equal(slope, member.slope(T, np))


@given(a=st.floats(1e-3, 1), base=st.floats(1.01, 50), normalize=st.booleans(), t=st.floats(0, 1e4))
@settings(max_examples=200)
def test_for_any_parameters(a, base, normalize, t):
    member = family.Adma().bind(a=a, base=base, normalize=normalize)
    psi, slope = trace(member).run(np.float64(t), np)
    assert psi == member.psi(np.float64(t), np)
    assert slope == member.slope(np.float64(t), np)


def test_the_code_depends_on_the_formula_and_not_on_the_parameters():
    one, two = program_of_spec("adma:a=0.26"), program_of_spec("adma:a=0.3")
    assert one.text == two.text
    assert one.constants != two.constants


def test_a_program_is_read_back_from_its_text():
    for spec in SPECS:
        program = program_of_spec(spec)
        assert Program.parse(program.text, program.constants) == program


def test_operands_are_known_before_they_are_used():
    for spec in SPECS:
        program = program_of_spec(spec)
        for i, step in enumerate(program.code):
            assert len(step.operands) == OPERATIONS[step.operation]
            assert all(0 <= o < 1 + len(program.constants) + i for o in step.operands)


def test_an_operation_that_occurs_twice_is_recorded_once():
    steps = program_of_spec("adma:a=0.26").code
    assert len(steps) == len(set(steps))


@dataclass(frozen=True)
class Own(family.Member):
    """A user's loss, t^2 / (1 + t)."""

    name = "own"
    k: float = 1.0

    def psi(self, t, xp=np):
        far = xp.where(t > 1e6, t, 0.0)
        near = xp.where(t > 1e6, 0.0, t)
        return near**2 / (self.k + near) + far

    def slope(self, t, xp=np):
        far = xp.where(t > 1e6, 1.0, 0.0)
        near = xp.where(t > 1e6, 0.0, t)
        return near * (near + 2 * self.k) / (self.k + near) ** 2 + far


def test_a_users_own_member_has_a_program():
    program = program_of(Own())
    assert program is not None
    t = torch.logspace(-3, 2, 50, dtype=torch.float64)
    torch.testing.assert_close(program.run(t, terms.plain_xp)[0], t**2 / (1 + t), rtol=1e-14, atol=0)


@dataclass(frozen=True)
class Branching(Own):
    def psi(self, t, xp=np):
        return t if t > 1 else t * t


@dataclass(frozen=True)
class Exotic(Own):
    def psi(self, t, xp=np):
        return xp.arctan(t)


@dataclass(frozen=True)
class Endless(Own):
    def psi(self, t, xp=np):
        for i in range(1000):
            t = t + 0.1 * i
        return t


@pytest.mark.parametrize("kind", [Branching, Exotic, Endless])
def test_what_cannot_be_traced_is_said(kind):
    with pytest.raises(UntraceableError):
        trace(kind())
    assert program_of(kind()) is None


def test_a_learned_parameter_has_no_program():
    assert program_of(family.Adma().bind(a=torch.tensor(0.3, requires_grad=True))) is None
