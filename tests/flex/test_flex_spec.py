"""`adma:a=learn` and `adma:a=linear/0.01/0.4`: read, written, refused."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adma
from adma import family, spec
from adma.family import Member, Range
from adma.flex import Constant, Cosine, FlexibleSpec, Geometric, Linear, Warmup
from adma.flex.spec import canonical, default_start, parse

pytestmark = pytest.mark.filterwarnings("ignore:.*(not convex in p|no sample weighs more):UserWarning")


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))
    monkeypatch.setattr(spec, "_ALIASES", dict(spec._ALIASES))


# -- both ways ----------------------------------------------------------------------------------------------------


def changing(name: str, low: float, high: float):
    """Nothing, a start for learning, or a schedule, within the range of a parameter."""
    value = st.floats(low, high)
    several = st.lists(value, min_size=2, max_size=4)
    kinds = [
        st.builds(Linear, several),
        st.builds(Cosine, several),
        st.builds(Warmup, value, value, st.floats(0.01, 1)),
    ]
    if low > 0:
        kinds.append(st.builds(Geometric, several))
    return st.one_of(st.none(), value, *kinds)


PARAMETERS = [(cls, name, r) for cls in spec.known().values() for name, r in cls.space.items() if not r.whole]


@st.composite
def flexible(draw):
    cls = draw(st.sampled_from([c for c in spec.known().values() if c.space]))
    learned, scheduled = {}, {}
    for name, span in ((name, span) for of, name, span in PARAMETERS if of is cls):
        what = draw(changing(name, span.low, span.high))
        if isinstance(what, float) and issubclass(cls, Member):
            learned[name] = what
        elif what is not None and not isinstance(what, float):
            scheduled[name] = what
    loss = cls(normalize=draw(st.booleans())) if cls is family.Adma else cls()
    if cls is family.Adma and "a" in learned:  # which starts where the loss is convex
        base = scheduled["base"](0.0) if "base" in scheduled else learned.get("base", loss.base)
        learned["a"] = min(learned["a"], 1 / (1 + math.log(base)))
    return FlexibleSpec(loss, learned, scheduled)


@settings(max_examples=100)
@given(what=flexible())
def test_a_flexible_spec_comes_back_from_its_text_to_the_last_bit(what):
    text = str(what)
    assert parse(text) == what
    assert canonical(text) == text
    assert not set(text) & set(" '\"$&|;<>(){}*?!`\\~#")  # safe in a shell, unquoted


@settings(max_examples=50)
@given(what=flexible())
def test_the_loss_stands_at_its_start_values(what):
    for name, start in what.learned.items():
        assert getattr(what.loss, name) == start
    for name, schedule in what.scheduled.items():
        assert getattr(what.loss, name) == schedule(0.0)


@pytest.mark.parametrize("text", [*spec.known(), "adma:base=2", "adma:a=0.3,normalize=true", "ce", "focal:gamma=0.5"])
def test_a_plain_spec_is_as_before_and_changes_nothing(text):
    assert canonical(text) == spec.canonical(text)
    assert parse(text) == FlexibleSpec(spec.parse(text))
    assert parse(text).fixed


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("adma:a=learn", "adma:a=learn"),
        ("adma:a=learn/0.26", "adma:a=learn"),  # from the default
        ("adma: a = learn / 0.1 ", "adma:a=learn/0.1"),
        ("adma:normalize=true,base=learn,a=learn/.3", "adma:a=learn/0.3,base=learn,normalize=true"),
        ("adma:base=learn/2", "adma:a=0.26,base=learn/2.0"),
        ("gce:q=learn", "gce:q=learn"),
        ("adma:a=linear/.01/0.4/1e-2,normalize=true", "adma:a=linear/0.01/0.4/0.01,normalize=true"),
        ("adma:base=linear/2/e", f"adma:a=0.26,base=linear/2.0/{math.e!r}"),
        ("adma:a=learn,base=cosine/2/3", "adma:a=learn,base=cosine/2.0/3.0"),
        ("bi_tempered:t2=linear/1/1.4", "bi_tempered:t1=0.8,t2=linear/1.0/1.4"),
        ("poly1:epsilon=linear/-1/2", "poly1:epsilon=linear/-1.0/2.0"),
        ("adma:a=constant/0.3", "adma:a=0.3"),  # nothing changes: a plain spec
        ("adma:a=warmup/0.1/0.3/0.2", "adma:a=warmup/0.1/0.3/0.2"),
    ],
)
def test_canonical(text, normal):
    assert canonical(text) == normal
    assert canonical(normal) == normal


def test_what_a_spec_says():
    what = parse("adma:a=linear/0.01/0.4,base=learn/3,normalize=true")
    assert what.loss == family.Adma(0.01, 3.0, True)
    assert what.learned == {"base": 3.0}
    assert what.scheduled == {"a": Linear((0.01, 0.4))}
    assert not what.fixed


def test_a_constant_schedule_is_the_losss_own_value():
    assert FlexibleSpec(family.Adma(), {}, {"a": Constant(0.4)}) == FlexibleSpec(family.Adma(0.4))


@pytest.mark.usefixtures("own_registry")
def test_where_learning_starts_if_nothing_is_said():
    @spec.register
    @dataclass(frozen=True)
    class Three(Member):
        need: float
        off: float = 9.0
        own: float = 0.3
        count: float = 2.0
        name: ClassVar[str] = "three"
        space: ClassVar[dict[str, Range]] = {
            "need": Range(0.01, 1.0, log=True), "off": Range(0.0, 1.0), "own": Range(0.0, 1.0),
            "count": Range(1, 4, whole=True),
        }  # fmt: skip

    assert default_start(Three, "need") == pytest.approx(0.1)  # the middle of a logarithmic range
    assert default_start(Three, "off") == 0.5  # its default lies outside of what is learned
    assert default_start(Three, "own") == 0.3
    assert parse("three:need=learn,own=learn").loss == Three(0.1)
    with pytest.raises(ValueError, match=r"three cannot learn count: .*it has one for need, off, own"):
        parse("three:need=1,count=learn")
    with pytest.raises(ValueError, match="three needs need; write"):
        parse("three:own=learn")


# -- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("adam:a=learn", "loss 'adam' is not known, did you mean 'adma'?"),
        ("adma:alpha=learn", "adma has no parameter 'alpha'"),
        ("adma:a=learn,a=learn", "a is given twice"),
        ("adma:a=lern", "a must be a number, got 'lern', did you mean 'learn'?"),
        ("adma:a=linear", "a: 'linear': linear takes at least two numbers"),
        ("adma:a=big", "a must be a number, got 'big'; to change in training, learn or a schedule (constant, linear"),
        ("adma:a=1/2", "the schedule '1' is not known"),
        ("adma:a=lineer/0.1/0.2", "the schedule 'lineer' is not known, did you mean 'linear'?"),
        ("adma:a=linear/0.1", "linear takes at least two numbers, such as 'linear/0.01/0.4', got 1"),
        ("adma:a=linear/0.1,0.2", "'0.2' is not of the form key=value"),
        ("adma:a=warmup/0.1/0.2/0", "fraction must be in (0, 1], got 0.0"),
        ("adma:a=linear/0.3/0", "at 1 of the training: a must be in (0, inf), got 0.0; at a = 0 the loss"),
        ("adma:a=linear/0/0.3", "a must be in (0, inf), got 0.0; at a = 0 the loss"),
        ("gce:q=linear/0.5/1.5", "q must be in (0, 1], got 1.5"),
        ("adma:a=learn/", "the start of a must be a number, got ''"),
        ("adma:a=learn/x", "the start of a must be a number, got 'x'"),
        ("adma:a=learn/0.1/0.2", "the start of a must be a number, got '0.1/0.2'"),
        ("adma:a=learn/0.7", "the start of a must be in [0.01, 0.5], got 0.7; it is learned within that"),
        ("adma:a=learn/nan", "a must be in (0, inf), got nan"),
        ("adma:a=learn,base=20", "the start of a must be at most 0.2503 where base = 20, got 0.26; a is learned while"),
        ("adma:a=learn/0.45,base=learn/5", "the start of a must be at most 0.3832 where base = 5, got 0.45"),
        ("adma:a=0.6,base=learn", "the start of base must be at most 1.948 where a = 0.6, got 2.71828"),
        ("adma:a=learn/0", "at a = 0 the loss b - b^(p^0) is zero everywhere"),
        ("adma:normalize=learn", "normalize must be true or false, got 'learn'"),
        ("adma:normalize=linear/0/1", "normalize must be true or false"),
        ("bi_tempered:t1=learn", "bi_tempered cannot learn t1: only losses of the family can"),
        ("mse:a=learn", "mse has no parameter 'a'; it has none"),
    ],
)
def test_a_malformed_spec_is_refused_with_its_own_words(text, words):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert words in str(caught.value)
    if "is not known" not in words:
        assert repr(text) in str(caught.value)


@pytest.mark.usefixtures("own_registry")
def test_a_member_without_a_range_can_be_scheduled_but_not_learned():
    @spec.register
    @dataclass(frozen=True)
    class Half(Member):
        q: float = 0.5
        mode: str = "plain"
        name: ClassVar[str] = "half"

    with pytest.raises(ValueError, match="half cannot learn q: it has no range to learn it in; it has none for any"):
        parse("half:q=learn")
    assert parse("half:q=linear/0.1/0.2").scheduled == {"q": Linear((0.1, 0.2))}
    assert parse("half:mode=learn").loss == Half(mode="learn")  # a text is a text


def test_what_cannot_stand_together_is_refused():
    with pytest.raises(ValueError, match="a cannot be both learned and scheduled"):
        FlexibleSpec(family.Adma(), {"a": 0.1}, {"a": Linear((0.1, 0.2))})
    with pytest.raises(TypeError, match="a loss is written as a string"):
        parse(None)  # type: ignore[arg-type]


@settings(max_examples=300)
@given(
    name=st.sampled_from(list(spec.known())),
    tail=st.text(alphabet="abeqtlrn1280.=,:-+_/ ifsgmpokzw", max_size=25),
    key=st.sampled_from(["a", "base", "q", "gamma", "epsilon", "t1", "t2", "normalize"]),
    kind=st.sampled_from(["", "learn", "learn/", "linear/", "cosine/0.1/", "warmup/0.1/0.2/", "geometric/1"]),
)
def test_anything_behind_a_known_name_is_read_or_refused(name, tail, key, kind):
    try:
        what = parse(f"{name}:{key}={kind}{tail}")
    except ValueError:
        return
    assert parse(str(what)) == what


# -- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("text", "count"),
    [("adma:a=linear/0.1/0.9", 1), ("adma:a=linear/0.8/0.9", 1), ("adma:a=linear/0.01/0.4", 1), ("adma:a=0.9", 1),
     ("adma:a=learn", 0), ("adma:a=linear/0.01/0.4,normalize=true", 0)],
)  # fmt: skip
def test_what_the_loss_warns_of_is_said_once(text, count):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        parse(text)
    assert len(heard) == count


def test_every_parameter_with_a_range_can_be_learned_or_scheduled():
    assert len(PARAMETERS) >= 7
    for cls, name, span in PARAMETERS:
        assert name in [f.name for f in fields(cls)]
        schedule = Linear((span.low, span.high))
        assert FlexibleSpec(cls(), {}, {name: schedule}).scheduled == {name: schedule}
        if issubclass(cls, Member):
            assert FlexibleSpec(cls(), {name: span.low}).learned == {name: span.low}


def test_the_start_makes_a_loss_module():
    loss_fn = adma.make_loss(parse("adma:a=linear/0.05/0.4,normalize=true").loss)
    assert (type(loss_fn), loss_fn.a) == (adma.AdmaLoss, 0.05)
