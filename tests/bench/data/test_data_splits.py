"""Splits: stratified, disjoint, the same for the same seed, and never without a class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adma.bench.data import Dataset
from adma.bench.data.splits import draw_held_out, make_split
from adma.bench.errors import BenchError


def dataset(counts, parts=None, seed=0) -> Dataset:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    x = np.zeros((len(y), 1), dtype=np.float32)
    return Dataset("d", x, y, tuple(f"c{i}" for i in range(len(counts))), parts)


def split(data, *, seed=0, train_size=None, val_fraction=0.2, test_fraction=0.2, **options):
    return make_split(
        data, seed=seed, train_size=train_size, val_fraction=val_fraction, test_fraction=test_fraction, **options
    )


def per_class(data, indices):
    return np.bincount(data.y[indices], minlength=data.num_classes)


fraction = st.floats(0.01, 0.49)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6),
    val_fraction=fraction,
    test_fraction=fraction,
    seed=st.integers(0, 2**63 - 1),
    share=st.none() | st.floats(0, 1),
    stated=st.sampled_from([None, "test", "val", "both"]),
    data=st.data(),
)
def test_properties(counts, val_fraction, test_fraction, seed, share, stated, data):
    own = {"test": ["test"], "val": ["val"], "both": ["test", "val"], None: []}[stated]
    parts = None
    extra = data.draw(st.integers(1, 10))
    ds = dataset(counts)
    if own:
        y = np.concatenate([ds.y, np.zeros(extra * len(own), dtype=np.int64)])
        unlabelled = data.draw(st.sampled_from(["", "train"]))
        parts = np.array([unlabelled] * len(ds) + [p for p in own for _ in range(extra)], dtype="U5")
        ds = Dataset("d", np.zeros((len(y), 1), dtype=np.float32), y, ds.class_names, parts)
    whole = split(ds, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction)
    train_size = None
    if share is not None:
        train_size = len(counts) + int(share * (len(whole.train) - len(counts)))
    got = split(ds, seed=seed, train_size=train_size, val_fraction=val_fraction, test_fraction=test_fraction)

    for indices in (got.train, got.val, got.test):
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()
    together = np.concatenate([got.train, got.val, got.test])
    assert len(set(together.tolist())) == len(together)
    if train_size is None:
        assert len(together) == len(ds)
    else:
        assert len(got.train) == train_size
        assert set(got.train) <= set(whole.train)
    assert per_class(ds, got.train).min() >= 1
    np.testing.assert_array_equal(got.test, whole.test)
    np.testing.assert_array_equal(got.val, whole.val)
    for part, indices, f in (("test", got.test, test_fraction), ("val", got.val, val_fraction)):
        if part in own:
            np.testing.assert_array_equal(indices, np.flatnonzero(parts == part))
        else:
            here = per_class(ds, indices)
            assert here.min() >= 1
            assert (np.abs(here - np.array(counts) * f) <= 1).all()
    again = split(ds, seed=seed, train_size=train_size, val_fraction=val_fraction, test_fraction=test_fraction)
    assert again.fingerprint == got.fingerprint


def test_fractions_are_of_all_samples():
    data = dataset([100, 50])
    got = split(data, val_fraction=0.3, test_fraction=0.2)
    assert per_class(data, got.test).tolist() == [20, 10]
    assert per_class(data, got.val).tolist() == [30, 15]
    assert per_class(data, got.train).tolist() == [50, 25]


def test_seeds_differ_and_a_seed_is_for_ever():
    data = dataset([100, 50])
    assert len({split(data, seed=s).fingerprint for s in range(20)}) == 20
    # Stored results are paired by this: if it changes, so must the schema of a cell.
    assert split(dataset([4, 4]), seed=0).test.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("counts", "parts", "options", "fingerprint"),
    [
        ([30, 40, 50], None, {"seed": 0}, "e118e644c7d83dc5"),
        (
            [30, 40, 50], None, {"seed": 1, "train_size": 25, "val_fraction": 0.1, "test_fraction": 0.3},
            "ad9e1fbeeca166a3",
        ),
        ([7, 3, 90], None, {"seed": 2**63, "val_fraction": 0.25, "test_fraction": 0.1}, "3ac603bf82e0ed86"),
        ([20, 20], ["train"] * 30 + ["test"] * 10, {"seed": 5, "train_size": 11}, "593bb1178ddee404"),
        ([20, 20], [""] * 25 + ["val"] * 6 + ["train"] * 9, {"seed": 9, "test_fraction": 0.33}, "b12983f5129312b0"),
    ],
)  # fmt: skip
def test_splits_of_stored_results_do_not_change(counts, parts, options, fingerprint):
    data = dataset(counts, None if parts is None else np.array(parts, dtype="U5"))
    assert split(data, **options).fingerprint == fingerprint  # from version 0.1.0, before there were groups
    data = replace(data, groups=np.arange(len(data)) // 3)
    assert split(data, **options, grouped=False).fingerprint == fingerprint


def test_test_samples_depend_only_on_the_seed_and_their_fraction():
    data = dataset([30, 4, 3])
    tests = {
        split(data, val_fraction=v).fingerprint: split(data, val_fraction=v).test.tolist() for v in (0.05, 0.4, 0.7)
    }
    assert len(tests) == 3
    assert len({tuple(t) for t in tests.values()}) == 1


def test_train_size_keeps_proportions():
    data = dataset([600, 300, 10])
    got = split(data, train_size=91)
    assert per_class(data, got.train).tolist() == [60, 30, 1]
    assert per_class(data, split(data, train_size=3).train).tolist() == [1, 1, 1]


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6),
    one=fraction,
    other=fraction,
    size=st.none() | st.floats(0, 1),
    seed=st.integers(0, 2**56),
)
def test_a_share_of_the_training_part_is_of_each_class_and_nested_and_leaves_val_and_test(
    counts, one, other, size, seed
):
    ds = dataset(counts)
    whole = split(ds, seed=seed)
    size = None if size is None else len(counts) + int(size * (len(whole.train) - len(counts)))
    whole = split(ds, seed=seed, train_size=size)
    few, more = (split(ds, seed=seed, train_size=size, train_fraction=f) for f in sorted((one, other)))
    assert set(few.train) <= set(more.train) <= set(whole.train)
    expected = np.maximum(1, np.floor(max(one, other) * per_class(ds, whole.train) + 0.5))
    np.testing.assert_array_equal(per_class(ds, more.train), expected)
    for part in ("val", "test"):
        np.testing.assert_array_equal(getattr(few, part), getattr(whole, part))


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6), share=st.floats(0.01, 0.99), seed=st.integers(0, 2**56)
)
def test_what_is_held_out_has_its_share_of_every_class_and_leaves_one(counts, share, seed):
    y = dataset(counts).y
    held = draw_held_out(y, [f"c{i}" for i in range(len(counts))], share=share, seed=seed)
    assert (np.diff(held) > 0).all()
    found = np.bincount(y[held], minlength=len(counts))
    assert found.tolist() == [min(max(1, int(np.floor(share * n + 0.5))), n - 1) for n in counts]
    np.testing.assert_array_equal(held, draw_held_out(y, ["?"] * len(counts), share=share, seed=seed))


def test_groups_are_held_out_as_wholes():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 5))
    y = (groups % 4).astype(np.int64)
    held = draw_held_out(y, list("abcd"), share=0.2, seed=3, groups=groups)
    out, left = set(groups[held]), set(np.delete(groups, held))
    assert not out & left
    assert np.bincount(y[held]).tolist() == [10] * 4
    by_sample = draw_held_out(y, list("abcd"), share=0.2, seed=3)
    assert set(groups[by_sample]) & set(np.delete(groups, by_sample))


@pytest.mark.parametrize(
    ("counts", "groups", "share", "words"),
    [
        ([5, 1], None, 0.1, r"a class needs at least 2 samples to be divided into train, held out, but 'c1' has 1"),
        ([5, 0, 4], None, 0.1, r"'c1' has 0"),
        ([5, 4], [0, 1, 2, 3, 4, 5, 5, 5, 5], 0.1, r"needs at least 2 groups .* but 'c1' has 1"),
        ([5, 5], None, 0, r"held_out must be a number above 0 and below 1, got 0"),
    ],
)
def test_a_class_that_cannot_be_on_both_sides_is_named(counts, groups, share, words):
    y = np.repeat(np.arange(len(counts)), counts)
    with pytest.raises(BenchError, match=words):
        draw_held_out(
            y, ["c0", "c1", "c2"][: len(counts)], share=share, seed=0,
            groups=None if groups is None else np.array(groups),
        )  # fmt: skip


def test_own_parts_leave_their_fraction_unused():
    data = dataset([10, 10], np.array((["train"] * 14 + ["test"] * 6), dtype="U5"))
    assert split(data, test_fraction=0.9, val_fraction=0.2).test.tolist() == list(range(14, 20))


@pytest.mark.parametrize(
    ("counts", "options", "words"),
    [
        ([10, 2], {}, ["at least 3", "'c1' has 2", "train, val, test"]),
        ([10, 0], {}, ["'c1' has 0"]),
        ([10] + [1] * 7, {}, ["'c5' has 1", "and 2 more"]),
        ([10, 10], {"train_size": 1}, ["--train-size", "between 2", "12", "got 1"]),
        ([10, 10], {"train_size": 13}, ["--train-size", "12", "got 13"]),
        ([10, 10], {"train_size": 0}, ["--train-size"]),
        ([10, 10], {"train_size": 5.0}, ["--train-size", "5.0"]),
        ([10, 10], {"train_size": True}, ["--train-size", "True"]),
        ([10, 10], {"eval_size": 0}, ["--eval-size", "got 0"]),
        ([10, 10], {"eval_size": 2.5}, ["--eval-size", "2.5"]),
        ([10, 10], {"seed": -1}, ["--seed", "-1"]),
        ([10, 10], {"seed": 1.5}, ["--seed"]),
        ([10, 10], {"val_fraction": 0}, ["--val-fraction", "got 0"]),
        ([10, 10], {"val_fraction": 1.0}, ["--val-fraction"]),
        ([10, 10], {"test_fraction": float("nan")}, ["--test-fraction", "nan"]),
        ([10, 10], {"test_fraction": "0.2"}, ["--test-fraction"]),
        ([10, 10], {"test_fraction": 0.5, "val_fraction": 0.5}, ["nothing to train on"]),
    ],
)
def test_refused(counts, options, words):
    with pytest.raises(BenchError) as caught:
        split(dataset(counts), **options)
    for word in words:
        assert word in str(caught.value)


def test_a_class_missing_from_train_is_named():
    parts = np.array(["train"] * 10 + ["test"] * 5, dtype="U5")
    y = np.array([0, 1] * 5 + [2] * 5)
    data = Dataset("d", np.zeros((15, 1), dtype=np.float32), y, ("a", "b", "<i>\n"), parts)
    with pytest.raises(BenchError, match=r"'<i>\\n' has 0"):
        split(data)


# -- measuring on fewer samples -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6), eval_size=st.integers(1, 60), seed=st.integers(0, 99)
)
def test_eval_size_takes_some_of_each_class_whatever_is_trained_on(counts, eval_size, seed):
    data = dataset(counts)
    whole = split(data, seed=seed)
    got = split(data, seed=seed, eval_size=eval_size)
    np.testing.assert_array_equal(got.train, whole.train)
    for part in ("val", "test"):
        all_of_it, some = getattr(whole, part), getattr(got, part)
        assert set(some) <= set(all_of_it)
        assert len(some) == min(eval_size, len(all_of_it))
        assert (np.diff(some) > 0).all()
        here, ideal = per_class(data, some), per_class(data, all_of_it) * (len(some) / len(all_of_it))
        assert (here >= 1).sum() == min(len(counts), len(some))
        if len(some) >= len(counts):
            assert (np.abs(here - ideal) <= np.maximum(1, len(counts) - 1)).all()
    fewer = split(data, seed=seed, eval_size=eval_size, train_size=len(counts))
    np.testing.assert_array_equal(fewer.val, got.val)
    np.testing.assert_array_equal(fewer.test, got.test)


def test_eval_size_keeps_proportions_and_holds_for_own_parts():
    y = np.array([0] * 160 + [1] * 40 + [0] * 80 + [1] * 20)
    parts = np.array(["train"] * 200 + ["test"] * 100, dtype="U5")
    data = Dataset("d", np.zeros((300, 1), dtype=np.float32), y, ("a", "b"), parts)
    got = split(data, eval_size=10)
    assert per_class(data, got.test).tolist() == [8, 2]
    assert per_class(data, got.val).tolist() == [8, 2]
    assert len(got.train) == 160
    assert split(data, eval_size=1000).fingerprint == split(data).fingerprint
    others = {tuple(split(data, seed=s, eval_size=10).test.tolist()) for s in range(20)}
    assert len(others) == 20
