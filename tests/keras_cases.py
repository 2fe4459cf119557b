"""What must hold on every backend of Keras; `test_keras.py` runs it once for each, with KERAS_BACKEND set."""

# ruff: noqa: I001
import inspect

import adma  # noqa: F401  # before Keras: with triton installed, tensorflow loads only after it

import keras
import numpy as np
import pytest
from keras import ops

import exact
from adma import family, spec
from adma import keras as adma_keras
from adma import numpy as reference
from adma.keras import Adma, BinaryAdma, CrossEntropy, FlexibleLoss, ShapeScheduler

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3.0, size=(8, 4)).astype("float32")
INDEX, SOFT = RNG.integers(0, 4, 8), RNG.dirichlet(np.ones(4), 8).astype("float32")


def numpy(x):
    return np.asarray(ops.convert_to_numpy(x), dtype=np.float64)


def rows(member, target, logits=LOGITS, **options):
    return reference.loss(member, logits, target, reduction="none", **options)


# -- targets, weights, reductions ---------------------------------------------------------------------------


def test_sparse_and_categorical_targets_are_told_by_their_shape():
    loss, expected = Adma(from_logits=True, reduction=None, a=0.3), rows(family.Adma(0.3), INDEX)
    for target in (INDEX, INDEX[:, None], np.eye(4)[INDEX], INDEX.astype("uint8"), INDEX.astype("float32")):
        np.testing.assert_allclose(numpy(loss(target, LOGITS)), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(numpy(loss(SOFT, LOGITS)), rows(family.Adma(0.3), SOFT), rtol=1e-5)


def test_pictures_and_another_axis():
    logits, target = RNG.normal(size=(2, 3, 5, 4)).astype("float32"), RNG.integers(0, 4, (2, 3, 5))
    expected = rows(family.Adma(), target, np.moveaxis(logits, -1, 1))
    loss = Adma(from_logits=True, reduction=None)
    for y in (target, target[..., None], np.eye(4)[target]):
        np.testing.assert_allclose(numpy(loss(y, logits)), expected, rtol=1e-5)
    first = Adma(from_logits=True, reduction=None, axis=1)
    for y in (target, target[:, None], np.moveaxis(np.eye(4)[target], -1, 1)):
        np.testing.assert_allclose(numpy(first(y, np.moveaxis(logits, -1, 1))), expected, rtol=1e-5)


def test_reductions_and_sample_weight():
    each = rows(family.Adma(), INDEX)
    weight = RNG.uniform(0.5, 2, 8).astype("float32")
    for reduction, expected in (("sum_over_batch_size", (each * weight).mean()), ("sum", (each * weight).sum()),
                                ("mean_with_sample_weight", (each * weight).sum() / weight.sum())):  # fmt: skip
        got = Adma(from_logits=True, reduction=reduction)(INDEX, LOGITS, sample_weight=weight)
        assert numpy(got) == pytest.approx(expected, rel=1e-5)


def test_an_ignored_class_counts_nothing():
    target = INDEX.copy()
    target[2] = -1
    logits = LOGITS.copy()
    logits[2] = np.nan
    kept = np.arange(8) != 2
    for name, member in (("adma", family.Adma()), ("sce", spec.parse("sce"))):
        expected = rows(member, INDEX[kept], LOGITS[kept])
        mean = adma_keras.make_loss(name, from_logits=True, ignore_class=-1)
        assert numpy(mean(target, logits)) == pytest.approx(expected.mean(), rel=1e-5)
    unknown = numpy(Adma(from_logits=True, reduction=None)(np.r_[INDEX[:7], 4], LOGITS))
    np.testing.assert_array_equal(np.isnan(unknown), [False] * 7 + [True])


def test_label_smoothing_and_the_classics():
    for name in ("adma", "mse", "bi_tempered", "nce_rce", "smoothed_cce"):
        loss = adma_keras.make_loss(name, from_logits=True, label_smoothing=0.1, reduction=None)
        for target in (INDEX, SOFT):
            expected = rows(spec.parse(name), target, label_smoothing=0.1)
            np.testing.assert_allclose(numpy(loss(target, LOGITS)), expected, rtol=1e-5, atol=1e-6)


def test_probabilities():
    p = numpy(ops.softmax(LOGITS)).astype("float32")
    for name in ("adma", "focal:gamma=2", "mse"):
        loss = adma_keras.make_loss(name, reduction=None)
        for target in (INDEX, SOFT):
            expected = rows(spec.parse(name), target, p.astype(float), from_probabilities=True)
            np.testing.assert_allclose(numpy(loss(target, p)), expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(Adma(reduction=None)(np.array([0, 1]), np.array([[0.0, 1.0]] * 2))), [np.e - 1, 0])


def test_binary_and_multi_label_targets():
    target = RNG.integers(0, 2, (8, 4)).astype("float32")
    each = reference.binary_loss(family.Adma(0.3), LOGITS, target, reduction="none")
    loss = BinaryAdma(from_logits=True, reduction=None, a=0.3)
    np.testing.assert_allclose(numpy(loss(target, LOGITS)), each.mean(1), rtol=1e-5)
    probable = BinaryAdma(reduction=None, a=0.3)
    p = numpy(ops.sigmoid(LOGITS)).astype("float32")
    np.testing.assert_allclose(numpy(probable(target, p)), each.mean(1), rtol=1e-4)
    one = BinaryAdma(from_logits=True, a=0.3)(target[:, 0], LOGITS[:, :1])
    assert numpy(one) == pytest.approx(each[:, 0].mean(), rel=1e-5)
    with pytest.raises(ValueError, match=r"adma\.keras\.BinaryAdma"):
        Adma(from_logits=True)(target[:, :1], LOGITS[:, :1])


def test_half_types_are_computed_in_float32():
    logits = ops.cast(LOGITS, "bfloat16")
    got = Adma(from_logits=True, reduction=None)(INDEX, logits)
    held = numpy(ops.cast(logits, "float32"))
    np.testing.assert_allclose(numpy(got), rows(family.Adma(), INDEX, held), rtol=1e-5)
    many = np.zeros((1, 300), "float32")
    many[0, 257] = 9.0
    keras.config.set_floatx("bfloat16")
    try:  # 257 is no bfloat16
        assert numpy(CrossEntropy(from_logits=True)(np.array([257]), many)) < 0.1
    finally:
        keras.config.set_floatx("float32")
    with pytest.raises(ValueError, match="float32 or float64, got 'bfloat16'"):
        Adma(dtype="bfloat16")


def test_posteriors():
    for name in ("adma:a=0.3", "focal:gamma=2", "sce", "bi_tempered"):
        got = adma_keras.make_loss(name, from_logits=True).posterior(LOGITS)
        np.testing.assert_allclose(numpy(got), reference.posterior(spec.parse(name), LOGITS), rtol=1e-4, atol=1e-6)
    pair = np.stack([np.zeros(8), LOGITS[:, 0]], 1)
    got = BinaryAdma(from_logits=True, a=0.3).posterior(LOGITS[:, 0])
    np.testing.assert_allclose(numpy(got), reference.posterior(family.Adma(0.3), pair)[:, 1], rtol=1e-4)
    with pytest.raises(ValueError, match="linear in p"):
        adma_keras.MeanAbsoluteError().posterior(LOGITS)


def test_binary_targets_are_never_broadcast():
    with pytest.raises(ValueError, match=r"must have the same shape, got \(8, 1\) and \(8, 4\)"):
        BinaryAdma(from_logits=True)(INDEX[:, None], LOGITS)


@pytest.mark.parametrize(
    ("target", "said"), [(SOFT[:, :3], "y_true must be class indices"), (SOFT[..., None], "y_true must be class")]
)
def test_shapes_that_do_not_fit_are_refused(target, said):
    with pytest.raises(ValueError, match=said):
        Adma(from_logits=True)(target, LOGITS)


def test_parameters_are_checked_and_shown():
    assert list(inspect.signature(Adma).parameters)[-3:] == ["a", "base", "normalize"]
    with pytest.raises(ValueError, match="a must be in"):
        Adma(a=0.0)
    with pytest.raises(TypeError, match="gamma"):
        Adma(gamma=1.0)
    with pytest.raises(ValueError, match="no binary form"):
        adma_keras.make_loss("mse", binary=True)


# -- models -------------------------------------------------------------------------------------------------

INPUTS = RNG.normal(size=(64, 8)).astype("float32")
TARGET = (INPUTS @ RNG.normal(size=(8, 3))).argmax(1)


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])


@pytest.mark.parametrize("member", [*exact.EACH, *exact.CLASSICS], ids=exact.name)
def test_a_loss_goes_through_its_configuration(member):
    loss = adma_keras.make_loss(member, from_logits=True, label_smoothing=0.05, name="mine", reduction="sum")
    back = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(back) is type(loss)
    assert back.get_config() == loss.get_config()
    assert back.member == (spec.parse(member) if isinstance(member, str) else member)


@pytest.mark.parametrize("target", [TARGET, np.eye(3)[TARGET]], ids=["sparse", "categorical"])
def test_a_compiled_model_learns_and_is_saved_with_its_loss(target, tmp_path):
    m = model()
    m.compile(keras.optimizers.Adam(0.1), loss=Adma(from_logits=True, a=0.31), metrics=["accuracy"])
    m.fit(INPUTS, target, epochs=8, batch_size=16, verbose=0)
    value, accuracy = m.evaluate(INPUTS, target, verbose=0)
    assert accuracy > 0.9
    m.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.loss) is Adma
    assert again.loss.member == family.Adma(0.31)
    assert again.evaluate(INPUTS, target, verbose=0) == pytest.approx([value, accuracy], rel=1e-5)
    again.fit(INPUTS, target, epochs=1, verbose=0)


def test_a_general_and_a_binary_loss_are_saved_too(tmp_path):
    keras.utils.set_random_seed(0)
    m = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    m.compile("sgd", loss=BinaryAdma(from_logits=True, a=0.4))
    m.save(tmp_path / "binary.keras")
    assert keras.saving.load_model(tmp_path / "binary.keras").loss.member == family.Adma(0.4)
    m.compile("sgd", loss=FlexibleLoss("gce:q=0.5", from_logits=True))
    m.save(tmp_path / "general.keras")
    assert keras.saving.load_model(tmp_path / "general.keras").loss.member == family.GeneralizedCrossEntropy(0.5)


def test_a_schedule_moves_the_loss_without_compiling_again(tmp_path):
    m, loss = model(), Adma(from_logits=True, normalize=True)
    traced = []
    compute = loss.call
    loss.call = lambda y_true, y_pred: traced.append(1) or compute(y_true, y_pred)
    m.compile(keras.optimizers.SGD(0.0), loss=loss, metrics=["accuracy"])
    m.fit(INPUTS, TARGET, epochs=1, batch_size=16, verbose=0)  # compiled with a plain number
    del traced[:]
    schedule = ShapeScheduler(loss, a="linear/0.01/0.4")
    assert loss.member.a == 0.01
    history = m.fit(INPUTS, TARGET, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=[schedule]).history
    if keras.config.backend() != "torch":  # which runs it at each step, uncompiled
        assert len(traced) <= 2
    assert history["a"] == pytest.approx([0.01 + 0.39 * 4 / 8, 0.4])
    values = [0.01 + 0.39 * k / 8 for k in range(8)]
    logits = numpy(m(INPUTS))
    batches = [slice(16 * k, 16 * k + 16) for k in range(4)]
    expected = [
        np.mean(
            [rows(family.Adma(values[4 * e + k], normalize=True), TARGET[b], logits[b]) for k, b in enumerate(batches)]
        )
        for e in range(2)
    ]
    assert history["loss"] == pytest.approx(expected, rel=1e-5)
    # afterwards it is a loss with the last value, also in what was compiled, and no metric is left
    final = rows(family.Adma(0.4, normalize=True), TARGET, logits).mean()
    assert m.evaluate(INPUTS, TARGET, verbose=0) == pytest.approx([final, m.evaluate(INPUTS, TARGET, verbose=0)[1]])
    m.save(tmp_path / "scheduled.keras")
    again = keras.saving.load_model(tmp_path / "scheduled.keras")
    assert again.loss.member == family.Adma(0.4, normalize=True)
    assert again.evaluate(INPUTS, TARGET, verbose=0)[0] == pytest.approx(final, rel=1e-5)


@pytest.mark.parametrize("again", ["the same", "a new one", "a new loss"])
def test_after_an_interrupted_fit_another_is_as_if_it_were_the_first(again):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    m, loss = model(), Adma(from_logits=True, normalize=True)
    m.compile("sgd", loss=loss)
    schedule = ShapeScheduler(loss, a="linear/0.1/0.4")
    with pytest.raises(KeyboardInterrupt):
        m.fit(INPUTS, TARGET, epochs=2, verbose=0, callbacks=[schedule, Interrupt()])
    if again == "a new loss":
        loss = Adma(from_logits=True, normalize=True)
        m.compile("sgd", loss=loss)
    if again != "the same":
        schedule = ShapeScheduler(loss, a="linear/0.1/0.4")
    history = m.fit(INPUTS, TARGET, epochs=2, verbose=0, callbacks=[schedule]).history
    assert set(history) == {"loss", "a"}
    assert history["a"] == pytest.approx([0.25, 0.4])
    assert [metric.name for metric in m.metrics] == ["loss"]


def test_two_losses_of_a_model_have_a_schedule_each():
    start = keras.Input((INPUTS.shape[1],))
    m = keras.Model(start, [keras.layers.Dense(4)(start), keras.layers.Dense(4)(start)])
    first, second = (Adma(from_logits=True, normalize=True) for _ in range(2))
    m.compile("sgd", loss=[first, second])
    schedules = [ShapeScheduler(first, a="linear/0.1/0.4"), ShapeScheduler(second, a="linear/0.3/0.2")]
    for _ in range(2):
        history = m.fit(INPUTS, [TARGET, TARGET], epochs=2, verbose=0, callbacks=schedules).history
        assert history["a"] == pytest.approx([0.25, 0.4])
        assert history["a_1"] == pytest.approx([0.25, 0.2])
        assert (first.member.a, second.member.a) == (0.4, 0.2)
        assert not {"a", "a_1"} & {metric.name for metric in m.metrics}


def test_a_schedule_goes_on_and_says_what_it_cannot():
    m, loss = model(), Adma(from_logits=True, normalize=True)
    m.compile("sgd", loss=loss)
    schedule = ShapeScheduler(loss, a="linear/0.1/0.4")
    history = m.fit(INPUTS, TARGET, initial_epoch=2, epochs=3, batch_size=32, verbose=0, callbacks=[schedule]).history
    assert history["a"] == pytest.approx([0.4])
    with pytest.raises(RuntimeError, match="made for 1 batches"):
        m.fit(INPUTS, TARGET, batch_size=32, verbose=0, callbacks=[ShapeScheduler(loss, 1, a="linear/0.1/0.4")])


def test_where_an_epoch_has_an_unknown_number_of_batches_the_schedule_does_not_guess():
    def batches(count):
        for _ in range(count):
            yield INPUTS[:32], TARGET[:32]

    m, loss = model(), Adma(from_logits=True, normalize=True)
    m.compile("sgd", loss=loss)
    schedule = ShapeScheduler(loss, 4, a="linear/0.1/0.5")
    history = m.fit(batches(9), steps_per_epoch=2, initial_epoch=1, epochs=2, verbose=0, callbacks=[schedule]).history
    assert history["a"] == pytest.approx([0.5])
    assert m.fit(batches(4), verbose=0, callbacks=[schedule]).history["a"] == pytest.approx([0.5])
    assert numpy(loss.variable("a")) == loss.member.a == 0.5
    with pytest.raises(ValueError, match="where in the schedule initial_epoch=1 is; give fit steps_per_epoch"):
        m.fit(batches(4), initial_epoch=1, epochs=2, verbose=0, callbacks=[schedule])
    with pytest.raises(ValueError, match="give ShapeScheduler total_steps"):
        m.fit(batches(4), verbose=0, callbacks=[ShapeScheduler(loss, a="linear/0.1/0.5")])


def test_a_schedule_refuses_what_is_no_loss_and_no_parameter():
    loss = Adma(from_logits=True, normalize=True)
    with pytest.raises(ValueError, match="no number 'b' to change"):
        ShapeScheduler(loss, b=0.3)
    with pytest.raises(TypeError, match=r"must be a loss of adma\.keras"):
        ShapeScheduler("adma", a=0.3)
