"""Specs such as `adma:a=0.26,base=2`: exact both ways, and every mistake named."""

import math
import warnings
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import adma
from adma import classic, family, spec
from adma.family import Loss, Member
from adma.spec import canonical, format_spec, known, parse, register

pytestmark = pytest.mark.filterwarnings("ignore:Adma with a = .* is not convex")

KEYS = ["a", "base", "normalize", "q", "gamma", "epsilon", "t1", "t2"]
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
LOSSES = st.one_of(
    st.just(family.CrossEntropy()),
    st.just(family.MeanAbsoluteError()),
    st.just(classic.MeanSquaredError()),
    st.just(classic.SquaredHinge()),
    st.builds(family.Adma, positive, st.floats(min_value=1, exclude_min=True, allow_infinity=False), st.booleans()),
    st.builds(family.GeneralizedCrossEntropy, st.floats(0, 1, exclude_min=True)),
    st.builds(family.Focal, st.floats(min_value=0, allow_infinity=False)),
    st.builds(family.Poly1, st.floats(min_value=-1, allow_infinity=False)),
    st.builds(classic.BiTempered, st.floats(0, 1), st.floats(0, 5, exclude_min=True)),
)


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))
    monkeypatch.setattr(spec, "_ALIASES", dict(spec._ALIASES))


# -- both ways ----------------------------------------------------------------------------------------------


@settings(max_examples=500)
@given(loss=LOSSES)
def test_a_loss_comes_back_from_its_spec_to_the_last_bit(loss):
    text = format_spec(loss)
    back = parse(text)
    assert type(back) is type(loss)
    assert back == loss
    assert format_spec(back) == canonical(text) == text


@given(loss=LOSSES)
def test_one_loss_has_one_text_however_it_is_written(loss):
    every = ",".join(f" {f.name} = {str(getattr(loss, f.name)).lower()} " for f in reversed(fields(loss)))
    assert canonical(f" {loss.name} : {every}" if every else f" {loss.name} ") == format_spec(loss)


def test_all_built_in_losses_are_known_and_have_a_default():
    names = ["cce", "adma", "gce", "mae", "focal", "poly1", "taylor", "agce", "aue", "aexp"]
    names += ["mse", "squared_hinge", "bi_tempered", "smoothed_cce", "sce", "nce_rce", "semantic", "l_softmax"]
    assert list(known())[: len(names)] == names
    for name in names:
        assert parse(name) == known()[name]()
        assert parse(name).name == name
    known().clear()  # a copy
    assert known()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("cce", "cce"),
        ("adma", "adma:a=0.26"),
        ("adma:a=0.30", "adma:a=0.3"),
        ("adma:base=2", "adma:a=0.26,base=2.0"),
        ("adma:normalize=true,base=2,a=.5", "adma:a=0.5,base=2.0,normalize=true"),
        ("adma:a=0.3,normalize=False", "adma:a=0.3"),
        ("adma:a=3e-1,base=e", "adma:a=0.3"),
        ("focal", "focal:gamma=2.0"),
        ("focal:gamma=0", "focal:gamma=0.0"),
        ("focal:gamma=-0.0", "focal:gamma=0.0"),
        ("poly1:epsilon=-0", "poly1:epsilon=0.0"),
        ("poly1:epsilon=-1", "poly1:epsilon=-1.0"),
        ("gce", "gce:q=0.7"),
        ("bi_tempered:t2=1.2", "bi_tempered:t1=0.8"),
        ("bi_tempered:t2=1.5", "bi_tempered:t1=0.8,t2=1.5"),
        # aliases
        ("ce", "cce"),
        ("cross_entropy", "cce"),
        ("generalized_cross_entropy:q=0.5", "gce:q=0.5"),
        ("mean_absolute_error", "mae"),
        ("mean_squared_error", "mse"),
        ("brier", "mse"),
        ("squared-hinge", "squared_hinge"),
        ("bitempered", "bi_tempered:t1=0.8"),
    ],
)
def test_canonical(text, normal):
    assert canonical(text) == normal
    assert canonical(normal) == normal


def test_e_and_pi_are_numbers():
    assert parse("adma:base=e").base == math.e
    assert parse("adma:base=pi").base == math.pi
    assert parse("focal:gamma=pi") == family.Focal(math.pi)


@pytest.mark.parametrize(
    "text", [" adma:a=0.3,base=2", "adma : a = 0.3 , base = 2 ", "\tadma:\na=0.3,\nbase=2\n", "adma:base=2,a=0.3"]
)
def test_spaces_and_order_do_not_count(text):
    assert parse(text) == family.Adma(0.3, 2.0)


def test_the_package_offers_parse_and_register():
    assert adma.parse is parse
    assert adma.register is register


def test_past_the_convex_range_a_spec_warns_as_the_loss_does():
    with pytest.warns(UserWarning, match="not convex in p"):
        parse("adma:a=0.9")


# -- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "loss '' is not known; known: cce, adma, gce, "),
        ("   ", "loss '' is not known"),
        (":a=0.3", "loss '' is not known"),
        ("adam", "loss 'adam' is not known, did you mean 'adma'?; known: cce, adma"),
        ("Adma:a=0.3", "loss 'Adma' is not known, did you mean 'adma'?"),
        ("focl", "did you mean 'focal'?"),
        ("cross-entropy", "did you mean 'cross_entropy'?"),
        ("squared hinge", "did you mean 'squared"),
        ("adma(a=0.3)", "loss 'adma(a=0.3)' is not known"),
        ("zzzzzz", "loss 'zzzzzz' is not known; known:"),
        ("adma:", "'adma:': nothing stands behind the colon; write 'adma', or 'adma:a=0.26'"),
        ("adma: ", "nothing stands behind the colon"),
        ("adma:0.3", "'0.3' is not of the form key=value; write 'adma:a=0.26'"),
        ("adma:a", "'a' is not of the form key=value"),
        ("adma:a=", "'a=' is not of the form key=value"),
        ("adma:=0.3", "'=0.3' is not of the form key=value"),
        ("adma:a=0.3,", "'' is not of the form key=value"),
        ("adma:a=0.3,,base=2", "'' is not of the form key=value"),
        ("adma:a=0.3;base=2", "a must be a number, got '0.3;base=2'"),
        ("adma:a=0.3 base=2", "a must be a number, got '0.3 base=2'"),
        ("adma:a=0.3:base=2", "a must be a number, got '0.3:base=2'"),
        ("adma:a==0.3", "a must be a number, got '=0.3'"),
        ("adma:a=0.3,a=0.4", "a is given twice"),
        ("adma:alpha=0.3", "adma has no parameter 'alpha'"),
        ("adma:alpha=0.3", "it has a, base, normalize"),
        ("adma:normalise=true", "adma has no parameter 'normalise', did you mean 'normalize'?"),
        ("focal:gama=2", "focal has no parameter 'gama', did you mean 'gamma'?; it has gamma"),
        ("mae:a=1", "mae has no parameter 'a'; it has none"),
        ("cce:", "'cce:': nothing stands behind the colon; write 'cce', or 'cce'"),
        ("adma:a=big", "a must be a number, got 'big'"),
        ("adma:a=0,3", "'3' is not of the form key=value"),
        ("adma:a=1_0", "a must be a number, got '1_0'"),
        ("adma:a=0x1", "a must be a number, got '0x1'"),
        ("adma:a=1/2", "a must be a number, got '1/2'"),
        ("adma:a=true", "a must be a number, got 'true'"),
        ("adma:a='0.3'", "a must be a number"),
        ("adma:normalize=1", "normalize must be true or false, got '1'"),
        ("adma:normalize=yes", "normalize must be true or false, got 'yes'"),
        ("adma:a=0", "at a = 0 the loss b - b^(p^0) is zero everywhere"),
        ("adma:a=-0.0", "zero everywhere"),
        ("adma:a=-1", "a must be in (0, inf), got -1.0"),
        ("adma:a=nan", "a must be in (0, inf), got nan"),
        ("adma:a=inf", "a must be in (0, inf), got inf"),
        ("adma:a=1e999", "a must be in (0, inf), got inf"),
        ("adma:base=1", "base must be in (1, inf), got 1.0"),
        ("gce:q=0", "q -> 0 is cross-entropy (cce)"),
        ("gce:q=1.1", "q must be in (0, 1], got 1.1"),
        ("focal:gamma=-1", "gamma must be in [0, inf), got -1.0"),
        ("poly1:epsilon=-2", "below -1 the slope 1 + epsilon p would be negative"),
        ("bi_tempered:t1=2", "t1 must be in [0, 1], got 2.0"),
        ("bi_tempered:t2=0", "t2 must be in (0, 5], got 0.0"),
    ],
)
def test_a_malformed_spec_is_refused_with_its_own_words(text, words):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert words in str(caught.value)
    if "is not known" not in words:
        assert repr(text) in str(caught.value)  # which of many specs it was
    for function in (canonical, adma.make_loss):
        with pytest.raises(ValueError):
            function(text)


@pytest.mark.parametrize("thing", [None, 3, b"adma", ["adma"], family.Adma, family.Adma()])
def test_what_is_no_text_is_refused(thing):
    with pytest.raises(TypeError, match=r"a loss is written as a string such as 'adma:a=0.26', got"):
        parse(thing)


def only_value_error(text):
    try:
        loss = parse(text)
    except ValueError:
        return
    assert parse(format_spec(loss)) == loss


@settings(max_examples=300)
@given(text=st.text())
def test_any_text_is_read_or_refused(text):
    only_value_error(text)


@settings(max_examples=500)
@given(
    name=st.sampled_from([*known(), *spec._ALIASES]),
    tail=st.one_of(
        st.text(alphabet="abeqt1280.=,:-+_ inftrulsgmpokz", max_size=25),
        st.lists(
            st.tuples(st.sampled_from(KEYS), st.text(max_size=8)),
            max_size=3,
        ).map(lambda pairs: ",".join(f"{k}={v}" for k, v in pairs)),
    ),
)
def test_anything_behind_a_known_name_is_read_or_refused(name, tail):
    only_value_error(f"{name}:{tail}")


@given(text=st.text(min_size=1))
def test_an_unknown_key_lists_the_known_ones(text):
    key = text.strip()
    assume(key and not set(key) & set(",=") and key not in ("a", "base", "normalize"))
    with pytest.raises(ValueError, match="it has a, base, normalize"):
        parse(f"adma:{key}=1")


# -- losses of one's own ------------------------------------------------------------------------------------


def half(name="half", aliases=(), **body):
    """A member class under any name."""

    class Half(Member):
        q: float = 0.5

        def psi(self, t, xp=numpy):
            return -0.5 * xp.expm1(-self.q * t) / self.q

        def slope(self, t, xp=numpy):
            return 0.5 * xp.exp(-self.q * t)

    Half.name, Half.aliases = name, aliases
    for key, value in body.items():
        setattr(Half, key, value)
    return dataclass(frozen=True)(Half)


@pytest.mark.usefixtures("own_registry")
def test_a_registered_loss_is_known_everywhere():
    cls = register(half("half", ("h", "half-loss")))
    assert known()["half"] is cls
    assert parse("half:q=0.3") == parse("h:q=0.3") == parse("half-loss:q=0.3") == cls(0.3)
    assert canonical("h") == "half:q=0.5"
    assert type(adma.make_loss("half:q=0.3")) is adma.FlexibleLoss
    with pytest.raises(ValueError, match="did you mean 'half'"):
        parse("hlaf")


def test_registering_is_undone_between_tests():
    assert "half" not in known()


@pytest.mark.usefixtures("own_registry")
def test_parameters_of_every_kind():
    @register
    @dataclass(frozen=True)
    class Kinds(Member):
        need: float
        count: int = 3
        flag: bool = False
        mode: str = "plain"
        name: ClassVar[str] = "kinds"

    full = Kinds(0.1, -7, True, "other")
    assert format_spec(full) == "kinds:need=0.1,count=-7,flag=true,mode=other"
    assert parse(format_spec(full)) == full
    assert parse("kinds:need=2") == Kinds(2.0)
    assert format_spec(Kinds(numpy.float64(0.5))) == "kinds:need=0.5"  # no check of its own: stays NumPy's
    for text, words in [
        ("kinds", "kinds needs need; write 'kinds:need=...'"),
        ("kinds:count=1", "kinds needs need"),
        ("kinds:need=1,count=1.5", "count must be a whole number, got '1.5'"),
        ("kinds:need=1,count=" + "9" * 5000, "count must be a whole number"),
        ("kinds:need=1,flag=0", "flag must be true or false"),
    ]:
        with pytest.raises(ValueError) as caught:
            parse(text)
        assert words in str(caught.value)


class NoDataclass:
    name = "half"


@dataclass
class Thawed:
    name: ClassVar[str] = "half"


class Undecorated(Member):
    q: float = 0.5
    name = "half"


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("thing", [NoDataclass, Thawed, None, "half", family.Adma(), 3])
def test_register_refuses_what_is_no_loss_class(thing):
    with pytest.raises(TypeError, match=r"register takes a frozen dataclass derived from adma\.family\.Member, got"):
        register(thing)
    assert "half" not in known()


@pytest.mark.usefixtures("own_registry")
def test_register_refuses_a_forgotten_dataclass_decorator():
    """Its parameter q would silently be none."""
    with pytest.raises(TypeError, match=r"Undecorated must be a frozen dataclass: put @dataclass\(frozen=True\) below"):
        register(Undecorated)


@pytest.mark.usefixtures("own_registry")
def test_register_refuses_a_dataclass_that_is_not_frozen():
    cls = half()
    cls.__dataclass_params__.frozen = False  # Python itself refuses to derive one from a frozen base
    with pytest.raises(TypeError, match="must be a frozen dataclass: a spec stands for one value"):
        register(cls)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("name", ["", " half", "ha lf", "half:", "a,b", "a=b", "1half", None, 3, "half()"])
def test_register_refuses_names_that_no_spec_can_say(name):
    with pytest.raises(ValueError, match=r"Half\.name must be a word such as 'adma', got"):
        register(half(name))
    assert list(known()) == list(spec._REGISTRY)


@pytest.mark.usefixtures("own_registry")
def test_register_refuses_the_abstract_ones():
    for cls in (Loss, Member, classic.Classic):
        with pytest.raises(ValueError, match=f"{cls.__name__}.name must be a word such as 'adma', got None"):
            register(cls)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("aliases", ["h", ("a:b",), ("",), ["h"], None, (3,)])
def test_register_refuses_aliases_that_no_spec_can_say(aliases):
    with pytest.raises(ValueError, match=r"Half\.aliases must be a tuple of words such as \('ce',\), got"):
        register(half(aliases=aliases))
    assert "half" not in known()


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("name", "aliases", "taken", "holder"),
    [
        ("adma", (), "adma", "Adma"),
        ("ce", (), "ce", "CrossEntropy"),
        ("half", ("focal",), "focal", "Focal"),
        ("half", ("h", "brier"), "brier", "MeanSquaredError"),
    ],
)
def test_register_refuses_a_taken_name(name, aliases, taken, holder):
    registry, aliases_before = dict(spec._REGISTRY), dict(spec._ALIASES)
    with pytest.raises(ValueError, match=f"the name '{taken}' of Half belongs to {holder}"):
        register(half(name, aliases))
    assert registry == spec._REGISTRY  # nothing half done
    assert aliases_before == spec._ALIASES


@pytest.mark.usefixtures("own_registry")
def test_the_same_class_may_come_again_and_another_may_not():
    first = register(half())
    assert register(first) is first
    again = register(half())  # its module was loaded again
    assert known()["half"] is again

    @dataclass(frozen=True)
    class Other(Member):
        name: ClassVar[str] = "half"

    with pytest.raises(ValueError, match="the name 'half' of Other belongs to Half"):
        register(Other)
    assert known()["half"] is again


def test_a_refusal_keeps_its_cause():
    with pytest.raises(ValueError) as caught:
        parse("adma:a=0")
    assert isinstance(caught.value.__cause__, ValueError)


def test_reading_warns_of_nothing_else():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in known():
            parse(name)
