"""What `--loss` and `--lr` mean to a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adma import spec
from adma.bench.errors import BenchError
from adma.bench.search.space import Space, at, parse_lr, parse_template, parse_templates, place, tidy
from adma.family import Adma, Loss, Range
from adma.spec import parse


@pytest.mark.parametrize(
    ("text", "searched", "name"),
    [
        ("adma", {"a": (0.01, 0.5)}, "adma"),
        ("adma:a=search", {"a": (0.01, 0.5)}, "adma:a=search"),
        ("adma:a=0.1..0.5", {"a": (0.1, 0.5)}, "adma:a=0.1..0.5"),
        ("adma: a = 1e-2..0.4 , normalize = true", {"a": (0.01, 0.4)}, "adma:a=0.01..0.4,normalize=true"),
        ("adma:a=0.26", {}, "adma:a=0.26"),
        ("adma:base=search", {"a": (0.01, 0.5), "base": (1.05, 20.0)}, "adma:base=search"),
        ("adma:base=search,a=0.3", {"base": (1.05, 20.0)}, "adma:a=0.3,base=search"),
        ("adma:normalize=true", {"a": (0.01, 0.5)}, "adma:normalize=true"),
        ("gce", {"q": (0.02, 1.0)}, "gce"),
        ("focal", {"gamma": (0.05, 5.0)}, "focal"),
        ("bi_tempered", {"t1": (0.2, 1.0), "t2": (1.0, 4.0)}, "bi_tempered"),
        ("cce", {}, "cce"),
        ("ce", {}, "cce"),
        ("mse", {}, "mse"),
        ("adma:a=linear/0.05/0.4", {}, "adma:a=linear/0.05/0.4"),
        ("adma:a=learn", {}, "adma:a=learn"),
    ],
)
def test_what_is_not_fixed_is_searched(text: str, searched: dict[str, tuple[float, float]], name: str) -> None:
    template = parse_template(text)
    assert {k: (r.low, r.high) for k, r in template.space.items()} == searched
    assert template.name == name
    assert parse_template(name) == template  # so that a report can be rebuilt from what is written down


def test_a_point_becomes_a_canonical_spec() -> None:
    template = parse_template("adma:normalize=true,base=search")
    assert template.spec({"a": 0.31, "base": 2.0, "lr": 0.1}) == "adma:a=0.31,base=2.0,normalize=true"
    assert template.defaults == {"a": 0.26, "base": math.e}
    assert parse_template("adma:a=0.3..0.5").defaults == {"a": 0.387}  # 0.26 lies outside: the middle, by ratios
    assert parse(template.spec(template.defaults)) == Adma(normalize=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("adam", "did you mean 'adma'"),
        ("adma:aa=0.1..0.5", "did you mean 'a'"),
        ("adma:aa=search", "did you mean 'a'"),
        ("cce:q=search", "it has none"),
        ("adma:a=0.5..0.1", "LOW below HIGH"),
        ("adma:a=0..0.5", "a must be in (0, inf)"),
        ("focal:gamma=0..5", "must begin above 0"),
        ("gce:q=0.5..1.5", "q must"),
        ("adma:a=0.1..x", "must be a number, got 'x'"),
        ("adma:a=x..0.1", "must be a number, got 'x'"),
        ("adma:a=0.1..inf", "must be a number"),
        ("adma:a=search,a=0.1..0.2", "given twice"),
        ("adma:a=0.1,a=0.3", "a is given twice"),
        ("adma:a=0.3,a=0.1..0.2", "a is given twice"),
        ("taylor:order=1..3.5", "order is a whole number, so the ends of its range must be, got '1..3.5'"),
        ("adma:normalize=0..1", "must be true or false"),
        ("adma:normalize=search", "declares no range"),
        ("adma:", "nothing stands behind the colon"),
        ("adma:a=0.1,,", "'' is not of the form key=value"),
        ("adma:a=0.1..", "must be a number"),
    ],
)
def test_a_loss_that_cannot_be_searched_is_told(text: str, words: str) -> None:
    with pytest.raises(BenchError, match="--loss") as told:
        parse_template(text)
    assert words in str(told.value)


@dataclass(frozen=True)
class Stepped(Loss):
    """A loss of a user's own, with a whole number, a word and a parameter that must be given."""

    q: float
    steps: int = 2
    kind: str = "plain"
    name: ClassVar[str] = "stepped_for_a_test"
    space: ClassVar[Mapping[str, Range]] = {"steps": Range(1, 9, whole=True)}


def test_a_loss_of_ones_own_may_have_whole_numbers_and_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))  # other tests do not see it
    spec.register(Stepped)
    template = parse_template("stepped_for_a_test:q=0.1..0.9")
    assert template.space == {"q": Range(0.1, 0.9), "steps": Range(1, 9, whole=True)}
    assert template.defaults == {"q": 0.5, "steps": 2}
    assert template.spec({"q": 0.3, "steps": 4.0}) == "stepped_for_a_test:q=0.3,steps=4"
    own = parse_template("stepped_for_a_test:q=0.3,steps=3..5")
    assert own.space == {"steps": Range(3, 5, whole=True)}
    assert parse_template(own.name) == own
    with pytest.raises(BenchError, match="kind is no number"):
        parse_template("stepped_for_a_test:q=0.3,kind=1..2")
    with pytest.raises(BenchError, match="needs q"):
        parse_template("stepped_for_a_test")


def test_a_loss_twice_is_told_but_two_ranges_are_two_searches() -> None:
    with pytest.raises(BenchError, match="given twice"):
        parse_templates(["cce", "ce"])
    assert len(parse_templates(["adma", "adma:a=0.1..0.2"])) == 2


def test_the_learning_rate_is_a_range_around_the_usual_one_or_what_is_written() -> None:
    around, usual = parse_lr(None, 1e-3)
    assert around == Range(1e-4, 1e-2, log=True)
    assert usual == 1e-3
    assert parse_lr("1e-5..1", 1e-3) == (Range(1e-5, 1.0, log=True), 1e-3)
    assert parse_lr("0.05", 1e-3) == (None, 0.05)
    far = Space(parse_template("cce"), *parse_lr("0.1..1", 1e-3))
    assert far.defaults == {"lr": 0.316}
    fixed = Space(parse_template("cce"), *parse_lr("0.05", 1e-3))
    assert fixed.ranges == {}
    assert fixed.lr_of({}) == 0.05


@pytest.mark.parametrize("text", ["0", "-1..2", "0..1", "2..1", "a", "1..", "nan", "1e-3..1e-3"])
def test_a_learning_rate_that_is_none_is_told(text: str) -> None:
    with pytest.raises(BenchError, match="--lr"):
        parse_lr(text, 1e-3)


RANGES = [Range(0.01, 0.5, log=True), Range(-1.0, 8.0), Range(1, 9, whole=True), Range(1e-4, 1e-2, log=True)]


@given(st.sampled_from(RANGES), st.floats(0, 1))
def test_a_place_in_a_range_and_its_value_are_inverse_and_tidy_values_stay_inside(r: Range, unit: float) -> None:
    value = at(r, unit)
    assert r.low <= value <= r.high
    if not r.whole:
        assert place(r, value) == pytest.approx(unit, abs=1e-9)
    assert r.low <= tidy(r, value) <= r.high
    assert tidy(r, value) == pytest.approx(value, rel=6e-3, abs=1e-12)
