"""Groups: what belongs together stays together, each part is as large as whole groups allow."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adma.bench.data import Dataset
from adma.bench.data.arrays import from_mapping
from adma.bench.data.groups import joined, take_groups
from adma.bench.data.splits import make_split
from adma.bench.errors import BenchError

FRACTIONS = {"val_fraction": 0.2, "test_fraction": 0.25, "train_size": None}


def dataset(y, groups, parts=None) -> Dataset:
    y = np.asarray(y, dtype=np.int64)
    names = tuple(f"c{i}" for i in range(y.max() + 1))
    return Dataset("d", np.zeros((len(y), 1), np.float32), y, names, parts, (), np.asarray(groups, dtype=np.int64))


def parts_of(split):
    return {"train": split.train, "val": split.val, "test": split.test}


# -- splits -------------------------------------------------------------------------------------------------


@st.composite
def grouped_data(draw):
    """Groups of 1 to 5 samples, mostly of one class, in any order."""
    classes = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=15), min_size=classes, max_size=classes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y, groups = [], []
    for label, of_class in enumerate(sizes):
        for size in of_class:
            labels = [label] * size
            if size >= 3 and rng.random() < 0.3:
                labels[0] = int(rng.integers(classes))  # a photograph that sits in two classes
            y += labels
            groups += [len(set(groups))] * size
    order = rng.permutation(len(y))
    names = rng.permutation(len(set(groups)))  # the numbers mean nothing
    return dataset(np.array(y)[order], names[np.array(groups)[order]])


@settings(max_examples=150, deadline=None)
@given(data=grouped_data(), seed=st.integers(0, 2**63), share=st.none() | st.floats(0, 1))
def test_no_group_stands_in_two_parts(data, seed, share):
    got = make_split(data, seed=seed, **FRACTIONS)
    together = np.concatenate(list(parts_of(got).values()))
    assert sorted(together.tolist()) == list(range(len(data)))
    if share is not None:
        size = data.num_classes + int(share * (len(got.train) - data.num_classes))
        fewer = make_split(data, seed=seed, **{**FRACTIONS, "train_size": size})
        assert len(fewer.train) == size
        assert set(fewer.train) <= set(got.train)
        np.testing.assert_array_equal(fewer.test, got.test)
        np.testing.assert_array_equal(fewer.val, got.val)
        got = fewer
    for a, b in itertools.combinations(parts_of(got).values(), 2):
        assert not set(data.groups[a]) & set(data.groups[b])
    for indices in parts_of(got).values():
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()
        assert len(set(data.y[indices])) == data.num_classes
    assert make_split(data, seed=seed, **FRACTIONS).test.tolist() == got.test.tolist()


@settings(max_examples=60, deadline=None)
@given(data=grouped_data(), seed=st.integers(0, 1000))
def test_a_part_is_as_large_as_whole_groups_allow(data, seed):
    """Held against every choice of groups, class by class, for the part that is drawn first."""
    test = set(make_split(data, seed=seed, **FRACTIONS).test.tolist())
    for label in range(data.num_classes):
        sizes, taken = [], 0
        for group in np.unique(data.groups):
            members = np.flatnonzero(data.groups == group)
            if np.bincount(data.y[members], minlength=data.num_classes).argmax() == label:
                sizes.append(len(members))
                taken += len(members) if members[0] in test else 0
        sums = {0}
        for size in sizes:
            sums |= {s + size for s in sums}
        target = max(1, int(0.25 * sum(sizes) + 0.5))
        best = min(abs(s - target) for s in sums - {0})
        if len(sizes) >= 6:  # with few groups, one each must be left for val and train
            assert abs(taken - target) == best


def test_singletons_are_divided_as_if_there_were_no_groups():
    y = np.random.default_rng(0).integers(0, 3, 200)
    data = dataset(y, np.random.default_rng(1).permutation(200))
    for seed in range(5):
        with_groups = make_split(data, seed=seed, **FRACTIONS)
        assert with_groups.fingerprint == make_split(data, seed=seed, grouped=False, **FRACTIONS).fingerprint


def test_the_groups_numbers_do_not_matter_and_neither_do_the_other_fractions():
    groups = np.random.default_rng(0).integers(0, 60, 200)
    data = dataset(groups % 3, groups)
    other = dataset(data.y, (groups * 7919) % 1009)
    assert make_split(data, seed=3, **FRACTIONS).fingerprint == make_split(other, seed=3, **FRACTIONS).fingerprint
    options = {**FRACTIONS, "val_fraction": 0.4}
    assert make_split(data, seed=3, **options).test.tolist() == make_split(data, seed=3, **FRACTIONS).test.tolist()
    assert len({make_split(data, seed=s, **FRACTIONS).fingerprint for s in range(20)}) == 20


def test_by_sample_groups_are_divided():
    data = dataset([0, 1] * 30, np.arange(60) // 10)
    got = make_split(data, seed=0, grouped=False, **FRACTIONS)
    assert set(data.groups[got.train]) & set(data.groups[got.test])
    plain = replace(data, groups=None)
    assert got.fingerprint == make_split(plain, seed=0, **FRACTIONS).fingerprint


def test_too_few_groups_of_a_class():
    with pytest.raises(BenchError, match=r"at least 3 groups .*'c1' has 2"):
        make_split(dataset([0] * 9 + [1] * 9, [*range(9), *[100] * 5, *[101] * 4]), seed=0, **FRACTIONS)


def test_own_parts_that_divide_a_group():
    parts = np.array(["train"] * 12 + ["test"] * 4, dtype="U5")
    groups = [*range(12), 100, 101, 102, 3]
    data = dataset([0, 1] * 8, groups, parts)
    with pytest.raises(BenchError, match=r"divide 1 groups .*3 \(train\), 15 \(test\).*--by-sample"):
        make_split(data, seed=0, **FRACTIONS)
    assert make_split(data, seed=0, grouped=False, **FRACTIONS).test.tolist() == [12, 13, 14, 15]
    whole = make_split(dataset([0, 1] * 8, [*range(15), 14], parts), seed=0, **FRACTIONS)
    assert whole.test.tolist() == [12, 13, 14, 15]


# -- the pieces ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.integers(1, 30), st.data())
def test_take_groups_finds_the_best_sum(sizes, target, data):
    most = data.draw(st.integers(1, len(sizes)))
    taken = take_groups(sizes, target, most)
    assert taken == sorted(set(taken))
    assert 1 <= len(taken) <= most
    if most == len(sizes):
        sums = {sum(c) for n in range(1, len(sizes) + 1) for c in itertools.combinations(sizes, n)}
        assert abs(sum(sizes[n] for n in taken) - target) == min(abs(s - target) for s in sums)


def test_take_groups_of_many_is_near_the_target_too():
    sizes = np.random.default_rng(0).integers(1, 7, 30_000).tolist()
    taken = take_groups(sizes, 40_000, len(sizes) - 2)
    assert sum(sizes[n] for n in taken) == 40_000
    assert take_groups([3] * 30_000, 40_000, 30_000)[-1] == 13_332  # 39,999 samples


def test_groups_are_joined_over_any_number_of_keys():
    names = ["a", None, "b", "a", None, "c", None]
    content = [1, 1, 2, 3, 4, 2, 5]
    assert joined(7, names, content).tolist() == [0, 0, 1, 0, 2, 1, 3]
    assert joined(3).tolist() == [0, 1, 2]
    assert joined(2, [None, None]).tolist() == [0, 1]


# -- where they come from and what they do to a fingerprint ----------------------------------------------------


def test_fingerprints_of_data_without_groups_are_as_before():
    y = np.array([0, 1, 0, 1])
    plain = Dataset("d", np.arange(8, dtype=np.float32).reshape(4, 2), y, ("a", "b"))
    assert plain.fingerprint == "2dc23b022182b798"  # of version 0.1.0
    assert replace(plain, parts=np.array(["", "train", "test", "val"])).fingerprint == "9fe924669a71efd3"
    one, two = replace(plain, groups=np.array([0, 0, 1, 1])), replace(plain, groups=np.array([0, 1, 1, 0]))
    assert len({plain.fingerprint, one.fingerprint, two.fingerprint}) == 3


def test_groups_of_arrays():
    x, y = np.zeros((4, 2)), [0, 1, 0, 1]
    data = from_mapping("DATA t", "t", {"x": x, "y": y, "groups": ["p7", "p1", "p7", "p3"]})
    assert data.groups.tolist() == [0, 1, 0, 2]
    assert data.groups.dtype == np.int64
    assert from_mapping("DATA t", "t", {"x": x, "y": y, "groups": [9, 9, -1, 9]}).groups.tolist() == [0, 0, 1, 0]
    assert from_mapping("DATA t", "t", {"x": x, "y": y}).groups is None
    for wrong, words in (([1, 2], "groups must have shape"), ([0.5] * 4, "must be strings, got dtype float64")):
        with pytest.raises(BenchError, match=words):
            from_mapping("DATA t", "t", {"x": x, "y": y, "groups": wrong})


def test_groups_of_a_function_of_the_users_are_kept(tmp_path, monkeypatch):
    from adma.bench.data.catalog import load

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_grouped_data.py").write_text(
        "import numpy as np\nfrom adma.bench.data import Dataset\n"
        "def load():\n    y = np.array([0, 1] * 3)\n"
        "    groups = np.array([5, 5, 6, 6, 7, 7])\n"
        "    return Dataset('mine', np.zeros((6, 2), np.float32), y, ('a', 'b'), None, (), groups)\n"
    )
    assert load("my_grouped_data:load").groups.tolist() == [0, 0, 1, 1, 2, 2]
