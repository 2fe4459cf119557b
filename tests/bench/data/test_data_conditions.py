"""Label noise and imbalance: counted exactly, drawn by seed, nested, in one spelling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adma.bench.data.conditions import (
    Imbalance,
    LabelNoise,
    canonical_conditions,
    describe_conditions,
    parse_imbalance,
    parse_label_noise,
)
from adma.bench.errors import BenchError
from adma.bench.study import Setting

SETTING = Setting("d", "h")
TEN = tuple(f"c{i}" for i in range(10))


def labels(counts: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)


counts = st.lists(st.integers(1, 60), min_size=2, max_size=7)
rates = st.floats(0.01, 0.99)
kinds = st.sampled_from(LabelNoise.kinds)


@given(counts, rates, kinds, st.integers(0, 2**56))
def test_of_each_class_exactly_the_rate_is_false_and_one_stays_true(
    sizes: list[int], rate: float, kind: str, seed: int
) -> None:
    y = labels(sizes)
    kept = y.copy()
    noisy = LabelNoise(rate, kind).relabel(y, len(sizes), seed)
    np.testing.assert_array_equal(y, kept)  # the data set's own labels are not written to
    assert noisy.dtype == np.int64
    assert (noisy >= 0).all()
    assert (noisy < len(sizes)).all()
    false = np.bincount(y[noisy != y], minlength=len(sizes))  # none becomes itself, or fewer would be false
    assert false.tolist() == [min(math.floor(rate * n + 0.5), n - 1) for n in sizes]
    if kind == "pair":
        np.testing.assert_array_equal(noisy[noisy != y], (y[noisy != y] + 1) % len(sizes))
    assert set(noisy) == set(range(len(sizes)))


@given(counts, rates, rates, kinds, st.integers(0, 2**56))
def test_a_higher_rate_falsifies_what_a_lower_one_does_in_the_same_way(
    sizes: list[int], one: float, other: float, kind: str, seed: int
) -> None:
    y = labels(sizes)
    low, high = (LabelNoise(rate, kind).relabel(y, len(sizes), seed) for rate in sorted((one, other)))
    np.testing.assert_array_equal(high[low != y], low[low != y])


def test_forty_percent_of_symmetric_noise_is_forty_percent_wrong_and_every_other_class_as_likely() -> None:
    y = labels([3000] * 4)
    noisy = LabelNoise(0.4, "symmetric").relabel(y, 4, seed=1)
    assert (noisy != y).mean() == 0.4
    for label in range(4):
        found = np.bincount(noisy[(y == label) & (noisy != y)], minlength=4)
        assert found[label] == 0
        assert stats.chisquare(np.delete(found, label)).pvalue > 1e-3  # 400 each, but for chance


def test_which_samples_are_falsified_is_uniform_too() -> None:
    y = labels([10, 10])
    times = sum((LabelNoise(0.3, "pair").relabel(y, 2, seed) != y).astype(int) for seed in range(2000))
    assert stats.chisquare(times).pvalue > 1e-3  # 600 each


def test_seeds_draw_other_labels_and_a_seed_is_for_ever() -> None:
    y = labels([20] * 5)
    noise = LabelNoise(0.5, "symmetric")
    assert noise.relabel(y, 5, 0).tolist() == noise.relabel(y, 5, 0).tolist() != noise.relabel(y, 5, 1).tolist()
    # Stored results rest on these draws.
    assert noise.relabel(np.arange(12) % 3, 3, 7).tolist() == STORED_LABELS
    assert Imbalance(3, "exp").keep(np.arange(30) % 3, ("a", "b", "c"), 7).tolist() == STORED_PLACES


STORED_LABELS = [2, 2, 0, 0, 1, 2, 2, 0, 2, 0, 1, 0]
STORED_PLACES = [0, 3, 6, 7, 9, 10, 12, 13, 14, 15, 18, 20, 21, 23, 24, 25, 27, 28]


def test_with_two_classes_both_kinds_are_the_same() -> None:
    y = labels([30, 20])
    one, other = (LabelNoise(0.4, kind).relabel(y, 2, 3) for kind in LabelNoise.kinds)
    np.testing.assert_array_equal(one, other)


# Long-tailed CIFAR-10 as published with Cui 2019's and Cao 2019's code, 5,000 images a class.
CIFAR10_LT = {
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
}


@pytest.mark.parametrize("ratio", CIFAR10_LT)
def test_exponential_imbalance_has_the_published_counts(ratio: int) -> None:
    assert Imbalance(ratio, "exp").counts(np.full(10, 5000), TEN).tolist() == CIFAR10_LT[ratio]


def test_step_imbalance_thins_the_second_half_of_the_classes() -> None:
    assert Imbalance(100, "step").counts(np.full(4, 5000), TEN[:4]).tolist() == [5000, 5000, 50, 50]
    assert Imbalance(10, "step").counts(np.full(5, 100), TEN[:5]).tolist() == [100, 100, 100, 10, 10]
    assert Imbalance(4, "step").counts(np.array([40, 10]), TEN[:2]).tolist() == [40, 10]


def test_the_ratio_is_as_asked_for_where_the_data_are_imbalanced_themselves() -> None:
    for available in ([900, 50, 400], [50, 900, 400], [400, 900, 50]):
        for kind in Imbalance.kinds:
            found = Imbalance(4, kind).counts(np.array(available), TEN[:3])
            assert (found <= available).all()
            assert 4 <= found[0] / found[-1] < 4 * (1 + 1 / found[-1])


@given(counts, st.floats(1.01, 100), st.sampled_from(Imbalance.kinds), st.integers(0, 2**56))
def test_imbalance_keeps_samples_that_there_are_and_some_of_every_class(
    sizes: list[int], ratio: float, kind: str, seed: int
) -> None:
    y, imbalance = labels(sizes), Imbalance(ratio, kind)
    try:
        kept = imbalance.keep(y, TEN[: len(sizes)], seed)
    except BenchError:
        c = np.arange(len(sizes))
        exponent = c / (len(sizes) - 1) if kind == "exp" else 1.0 * (c >= len(sizes) / 2)
        assert not any((n * ratio**-exponent <= sizes).all() for n in range(math.ceil(ratio), max(sizes) + 1))
        return
    assert (np.diff(kept) > 0).all()
    found = np.bincount(y[kept], minlength=len(sizes))
    assert found.min() >= 1
    assert (found <= sizes).all()
    assert found.tolist() == sorted(found, reverse=True)  # rarer from class to class
    assert found[-1] == math.floor(found[0] / ratio + 1e-9)


@given(st.floats(1.01, 9), st.floats(1.01, 9), st.sampled_from(Imbalance.kinds))
def test_a_higher_ratio_keeps_a_part_of_what_a_lower_one_keeps(one: float, other: float, kind: str) -> None:
    y = labels([50] * 4)
    low, high = (Imbalance(ratio, kind).keep(y, TEN[:4], seed=5) for ratio in sorted((one, other)))
    assert set(high) <= set(low)


def test_more_imbalance_than_samples_is_refused_with_the_class_that_would_be_empty() -> None:
    words = (
        r"--imbalance 100:exp: no sample of class 'c3' would be left: .* can have 60, as 'c0' has 60,.*lower the ratio"
    )
    with pytest.raises(BenchError, match=words):
        Imbalance(100, "exp").counts(np.array([60, 80, 80, 80]), TEN[:4])
    with pytest.raises(BenchError, match="--imbalance 100:step: no sample of class 'c1'"):
        Imbalance(100, "step").keep(labels([99, 99]), TEN[:2], 0)
    assert Imbalance(100, "step").counts(np.array([100, 99]), TEN[:2]).tolist() == [100, 1]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("0.4", "0.4:symmetric"),
        (" 0.40 : symmetric ", "0.4:symmetric"),
        ("4e-1:pair", "0.4:pair"),
        ("none", None),
    ],
)
def test_label_noise_has_one_spelling(text: str, spec: str | None) -> None:
    noise = parse_label_noise(text)
    assert (noise.spec if noise else None) == spec
    assert noise is None or parse_label_noise(noise.spec) == noise


@pytest.mark.parametrize(
    ("text", "spec"), [("100", "100:exp"), ("100.0:exp", "100:exp"), ("2.5:step", "2.5:step"), ("none", None)]
)
def test_imbalance_has_one_spelling(text: str, spec: str | None) -> None:
    imbalance = parse_imbalance(text)
    assert (imbalance.spec if imbalance else None) == spec
    assert imbalance is None or parse_imbalance(imbalance.spec) == imbalance


@given(rates, st.floats(1.0000001, 1e300))
def test_a_spelling_loses_no_digit(rate: float, ratio: float) -> None:
    assert parse_label_noise(LabelNoise(rate, "pair").spec) == LabelNoise(rate, "pair")
    assert parse_imbalance(Imbalance(ratio, "step").spec) == Imbalance(ratio, "step")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"label_noise": "1.5"},
            r"--label-noise 1\.5: must be the share .* above 0 and below 1, got 1\.5; write such as",
        ),
        ({"label_noise": "0"}, "--label-noise 0: must be"),
        ({"label_noise": "1"}, "--label-noise 1: must be"),
        ({"label_noise": "nan"}, "--label-noise nan: must be"),
        ({"label_noise": "0.4:pairs"}, r"--label-noise 0\.4:pairs: 'pairs' is not known, did you mean 'pair'\?"),
        (
            {"label_noise": "0.4:"},
            "nothing stands behind the colon; write such as 0.4, 0.4:symmetric, 0.4:pair, or none",
        ),
        ({"label_noise": "pair:0.4"}, "'pair' is no number"),
        ({"label_noise": "0_4"}, "'0_4' is no number"),
        ({"label_noise": "noen"}, r"did you mean 'none'\?"),
        ({"label_noise": ""}, "'' is no number"),
        (
            {"imbalance": "0.5"},
            r"--imbalance 0\.5: must be the samples of the most .* above 1, got 0\.5; write such as 100",
        ),
        ({"imbalance": "1"}, "--imbalance 1: must be"),
        ({"imbalance": "inf"}, "--imbalance inf: must be"),
        ({"imbalance": "100:stpe"}, r"'stpe' is not known, did you mean 'step'\?"),
        ({"train_fraction": 1.0}, r"--train-fraction must be a number above 0 and below 1, got 1\.0"),
        ({"train_fraction": -0.5}, r"--train-fraction must be .* got -0\.5"),
        ({"noisy_val": True}, "--noisy-val gives .* but there is none; give --label-noise"),
        ({"noisy_val": True, "label_noise": "none"}, "--noisy-val gives .* but there is none"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(options: dict[str, object], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        canonical_conditions(options)


def test_what_is_not_given_is_at_the_settings_defaults() -> None:
    assert replace(SETTING, **canonical_conditions({})) == SETTING
    assert replace(SETTING, **canonical_conditions({"label_noise": "none", "imbalance": "none"})) == SETTING


def test_conditions_are_told_in_plain_words_and_nothing_is_said_of_data_as_they_are() -> None:
    assert describe_conditions(SETTING, TEN) == []
    clean = describe_conditions(replace(SETTING, label_noise="0.4:symmetric", train_fraction=0.6), TEN)
    assert clean == [
        "60% of the training part is trained on, drawn by class",
        "40% of the training labels are false, symmetric (any other class as likely); test and validation labels are "
        "clean",
    ]
    (noisy,) = describe_conditions(replace(SETTING, label_noise="0.25:pair", noisy_val=True), TEN)
    assert (
        noisy
        == "25% of the training and validation labels are false, pair flip (as the next class); test labels are clean"
    )
    (exp,) = describe_conditions(replace(SETTING, imbalance="100:exp"), TEN)
    assert "down to one sample of 'c9' for 100 of 'c0'; test and validation parts are as they were" in exp
    (step,) = describe_conditions(replace(SETTING, imbalance="20:step"), TEN)
    assert "each class of the second half, up to 'c9', has one sample for 20" in step


@pytest.mark.parametrize(
    ("spec", "classes", "hopeless"),
    [
        ("0.49:pair", 10, False),
        ("0.5:pair", 10, True),
        ("0.89:symmetric", 10, False),
        ("0.9:symmetric", 10, True),
        ("0.49:symmetric", 2, False),
        ("0.5:symmetric", 2, True),
    ],
)
def test_noise_that_hides_the_true_class_comes_with_a_warning(spec: str, classes: int, hopeless: bool) -> None:
    lines = describe_conditions(replace(SETTING, label_noise=spec), TEN[:classes])
    assert any(line.startswith("WARNING: label noise") for line in lines) == hopeless
    noise = parse_label_noise(spec)
    assert noise is not None
    y = np.repeat(np.arange(classes), 9000)
    found = noise.relabel(y, classes, 0)[:9000]
    others = np.bincount(found, minlength=classes)[1:].max()
    assert ((found == 0).sum() <= others) == hopeless  # what the warning says is so
