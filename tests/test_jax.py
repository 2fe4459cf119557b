"""`adma.jax`: its manner (optax's), derivatives of every order, limits, and what it refuses.

Values and gradients of every loss against the float64 reference are in `test_parity.py`.
"""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from mpmath import mp

pytest.importorskip("jax", reason="jax is not installed: adma.jax WAS NOT TESTED")

import jax
import jax.numpy as jnp

import exact
from adma import family, functional
from adma import jax as adma_jax
from adma import numpy as reference
from adma.spec import known, parse
from parity import jax_doubles

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(scale=3.0, size=(6, 4)), RNG.integers(0, 4, 6)
SOFT = RNG.dirichlet(np.ones(4), 6)
INF = np.inf


@pytest.fixture
def double():
    with jax_doubles():
        yield


def test_importing_adma_imports_neither_jax_nor_keras():
    code = "import sys, adma; print(sorted({'jax', 'keras', 'flax', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_has_the_names_of_the_torch_functions():
    named = {n for n in functional.__all__ if not n.startswith("linear_") and "flexible" not in n}
    named -= {"semantic_loss", "large_margin_logits"}  # with a call of their own, in PyTorch alone
    assert named == set(adma_jax.__all__) - {"loss", "binary_loss"}
    for name in named - {"posterior", "binary_posterior"}:
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (adma_jax, functional))
        options = {"logits", "labels", "axis", "where", "label_smoothing"}
        own = [(p.name, p.default) for p in ours.values() if p.name not in options]
        assert own == [(p.name, p.default) for p in theirs.values() if p.name in dict(own)]
        assert len(own) == len([p for p in theirs.values() if p.kind is p.KEYWORD_ONLY]) - 2 * ("binary" not in name)


# -- the manner ---------------------------------------------------------------------------------------------


def test_a_function_a_member_and_a_spec_are_the_same():
    expected = reference.loss(family.Adma(0.3, 2.0), LOGITS, LABELS, reduction="none")
    for got in (
        adma_jax.adma_loss(LOGITS, LABELS, a=0.3, base=2.0),
        adma_jax.loss(family.Adma(0.3, 2.0), LOGITS, LABELS),
        adma_jax.loss("adma:a=0.3,base=2", LOGITS, LABELS),
    ):
        np.testing.assert_allclose(got, expected, rtol=2e-6)


@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["indices", "probabilities"])
@pytest.mark.parametrize("spec", ["adma", "mse", "smoothed_cce"])
def test_label_smoothing_is_the_references(spec, labels):
    got = jax.jit(lambda z, y: adma_jax.loss(spec, z, y, label_smoothing=0.2))(LOGITS, labels)
    expected = reference.loss(parse(spec), LOGITS, labels, reduction="none", label_smoothing=0.2)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("labels", ["indices", "probabilities"])
@pytest.mark.parametrize("spec", ["adma", "cce", "mse", "squared_hinge", "bi_tempered", "nce_rce"])
def test_classes_left_out_by_where_are_as_if_they_were_not_there(spec, labels):
    where = np.array([True, False, True, True])
    keep = np.broadcast_to(where, LOGITS.shape)
    hidden = np.where(keep, LOGITS, np.nan)  # whatever they hold
    if labels == "indices":
        wide, narrow, smoothing = np.array([0, 2, 3, 0, 2, 3]), np.array([0, 1, 2, 0, 1, 2]), 0.1
    else:
        narrow, smoothing = RNG.dirichlet(np.ones(3), 6), 0.0
        wide = np.insert(narrow, 1, 0.7, axis=1)  # what stands there counts nothing

    def rows(z):
        out = adma_jax.loss(spec, z, wide, where=keep, label_smoothing=smoothing)
        return out.sum(), out

    gradient, got = jax.jit(jax.grad(rows, has_aux=True))(hidden)
    alone = reference.loss(parse(spec), LOGITS[:, where], narrow, reduction="none", label_smoothing=smoothing)
    np.testing.assert_allclose(got, alone, rtol=1e-5, atol=1e-7)
    assert not gradient[:, ~where].any()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["indices", "probabilities"])
def test_examples_that_where_leaves_out_count_nothing(labels):
    examples = np.array([True, False, True, True, False, True])

    def rows(z, where):
        out = adma_jax.cross_entropy(z, labels, where=where)
        return out.sum(), out

    run = jax.jit(jax.grad(rows, has_aux=True))
    gradient, got = run(LOGITS, examples)
    expected = reference.loss(family.CrossEntropy(), LOGITS, labels, reduction="none")
    np.testing.assert_allclose(got, np.where(examples, expected, 0.0), rtol=1e-5)
    assert not gradient[~examples].any()
    if labels is LABELS:  # a label that is left out, of examples that count
        gradient, got = run(LOGITS, np.arange(4) != LABELS[:, None])
        assert not got.any()
        assert not gradient.any()


def test_axes_of_the_classes():
    logits = RNG.normal(size=(2, 3, 4, 5))
    labels = RNG.integers(0, 12, (2, 5))
    for axis, order in (((1, 2), (0, 3, 1, 2)), ((2, 1), (0, 3, 2, 1))):
        flat = logits.transpose(order).reshape(10, 12)
        expected = reference.loss(family.Adma(), flat, labels.reshape(10), reduction="none")
        got = jax.jit(adma_jax.adma_loss, static_argnames="axis")(logits, labels, axis=axis)
        np.testing.assert_allclose(got.reshape(10), expected, rtol=1e-5)
        back = jax.jit(lambda z, axis=axis: adma_jax.posterior("cce", z, axis=axis))(logits)
        np.testing.assert_allclose(back, jax.nn.softmax(logits, axis=axis), rtol=1e-5)
    whole = jax.jit(adma_jax.adma_loss, static_argnames="axis")(logits[0], np.full((3, 4, 5), 1 / 60), axis=None)
    assert whole.shape == ()


@pytest.mark.parametrize("spec", ["cce", "adma", "focal", "mse", "bi_tempered", "sce", "nce_rce", "semantic"])
def test_no_examples_have_no_losses(spec):
    logits = np.zeros((0, 2, 3))
    for axis, labels in ((-1, np.zeros((0, 2), int)), (1, np.zeros((0, 3), int)), ((1, 2), np.zeros(0, int))):
        assert (
            jax.jit(lambda z, y, axis=axis: adma_jax.loss(spec, z, y, axis=axis))(logits, labels).shape == labels.shape
        )
        assert adma_jax.loss(spec, logits, np.zeros(logits.shape), axis=axis).shape == labels.shape
    if not parse(spec).no_posterior:
        assert adma_jax.posterior(spec, logits).shape == logits.shape


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_half_types_are_computed_in_float32_and_keep_their_type(dtype):
    logits = jnp.asarray(LOGITS, dtype)
    held = np.asarray(logits, dtype=np.float64)
    got = jax.jit(adma_jax.adma_loss)(logits, LABELS)
    assert got.dtype == dtype
    expected = jnp.asarray(reference.loss(family.Adma(), held, LABELS, reduction="none"), dtype)
    np.testing.assert_allclose(
        np.asarray(got, np.float64), np.asarray(expected, np.float64), rtol=2.0 ** -{"float32": 20}.get(dtype, 7)
    )
    gradient = jax.eval_shape(jax.grad(lambda z: adma_jax.adma_loss(z, LABELS).sum()), logits)
    assert gradient.dtype == dtype


# -- derivatives --------------------------------------------------------------------------------------------


def curvature(member, t):
    """psi'', by differences of the slope."""
    step = 1e-5
    return (member.slope(t + step) - member.slope(t - step)) / (2 * step)


@pytest.mark.parametrize("spec", ["adma", "focal:gamma=2", "poly1:epsilon=-1", "agce"])
def test_the_hessian_is_the_familys(spec, double):
    """`psi' (diag(s) - s s^T) + psi'' (s - e_y)(s - e_y)^T`."""
    member = parse(spec)
    hessian = jax.jit(jax.vmap(jax.hessian(lambda z, y: adma_jax.loss(member, z, y)), (0, 0)))(LOGITS, LABELS)
    for z, y, got in zip(LOGITS, LABELS, hessian, strict=True):
        s, t = reference.softmax(z[None])[0], reference.nll(z[None])[0, y]
        off = s - np.eye(4)[y]
        expected = member.slope(t) * (np.diag(s) - np.outer(s, s)) + curvature(member, t) * np.outer(off, off)
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)


def test_derivatives_in_soft_labels_and_of_the_third_order(double):
    member = family.Adma(0.3, 2.0)
    slope = jax.jit(jax.grad(lambda y: adma_jax.loss(member, LOGITS, y).sum()))(SOFT)
    np.testing.assert_allclose(slope, member.psi(reference.nll(LOGITS)), rtol=1e-12)
    third = jax.jit(jax.grad(jax.grad(jax.grad(lambda a: adma_jax.adma_loss(LOGITS, SOFT, a=a, base=2.0).sum()))))
    with mp.workdps(40):
        t = [[mp.mpf(float(x)) for x in row] for row in reference.nll(LOGITS)]

        def total(a):
            return mp.fsum(
                mp.mpf(float(y)) * (2 - 2 ** mp.exp(-a * x))
                for row, ys in zip(t, SOFT, strict=True)
                for x, y in zip(row, ys, strict=True)
            )

        expected = float(mp.diff(total, mp.mpf("0.3"), 3))
    assert float(third(0.3)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("focal_loss", {"gamma": 1.5}), ("asymmetric_unhinged_loss", {"a": 1.5, "q": 0.9}),
     ("bi_tempered_loss", {"t1": 0.8, "t2": 1.2})],
)  # fmt: skip
def test_derivatives_in_the_parameters(name, shape, double):
    function = getattr(adma_jax, name)
    got = jax.jit(jax.grad(lambda shape: function(LOGITS, LABELS, **shape).sum()))(shape)
    kind = functional_kind(name)
    for key, value in shape.items():
        pair = [
            reference.loss(kind(**{**shape, key: value + h}), LOGITS, LABELS, reduction="sum") for h in (1e-5, -1e-5)
        ]
        assert got[key] == pytest.approx((pair[0] - pair[1]) / 2e-5, rel=1e-6)


def functional_kind(name):
    """The class of a loss by its function's name."""
    said = getattr(adma_jax, name).__doc__
    return next(kind for kind in known().values() if said.startswith(inspect.cleandoc(kind.__doc__)[:40]))


def test_hard_samples_keep_their_gradient():
    """jax's own derivative of expm1 is `result + 1`: 0 in float32 from a t = 17 on."""
    z = jnp.array([[0.0, 60.0]])
    gradient = jax.grad(lambda z: adma_jax.generalized_cross_entropy(z, jnp.array([0]), q=0.7).sum())(z)
    expected = reference.gradient(family.GeneralizedCrossEntropy(0.7), np.asarray(z), [0], reduction="sum")
    assert expected[0, 0] < -1e-19
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_transformations_agree(double):
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    plain = reference.loss(family.Adma(0.3), LOGITS, LABELS, reduction="none")
    np.testing.assert_allclose(jax.jit(adma_jax.adma_loss)(z, y, a=0.3), plain, rtol=1e-13)
    each = jax.vmap(lambda z, y, a: adma_jax.adma_loss(z, y, a=a), (0, 0, None))
    several = jax.jit(jax.vmap(each, (None, None, 0)))(z, y, jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(several[1], plain, rtol=1e-13)
    forward = jax.jit(jax.jacfwd(lambda z: adma_jax.adma_loss(z, y, a=0.3)))(z)
    np.testing.assert_allclose(
        forward.sum(0), reference.gradient(family.Adma(0.3), LOGITS, LABELS, reduction="sum"), rtol=1e-12
    )


# -- limits -------------------------------------------------------------------------------------------------

HOSTILE = np.array(
    [
        [INF, 0.0, 1.0], [0.0, INF, 1.0], [INF, INF, 1.0], [-INF, 0.0, 1.0], [-INF, -INF, 0.0], [0.0, -INF, -INF],
        [-INF, -INF, -INF], [1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [3e38, -3e38, 0.0], [-3e38, 3e38, 3e38],
        [0.0, 0.0, 0.0], [80.0, 0.0, 0.0], [0.0, 80.0, 0.0], [-INF, INF, 0.0],
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    "spec", ["adma", "cce", "focal:gamma=0.5", "poly1:epsilon=-1", "agce", "bi_tempered", "nce_rce", "squared_hinge"]
)
def test_nothing_is_nan(spec):
    def rows(z):
        index, soft = np.zeros(len(HOSTILE), int), np.tile([0.5, 0.5, 0.0], (len(HOSTILE), 1))
        out = jnp.stack([adma_jax.loss(spec, z, labels) for labels in (index, soft)])
        return out.sum(), out

    gradient, loss = jax.jit(jax.grad(rows, has_aux=True))(jnp.asarray(HOSTILE, "float32"))
    assert not np.isnan(loss).any()
    assert np.isfinite(gradient).all()


def test_infinite_logits_are_taken_to_their_limit():
    member = family.Adma(0.3, 2.0)
    rows = jax.jit(lambda z: adma_jax.loss(member, z, np.zeros(len(HOSTILE), int)))(HOSTILE)
    thirds, half = (-np.expm1(np.log(2) * np.expm1(0.3 * np.log(p))) * 2 for p in (1 / 3, 1 / 2))
    np.testing.assert_allclose(rows[:7], [0, 1, half, 1, 1, 0, thirds], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("adma_loss", "a", 0.4), ("adma_loss", "base", 2.0), ("generalized_cross_entropy", "q", 0.4),
     ("focal_loss", "gamma", 0.4), ("asymmetric_exponential_loss", "a", 0.4)],
)  # fmt: skip
def test_parameters_have_derivatives_whatever_the_logits(name, key, value):
    function, labels = getattr(adma_jax, name), np.zeros(len(HOSTILE), int)
    rows = function(HOSTILE, labels, **{key: value})
    slope = jax.jit(jax.jacfwd(lambda x: function(HOSTILE, labels, **{key: x})))(value)
    assert np.isfinite(slope[np.isfinite(rows)]).all()
    assert not np.isnan(slope).any()
    if key == "base":
        assert slope[3] == 1  # of the supremum base - 1, at an impossible label


def test_an_unknown_class_is_loud():
    for smoothing in (0.0, 0.1):
        rows = jax.jit(adma_jax.cross_entropy)(LOGITS, np.array([4, 0, -1, 1, 2, 3]), label_smoothing=smoothing)
        np.testing.assert_array_equal(np.isnan(rows), [True, False, True, False, False, False])
    assert np.isnan(
        jax.jit(adma_jax.cross_entropy)(np.where(np.arange(24).reshape(6, 4) == 0, np.nan, LOGITS), LABELS)[0]
    )


# -- binary, posteriors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", exact.EACH[::4], ids=exact.name)
def test_binary(member, double):
    z = np.concatenate([RNG.uniform(-80, 80, 20), [0.0, INF, -INF, 1e4, -1e4]])

    def total(z, y):
        out = adma_jax.binary_loss(member, z, y)
        return out.sum(), out

    run = jax.jit(jax.grad(total, has_aux=True))
    for labels in (RNG.integers(0, 2, 25).astype(float), RNG.uniform(0, 1, 25)):
        gradient, rows = run(z, labels)
        np.testing.assert_allclose(rows, reference.binary_loss(member, z, labels, reduction="none"), rtol=1e-13)
        assert np.isfinite(gradient).all()
        expected = reference.binary_gradient(member, z[:20], labels[:20])
        np.testing.assert_allclose(gradient[:20], expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("spec", ["cce", "adma", "focal:gamma=2", "sce", "bi_tempered", "mse"])
def test_posteriors_are_the_references(spec, double):
    member = parse(spec)
    np.testing.assert_allclose(adma_jax.posterior(spec, LOGITS), reference.posterior(member, LOGITS), rtol=1e-11)
    keep = np.array([True, True, False, True])
    masked = adma_jax.posterior(spec, LOGITS, where=np.broadcast_to(keep, LOGITS.shape))
    expected = reference.posterior(member, LOGITS[:, keep])
    np.testing.assert_allclose(masked[:, keep], expected, rtol=1e-11)
    assert not masked[:, 2].any()


def test_binary_posterior_is_that_of_two_classes(double):
    z = np.array([-30.0, -1.0, 0.0, 2.0, 40.0, INF, -INF])
    pair = np.stack([np.zeros_like(z), z], 1)[:5]
    got = adma_jax.binary_posterior("adma:a=0.3", z)
    np.testing.assert_allclose(got[:5], reference.posterior(family.Adma(0.3), pair)[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(got[5:], [1.0, 0.0])


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((np.ones((2, 3), int), [0, 1]), {}, TypeError, "logits must be of a floating type, got int"),
        ((LOGITS, np.ones(6)), {}, TypeError, "labels must be class indices"),
        ((LOGITS, LABELS[:5]), {}, ValueError, r"shape \(6,\), got the shape \(5,\)"),
        ((LOGITS, np.ones((6, 3))), {}, ValueError, r"labels must have the shape \(6, 4\)"),
        ((LOGITS, LABELS[:, None]), {}, ValueError, r"of shape \(6, 1\): leave out the axis of the classes"),
        ((LOGITS, LABELS[None]), {"axis": 0}, ValueError, r"\(1, 6\): leave out"),
        ((LOGITS, LABELS), {"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\]"),
        ((LOGITS, LABELS), {"axis": 2}, ValueError, "axis must be in"),
        ((LOGITS, LABELS), {"axis": (1, -1)}, ValueError, "axis must name different axes"),
        ((LOGITS, LABELS), {"where": np.ones(6)}, TypeError, "where must be bool"),
        ((np.ones((2, 0)), np.zeros(2, int)), {}, ValueError, "logits must have a class"),
        ((LOGITS, LABELS), {"a": 0.0}, ValueError, "a must be in"),
        ((LOGITS, LABELS), {"gamma": 1.0}, TypeError, "gamma"),
        ((LOGITS, LABELS), {"gamma": jnp.ones(())}, TypeError, "no parameter 'gamma'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(arguments, options, error, said):
    with pytest.raises(error, match=said):
        adma_jax.adma_loss(*(np.asarray(x) for x in arguments), **options)


def test_what_has_no_posterior_or_no_binary_form_says_so():
    with pytest.raises(ValueError, match="linear in p"):
        adma_jax.posterior("mae", LOGITS)
    with pytest.raises(ValueError, match="mse has no binary form; give the network two logits"):
        adma_jax.binary_loss("mse", LOGITS, LABELS[:, None])
    with pytest.raises(ValueError, match="did you mean 'adma'"):
        adma_jax.loss("adam", LOGITS, LABELS)
