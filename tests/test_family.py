"""The losses as values: what each parameter takes and refuses, and what each loss claims of itself."""

import ast
import decimal
import fractions
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

import adma
import exact
from adma import _check, asymmetric, classic, family, spec, taylor

INF, NAN, E = math.inf, math.nan, math.e


def quiet(cls, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # past the convex range on purpose
        return cls(*args, **kwargs)


# -- parameters ---------------------------------------------------------------------------------------------

# class, parameter, interval in words, values inside, values outside
REALS = [
    (family.Adma, "a", "(0, inf)", [5e-324, 1e-3, 0.5, 1.0, 1e300], [0, 0.0, -0.0, -1e-300, -1]),
    (family.Adma, "base", "(1, inf)", [math.nextafter(1, 2), 2, E, 1e300], [1, 1.0, 0.5, 0, -2]),
    (family.GeneralizedCrossEntropy, "q", "(0, 1]", [5e-324, 0.7, 1, 1.0], [0, math.nextafter(1, 2), 2, -0.1]),
    (family.Focal, "gamma", "[0, inf)", [0, 0.0, 5e-324, 2, 1e3], [-5e-324, -1]),
    (family.Poly1, "epsilon", "[-1, inf)", [-1, -1.0, 0, 1e3], [math.nextafter(-1, -2), -2]),
    (asymmetric.AsymmetricGeneralizedCrossEntropy, "a", "(0, inf)", [5e-324, 0.1, 10, 1e150], [0, -1]),
    (asymmetric.AsymmetricGeneralizedCrossEntropy, "q", "(0, inf)", [5e-324, 0.5, 1, 100], [0, -0.1]),
    (asymmetric.AsymmetricUnhinged, "a", "(1, inf)", [math.nextafter(1, 2), 1.5, 1e300], [1, 0.5, -2]),
    (asymmetric.AsymmetricUnhinged, "q", "(0, inf)", [5e-324, 0.5, 1, 100], [0, -0.1]),
    (asymmetric.AsymmetricExponential, "a", "(0, inf)", [5e-324, 0.1, 10, 1e300], [0, -1]),
    (classic.SmoothedCrossEntropy, "epsilon", "[0, 1]", [0, 0.1, 1], [-1e-9, 1.1]),
    (classic.SymmetricCrossEntropy, "alpha", "[0, inf)", [0, 0.1, 1e300], [-1e-300, -1]),
    (classic.SymmetricCrossEntropy, "beta", "[0, inf)", [0, 0.1, 1e300], [-1e-300, -1]),
    (classic.ActivePassive, "clip", "(-inf, 0]", [0, -4, -1e300], [5e-324, 1]),
    (classic.BiTempered, "t1", "[0, 1]", [0, 0.5, 1], [-1e-9, math.nextafter(1, 2)]),
    (classic.BiTempered, "t2", "(0, 5]", [5e-324, 1, 5], [0, -1, 5.1]),
]
IDS = [f"{cls.name}.{key}" for cls, key, *_ in REALS]


@pytest.mark.parametrize(("cls", "key", "interval", "inside", "outside"), REALS, ids=IDS)
def test_a_parameter_takes_its_interval_and_nothing_else(cls, key, interval, inside, outside):
    for value in inside:
        kept = getattr(quiet(cls, **{key: value}), key)
        assert type(kept) is float
        assert kept == value
    for value in [*outside, NAN, INF, -INF, 10**400, np.float64("nan"), np.float32("inf")]:
        with pytest.raises(ValueError) as caught:
            cls(**{key: value})
        words = f"{key} must be in {interval}, got {value!r}"
        assert str(caught.value) == words or str(caught.value).startswith(f"{words}; ")


@pytest.mark.parametrize(("cls", "key", "interval"), [row[:3] for row in REALS], ids=IDS)
@pytest.mark.parametrize(
    "value",
    [None, "0.3", b"1", True, False, np.bool_(True), 1j, [0.3], (0.3,), np.array(0.3), np.array([0.3]), object,
     decimal.Decimal("0.3")],
    ids=repr,
)  # fmt: skip
def test_a_parameter_refuses_what_is_no_real_number(cls, key, interval, value):
    with pytest.raises(TypeError) as caught:
        cls(**{key: value})
    assert f"{key} must be a real number in {interval}, got {value!r} ({type(value).__name__})" in str(caught.value)


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.float32(0.5), np.float16(0.5), fractions.Fraction(1, 2), np.float64(0.5).item()]
)
@pytest.mark.parametrize(("cls", "key"), [row[:2] for row in REALS if "1, inf" not in row[2] and row[1] != "clip"])
def test_any_real_number_is_kept_as_a_float(cls, key, value):
    kept = getattr(cls(**{key: value}), key)
    assert type(kept) is float
    assert kept == 0.5
    assert cls(**{key: value}) == cls(**{key: 0.5})
    assert hash(cls(**{key: value})) == hash(cls(**{key: 0.5}))


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(1), 1.0])
def test_whole_numbers_are_taken(value):
    for cls, key in ((family.GeneralizedCrossEntropy, "q"), (family.Focal, "gamma"), (family.Poly1, "epsilon")):
        assert type(getattr(cls(**{key: value}), key)) is float


@pytest.mark.parametrize("value", [1, 0, None, "true", "false", np.bool_(True), 1.0])
def test_normalize_takes_a_bool_only(value):
    with pytest.raises(TypeError, match="normalize must be True or False, got "):
        family.Adma(normalize=value)


def test_negative_zero_is_zero():
    assert math.copysign(1, family.Focal(-0.0).gamma) == 1
    assert math.copysign(1, family.Poly1(-0.0).epsilon) == 1


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: family.Adma(a=0), "at a = 0 the loss b - b^(p^0) is zero everywhere, so nothing is learned"),
        (lambda: family.GeneralizedCrossEntropy(0), "q -> 0 is cross-entropy (cce)"),
        (lambda: family.Poly1(-2), "below -1 the slope 1 + epsilon p would be negative"),
    ],
)
def test_a_refusal_says_why(make, hint):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).endswith(hint)


def test_one_of_lists_the_known_and_the_nearest():
    assert _check.one_of("reduction", "mean", ("none", "mean", "sum")) == "mean"
    with pytest.raises(ValueError, match=r"reduction 'maen' is not known, did you mean 'mean'\?; known: none, mean,"):
        _check.one_of("reduction", "maen", ("none", "mean", "sum"))
    with pytest.raises(ValueError, match="reduction None is not known"):
        _check.one_of("reduction", None, ("mean",))


# -- every loss that is registered ----------------------------------------------------------------------------


BUILT_IN = {key: cls for key, cls in spec.known().items() if cls.__module__.startswith("adma.")}


def test_every_registered_loss_goes_through_the_suites():
    tested = {type(m) for m in exact.EACH} | {type(spec.parse(text)) for text in exact.CLASSICS}
    alone = {classic.LargeMarginSoftmax}  # no function of the logits: tests/torch/test_large_margin.py
    assert set(BUILT_IN.values()) == tested | alone
    assert {type(m) for m in exact.EACH} == {type(m) for m in exact.MEMBERS}


@pytest.mark.parametrize("key", BUILT_IN)
def test_what_is_searched_is_accepted(key):
    cls = BUILT_IN[key]
    default = cls()
    assert set(cls.space) <= set(default.parameters())
    for name, found in cls.space.items():
        assert found.low < found.high
        assert not found.log or found.low > 0
        kind = int if found.whole else float
        for value in (
            found.low,
            math.sqrt(found.low * found.high) if found.log else (found.low + found.high) / 2,
            found.high,
        ):
            quiet(cls, **{name: kind(value)})
        assert found.low <= getattr(default, name) <= found.high
    corners = [quiet(cls, **{n: (int if r.whole else float)(v(r)) for n, r in cls.space.items()})
               for v in (lambda r: r.low, lambda r: r.high)]  # fmt: skip
    for loss in corners:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # past the convex range, which the ranges together allow
            assert spec.parse(spec.format_spec(loss)) == loss


@pytest.mark.parametrize("cls", [classic.SymmetricCrossEntropy, classic.ActivePassive])
@pytest.mark.parametrize("shape", [{"beta": 0}, {"clip": 0}, {"beta": 0, "clip": 0}])
def test_a_loss_that_is_zero_everywhere_is_refused(cls, shape):
    cls(**shape)
    with pytest.raises(ValueError, match=r"alpha must be above 0 .* the loss is zero everywhere"):
        cls(alpha=0, **shape)


# -- past the convex range ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [1.5, 2.0, E, 10.0])
def test_past_the_convex_limit_there_is_one_warning_and_at_it_none(base):
    limit = family.Adma(base=base, a=0.1).convex_limit
    assert limit == 1 / (1 + math.log(base))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert family.Adma(limit, base).convex
    past = math.nextafter(limit, 2)
    with pytest.warns(UserWarning, match="not convex in p") as caught:
        member = family.Adma(past, base)
    assert not member.convex
    assert [str(w.message) for w in caught] == [
        f"Adma with a = {past} is not convex in p: a is past 1/(1 + ln base) = {limit}. "
        "Training may stall on hard samples, and posteriors cannot be recovered."
    ]
    assert caught[0].filename == __file__  # points at the caller's line


def test_the_default_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in (family.Adma, family.GeneralizedCrossEntropy, family.Focal, family.Poly1, classic.BiTempered):
            cls()


# -- what each claims ---------------------------------------------------------------------------------------

LIMITS = [
    # loss, supremum, slope at zero, convex, whether posteriors can be recovered
    (family.CrossEntropy(), INF, 1, True, True),
    (family.MeanAbsoluteError(), 2, 2, True, False),
    (family.Adma(0.26), E - 1, 0.26 * E, True, True),
    (family.Adma(0.5), E - 1, 0.5 * E, True, True),
    (quiet(family.Adma, 0.6), E - 1, 0.6 * E, False, False),
    (family.Adma(0.3, 2.0), 1, 0.3 * math.log(2) * 2, True, True),
    (family.Adma(0.3, 2.0, True), 1 / (0.3 * math.log(2) * 2), 1, True, True),
    (quiet(family.Adma, 1.0, 10.0, True), 0.9 / math.log(10), 1, False, False),
    (family.GeneralizedCrossEntropy(0.7), 1 / 0.7, 1, True, True),
    (family.GeneralizedCrossEntropy(1.0), 1, 1, True, False),
    (family.Focal(0), INF, 1, True, True),
    (family.Focal(0.5), INF, 0, True, True),
    (family.Focal(2), INF, 0, True, True),
    (family.Poly1(-1), INF, 0, True, True),
    (family.Poly1(0), INF, 1, True, True),
    (family.Poly1(2), INF, 3, True, True),
    (taylor.TaylorCrossEntropy(1), 1, 1, True, False),
    (taylor.TaylorCrossEntropy(4), 1 + 1 / 2 + 1 / 3 + 1 / 4, 1, True, False),
    (asymmetric.AsymmetricGeneralizedCrossEntropy(1.0, 2.0), 1.5, 2, False, False),
    (asymmetric.AsymmetricGeneralizedCrossEntropy(3.0, 1.0), 1, 1, True, False),
    (asymmetric.AsymmetricGeneralizedCrossEntropy(3.0, 0.5), 2 * (2 - 3**0.5), 0.5, True, False),
    (asymmetric.AsymmetricUnhinged(3.0, 2.0), 2.5, 2, True, False),
    (asymmetric.AsymmetricUnhinged(3.0, 1.0), 1, 1, True, False),
    (asymmetric.AsymmetricUnhinged(3.0, 0.5), 2 * (3**0.5 - 2**0.5), 2**-0.5, False, False),
    (asymmetric.AsymmetricExponential(2.0), 1 - math.exp(-0.5), math.exp(-0.5) / 2, True, False),
]


@pytest.mark.parametrize(
    ("member", "supremum", "at_zero", "convex", "posterior"), LIMITS, ids=[exact.name(row[0]) for row in LIMITS]
)
def test_limits_and_claims(member, supremum, at_zero, convex, posterior):
    assert member.supremum == pytest.approx(supremum, rel=1e-14)
    assert member.slope_at_zero == pytest.approx(at_zero, rel=1e-14, abs=1e-100)
    assert member.convex is convex
    assert (member.no_posterior == "") is posterior


def test_why_there_is_no_posterior():
    assert quiet(family.Adma, 0.6).no_posterior.endswith(
        "is not convex in p, so its minimiser does not determine the posteriors"
    )
    for member in (family.MeanAbsoluteError(), family.GeneralizedCrossEntropy(1)):
        assert member.no_posterior.startswith(f"{member} is linear in p: its minimiser puts everything on the most")
    assert "squared_hinge gives the same minimiser" in classic.SquaredHinge().no_posterior
    assert classic.MeanSquaredError().no_posterior == ""
    assert classic.BiTempered().no_posterior == ""


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_values_at_both_ends(member):
    for kind in (np.float64, lambda x: np.array([x])):
        assert member.psi(kind(0.0)) == pytest.approx(0, abs=1e-300)
        assert float(np.squeeze(member.psi(kind(INF)))) == pytest.approx(member.supremum)
        assert np.all(np.isfinite(member.slope(kind(INF))))
        assert np.all(np.isfinite(member.slope(kind(0.0))))
    # the slope at infinity: t itself goes on growing at rate 1, what is bounded stops
    assert member.slope(np.float64(INF)) == (1.0 if member.supremum == INF else 0.0)


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_values_against_the_papers_formulas(member):
    for p in (1e-12, 0.01, 0.3, 0.9, 0.999):
        t = -exact.mp.log(exact.mpf(p))
        assert member.psi(np.float64(t)) == pytest.approx(float(exact.loss_of(member, exact.mpf(p))), rel=3e-14)
        assert member.slope(np.float64(t)) == pytest.approx(float(exact.slope_of(member, exact.mpf(p))), rel=3e-14)
        log_slope = float(exact.mp.log(exact.slope_of(member, exact.mpf(p))))
        assert member.log_slope(np.float64(t)) == pytest.approx(log_slope, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("member", exact.MEMBERS, ids=exact.name)
def test_easy_samples_keep_their_relative_accuracy(member):
    for t in (1e-15, 1e-9, 1e-4, 0.49, 0.51):
        true = float(exact.loss_of(member, exact.mp.exp(-exact.mpf(t))))
        assert member.psi(np.float64(t)) == pytest.approx(true, rel=3e-15)


def test_shapes_are_kept():
    t = np.linspace(0, 5, 24).reshape(2, 3, 4)
    for member in exact.EACH:
        for function in (member.psi, member.slope, member.log_slope):
            with np.errstate(divide="ignore"):
                assert function(t).shape == t.shape


def test_convexity_is_looked_at_where_a_member_does_not_say():
    look = family.Member.convex.fget
    for member in exact.EACH:
        assert look(member) == member.convex
    assert not look(quiet(family.Adma, 0.6))


# -- a value ------------------------------------------------------------------------------------------------


def test_losses_are_values():
    assert family.Adma(0.3) == family.Adma(a=0.3, base=E, normalize=False)
    assert family.Adma(0.3) != family.Adma(0.31)
    assert family.Focal(1.0) != family.Poly1(1.0)
    assert family.CrossEntropy() != family.MeanAbsoluteError()
    assert len({family.Adma(0.3), family.Adma(0.3), family.Adma(0.3, 2.0), family.CrossEntropy()}) == 3
    assert len(set(exact.MEMBERS)) == len(exact.MEMBERS)
    assert {classic.BiTempered(): 1}[classic.BiTempered(0.8, 1.2)] == 1


@pytest.mark.parametrize("loss", [*exact.EACH, classic.BiTempered(), classic.MeanSquaredError()], ids=exact.name)
def test_losses_cannot_be_changed(loss):
    for key in [*loss.parameters(), "new"]:
        with pytest.raises((AttributeError, TypeError)):
            setattr(loss, key, 1.0)


def test_parameters_by_name():
    assert family.Adma(0.3, 2.0).parameters() == {"a": 0.3, "base": 2.0, "normalize": False}
    assert family.CrossEntropy().parameters() == {}
    assert classic.BiTempered().parameters() == {"t1": 0.8, "t2": 1.2}


# -- bind ---------------------------------------------------------------------------------------------------


def test_bind_replaces_without_check_or_warning():
    member = family.Adma(0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bound = member.bind(a=0.9)
    assert type(bound) is family.Adma
    assert bound.parameters() == {"a": 0.9, "base": E, "normalize": False}
    assert member.a == 0.3
    assert member.bind() == member
    assert member.bind() is not member


def test_bind_refuses_an_unknown_name():
    with pytest.raises(TypeError, match=r"adma has no parameter 'alpha'; it has \['a', 'base', 'normalize'\]"):
        family.Adma().bind(alpha=0.3)
    with pytest.raises(TypeError, match=r"cce has no parameter 'a'; it has \[\]"):
        family.CrossEntropy().bind(a=1)


@pytest.mark.parametrize(
    ("member", "key", "values"),
    [
        (family.Adma(), "a", [0.01, 0.26, 0.9]),
        (family.Adma(normalize=True), "a", [0.01, 0.26, 0.9]),
        (family.Adma(), "base", [1.5, 2.0, 10.0]),
        (family.Adma(normalize=True), "base", [1.5, 2.0, 10.0]),
        (family.GeneralizedCrossEntropy(), "q", [0.1, 0.7, 1.0]),
        (family.Focal(), "gamma", [0.0, 0.5, 3.0]),
        (family.Poly1(), "epsilon", [-1.0, 0.0, 3.0]),
        (asymmetric.AsymmetricGeneralizedCrossEntropy(), "a", [0.1, 1.0, 5.0]),
        (asymmetric.AsymmetricGeneralizedCrossEntropy(), "q", [0.1, 1.0, 3.0]),
        (asymmetric.AsymmetricUnhinged(), "a", [1.1, 2.0, 5.0]),
        (asymmetric.AsymmetricUnhinged(), "q", [0.1, 1.0, 3.0]),
        (asymmetric.AsymmetricExponential(), "a", [0.1, 1.0, 5.0]),
    ],
    ids=lambda x: (
        f"{x.name}{'-unit' if getattr(x, 'normalize', False) else ''}" if isinstance(x, family.Loss) else None
    ),
)
def test_a_bound_array_broadcasts(member, key, values):
    t = np.array([0.0, 1e-6, 0.3, 2.0, 50.0])
    column = member.bind(**{key: np.array(values)[:, None]})
    for name in ("psi", "slope", "log_slope"):
        with np.errstate(divide="ignore"):
            got = getattr(column, name)(t)
            rows = [getattr(quiet(type(member), **{**member.parameters(), key: v}), name)(t) for v in values]
        assert got.shape == (3, 5)
        np.testing.assert_allclose(got, np.stack(rows), rtol=1e-14)


# -- the house ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["family", "asymmetric", "taylor", "classic", "spec", "numpy", "_check"])
def test_the_mathematics_imports_no_framework(module):
    tree = ast.parse((Path(adma.__file__).parent / f"{module}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert imported
    assert not {name for name in imported if name.split(".")[0] in ("torch", "jax", "tensorflow")}
    assert not {name for name in imported if name.startswith(("adma.torch", "adma.bench", "adma.functional"))}
