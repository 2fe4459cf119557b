"""Boosting objectives: the gradient by differences, the curvature's promises, the built-in objectives as judges."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_wine

import exact
from adma import boosting, family
from adma import numpy as reference
from adma.boosting import (
    CatBoostObjective,
    LightGBMObjective,
    XGBoostObjective,
    gradient_and_curvature,
)

SCORES = st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=5)
CONCAVE = [m for m in exact.EACH if m.name not in ("focal", "poly1")]


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
@settings(max_examples=25)
@given(rows=SCORES, seed=st.integers(0, 999))
def test_the_gradient_is_the_losss(member, rows, seed):
    z = np.array(rows)
    chance = np.random.default_rng(seed)
    y, w = chance.integers(0, 4, len(z)), chance.random(len(z)) + 0.1
    gradient, curvature = gradient_and_curvature(member, z, y, w)
    assert gradient.shape == curvature.shape == z.shape
    assert (curvature > 0).all()
    np.testing.assert_allclose(gradient, reference.gradient(member, z, y, reduction="sum") * w[:, None], rtol=1e-12)
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-12)
    if np.abs(z).max() < 5:
        step = 1e-5
        for j in range(4):
            up, down = z.copy(), z.copy()
            up[:, j] += step
            down[:, j] -= step
            rise = reference.loss(member, up, y, reduction="none") - reference.loss(member, down, y, reduction="none")
            np.testing.assert_allclose(gradient[:, j], w * rise / (2 * step), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("member", exact.EACH, ids=exact.name)
@settings(max_examples=25)
@given(scores=st.lists(st.floats(-30, 30), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_one_score_is_two_classes(member, scores, seed):
    z = np.array(scores)
    y = np.random.default_rng(seed).integers(0, 2, len(z))
    gradient, curvature = gradient_and_curvature(member, z, y)
    two, its = gradient_and_curvature(member, np.stack([np.zeros_like(z), z], 1), y)
    np.testing.assert_allclose(gradient, two[:, 1], rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(curvature, its[:, 1], rtol=1e-9)
    assert boosting.mean_loss(member, z, y) == pytest.approx(
        boosting.mean_loss(member, np.stack([np.zeros_like(z), z], 1), y), rel=1e-9
    )


@pytest.mark.parametrize("member", CONCAVE, ids=exact.name)
@settings(max_examples=40)
@given(rows=SCORES, moved=SCORES, y=st.integers(0, 3))
def test_the_curvature_is_of_a_majorant(member, rows, moved, y):
    """psi(t') <= psi(t) + psi'(t) (t' - t): what a booster minimises lies above the loss and touches it."""
    t, other = (reference.nll(np.array(z[:1]))[0, y] for z in (rows, moved))
    above = member.psi(t, np) + member.slope(t, np) * (other - t)
    assert member.psi(other, np) <= above + 1e-9 * (1 + abs(above))


def test_the_curvature_of_cross_entropy_is_its_hessians_diagonal():
    z, y = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 2, 0, 1, 2])
    s = reference.softmax(z)
    _, curvature = gradient_and_curvature("cce", z, y)
    np.testing.assert_allclose(curvature, s * (1 - s), rtol=1e-12)
    _, twice = gradient_and_curvature("cce", z, y, factor=2.0)
    np.testing.assert_allclose(twice, 2 * curvature)


def test_a_hopeless_sample_has_a_curvature():
    gradient, curvature = gradient_and_curvature("mae", np.array([[0.0, 2000.0]]), np.array([0]))
    assert not gradient.any()
    assert (curvature == 1e-16).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LightGBMObjective("mse"), TypeError, "must be a member of the family"),
        (lambda: LightGBMObjective("admma"), ValueError, "did you mean 'adma'"),
        (
            lambda: gradient_and_curvature("cce", np.zeros(3), np.array([0, 1, 2])),
            ValueError,
            r"in \[0, 2\), got 2.*num_class=K, CatBoost classes_count=K\)",
        ),
        (
            lambda: boosting.mean_loss("cce", np.zeros((0, 3)), np.zeros(0)),
            ValueError,
            "scores must hold at least one sample",
        ),
        (
            lambda: boosting.mean_loss("cce", np.zeros(0), np.zeros(0), np.zeros(0)),
            ValueError,
            "scores must hold at least one sample",
        ),
        (
            lambda: gradient_and_curvature("cce", np.zeros((2, 3)), np.array([0.5, 1])),
            ValueError,
            r"in \[0, 3\), got 0.5",
        ),
        (lambda: gradient_and_curvature("cce", np.zeros((2, 3)), np.array([-1, 1])), ValueError, "got -1"),
        (
            lambda: gradient_and_curvature("cce", np.zeros((2, 3)), ["ant", "bee"]),
            TypeError,
            r"labels must be whole numbers in \[0, 3\), got an array of <U3 such as 'ant'",
        ),
        (
            lambda: boosting.mean_loss("cce", np.zeros((2, 3)), [0, 1], [0.0, 0.0]),
            ValueError,
            "weight must not be 0 for every sample",
        ),
        (lambda: gradient_and_curvature("cce", np.zeros((2, 3)), np.array([1])), ValueError, r"\(2, 3\) and \(1,\)"),
        (lambda: gradient_and_curvature("cce", np.zeros(2), np.array([0, 1]), [1.0]), ValueError, "weight must be"),
        (lambda: boosting.probabilities("mae", np.zeros(2)), ValueError, "linear in p"),
    ],
)
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", [LightGBMObjective, XGBoostObjective, CatBoostObjective])
def test_an_objective_is_a_value(kind):
    objective = kind("adma:a=0.3")
    assert objective == kind(family.Adma(0.3)) == pickle.loads(pickle.dumps(objective)) == copy.deepcopy(objective)
    assert objective != kind("adma:a=0.2")
    assert hash(objective) == hash(kind("adma:a=0.3"))
    assert repr(objective) == f"{kind.__name__}('adma:a=0.3')"
    z = np.random.default_rng(0).normal(size=5)
    np.testing.assert_allclose(objective.probabilities(z).sum(1), 1)
    assert objective.classes(z).tolist() == (z > 0).astype(int).tolist()
    # the map of the loss, and not the sigmoid
    assert np.abs(objective.probabilities(z)[:, 1] - 1 / (1 + np.exp(-z))).max() > 0.01


# -- the boosters themselves ---------------------------------------------------------------------------------


def wine():
    x, y = load_wine(return_X_y=True)
    return x, y, np.random.default_rng(0).random(len(y)) + 0.5


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return x, y, np.random.default_rng(0).random(len(y)) + 0.5


def test_catboosts_metric_of_samples_without_weight_is_nothing():
    metric = CatBoostObjective("cce").metric
    assert metric.evaluate([np.zeros(2)], np.array([0, 1]), np.zeros(2)) == (0.0, 0.0)
    assert metric.get_final_error(0.0, 0.0) == 0.0


@pytest.mark.parametrize("data", [wine, cancer], ids=["three classes", "two classes"])
def test_lightgbm_with_cce_is_its_built_in_objective(data):
    lgb = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'adma[boosting]'")
    x, y, w = data()
    options = {"verbose": -1, "num_threads": 1, "boost_from_average": False, "deterministic": True}
    objective, built_in = LightGBMObjective("cce"), "binary"
    if y.max() > 1:
        options, built_in = {**options, "num_class": 3}, "multiclass"
    seen = {}
    ours = lgb.train(
        {**options, "objective": objective, "metric": "None"}, lgb.Dataset(x, y, weight=w), 20,
        valid_sets=[lgb.Dataset(x, y, weight=w)], feval=objective.metric, callbacks=[lgb.record_evaluation(seen)],
    )  # fmt: skip
    theirs = lgb.train({**options, "objective": built_in}, lgb.Dataset(x, y, weight=w), 20)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x, raw_score=True), rtol=1e-4, atol=1e-4)
    (values,) = (v["cce"] for v in seen.values())
    assert values[-1] == pytest.approx(boosting.mean_loss("cce", ours.predict(x), y, w))
    assert values[-1] < 0.5 * values[0]
    np.testing.assert_allclose(objective.probabilities(ours.predict(x))[:, 1], _second(theirs.predict(x)), atol=1e-4)


def _second(p):
    return p if p.ndim == 1 else p[:, 1]


@pytest.mark.parametrize("data", [wine, cancer], ids=["three classes", "two classes"])
def test_early_stopping_of_lightgbms_classes_watches_the_loss_alone(data):
    """As the docstring says; what they add by themselves, on raw scores, stops a training far too early."""
    lgb = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'adma[boosting]'")
    x, y, _ = data()
    objective = LightGBMObjective("adma:a=0.26")
    model = lgb.LGBMClassifier(objective=objective, metric="None", n_estimators=300, verbose=-1, n_jobs=1)
    stop = lgb.early_stopping(10, verbose=False)
    model.fit(x[::2], y[::2], eval_set=[(x[1::2], y[1::2])], eval_metric=objective.metric, callbacks=[stop])
    (seen,) = model.evals_result_.values()
    assert list(seen) == [objective.spec]
    assert model.best_iteration_ == 1 + np.argmin(seen[objective.spec]) < 300


@pytest.mark.parametrize("data", [wine, cancer], ids=["three classes", "two classes"])
def test_xgboost_with_cce_is_its_built_in_objective(data):
    xgb = pytest.importorskip("xgboost", reason="XGBoost is not installed: pip install 'adma[boosting]'")
    x, y, w = data()
    options = {"nthread": 1, "base_score": 0.5, "tree_method": "hist"}
    built_in = {"objective": "binary:logistic"}
    if y.max() > 1:
        options, built_in = {**options, "num_class": 3}, {"objective": "multi:softprob"}
    else:
        options["base_score"] = 0.0  # of a user's objective it is a raw score
        built_in["base_score"] = 0.5
    objective, seen = XGBoostObjective("cce"), {}
    data_ = xgb.DMatrix(x, y, weight=w)
    ours = xgb.train(
        {**options, "disable_default_eval_metric": 1}, data_, 20, obj=objective, custom_metric=objective.metric,
        evals=[(data_, "train")], evals_result=seen, verbose_eval=False,
    )  # fmt: skip
    theirs = xgb.train({**options, **built_in}, data_, 20)
    mine, their = (b.predict(data_, output_margin=True) for b in (ours, theirs))
    if mine.ndim == 2:  # the softmax does not see what is added to every class
        mine, their = (z - z.mean(1, keepdims=True) for z in (mine, their))
    np.testing.assert_allclose(mine, their, rtol=1e-3, atol=1e-3)
    assert seen["train"]["cce"][-1] == pytest.approx(
        boosting.mean_loss("cce", ours.predict(data_, output_margin=True), y, w), rel=1e-4
    )


@pytest.mark.parametrize("data", [wine, cancer], ids=["three classes", "two classes"])
def test_catboost_with_cce_is_its_built_in_objective(data):
    catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: pip install 'adma[boosting]'")
    x, y, _ = data()
    options = {
        "iterations": 10, "depth": 3, "learning_rate": 0.3, "verbose": 0, "thread_count": 1, "random_seed": 0,
        "leaf_estimation_method": "Newton", "leaf_estimation_iterations": 1, "boost_from_average": False,
        "bootstrap_type": "No", "random_strength": 0, "allow_writing_files": False,
        "leaf_estimation_backtracking": "No",
    }  # fmt: skip
    built_in = "MultiClass" if y.max() > 1 else "Logloss"
    if y.max() > 1:
        options["classes_count"] = 3
    objective = CatBoostObjective("cce")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, which it would like to have
        ours = catboost.CatBoostClassifier(**options, loss_function=objective, eval_metric=objective.metric).fit(x, y)
    theirs = catboost.CatBoostClassifier(**options, loss_function=built_in).fit(x, y)
    mine, their = (m.predict(x, prediction_type="RawFormulaVal") for m in (ours, theirs))
    np.testing.assert_allclose(objective.probabilities(mine)[:, 1], theirs.predict_proba(x)[:, 1], atol=0.02)
    assert (objective.classes(mine) == objective.classes(their)).all()


@pytest.mark.parametrize("loss", ["adma:a=0.26", "gce:q=0.7", "focal:gamma=2", "mae"])
@pytest.mark.parametrize("data", [wine, cancer], ids=["three classes", "two classes"])
def test_every_booster_learns_with_other_members(data, loss):
    """Through the scikit-learn classes, with weights."""
    lgb = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'adma[boosting]'")
    xgb = pytest.importorskip("xgboost", reason="XGBoost is not installed: pip install 'adma[boosting]'")
    catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: pip install 'adma[boosting]'")
    x, y, w = data()
    train, test = np.arange(len(y)) % 3 > 0, np.arange(len(y)) % 3 == 0
    light = lgb.LGBMClassifier(objective=LightGBMObjective(loss), n_estimators=40, verbose=-1, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        light.fit(x[train], y[train], sample_weight=w[train])
        raw = {"LightGBM": light.predict(x[test], raw_score=True)}
        ours = XGBoostObjective(loss)
        extreme = xgb.XGBClassifier(objective=ours, n_estimators=40, n_jobs=1, eval_metric=ours.metric)
        extreme.fit(x[train], y[train], sample_weight=w[train], eval_set=[(x[test], y[test])], verbose=False)
        raw["XGBoost"] = extreme.predict(x[test], output_margin=True)
        cat = catboost.CatBoostClassifier(
            loss_function=CatBoostObjective(loss), eval_metric=CatBoostObjective(loss).metric, iterations=30,
            depth=3, learning_rate=0.3, classes_count=int(y.max()) + 1, verbose=0, thread_count=1,
            allow_writing_files=False,
        )  # fmt: skip
        raw["CatBoost"] = cat.fit(x[train], y[train], sample_weight=w[train]).predict(
            x[test], prediction_type="RawFormulaVal"
        )
    for name, z in raw.items():
        assert (LightGBMObjective(loss).classes(z) == y[test]).mean() > 0.9, name
