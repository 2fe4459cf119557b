"""Labels for each pixel and token: what is read, how it is divided, and every way to refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adma.bench.data import Dataset
from adma.bench.data.arrays import from_mapping
from adma.bench.data.catalog import load
from adma.bench.data.dataset import IGNORED, PLAIN, Kind, class_counts
from adma.bench.data.splits import draw_held_out, make_split
from adma.bench.errors import BenchError

SPLIT = {"train_size": None, "val_fraction": 0.25, "test_fraction": 0.25}


def made(**data):
    return from_mapping("DATA t", "t", data)


def segments(n: int = 8, size: tuple[int, int] = (4, 6), classes: int = 3) -> dict:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    return {"x": x, "y": rng.integers(0, classes, (n, *size)), "class_names": [f"c{k}" for k in range(classes)]}


def texts(n: int = 8, length: int = 5) -> dict:
    ids = np.random.default_rng(0).integers(0, 9, (n, length + 1))
    return {"x": ids[:, :-1], "y": ids[:, 1:], "class_names": [str(k) for k in range(9)]}


def test_a_label_for_each_pixel():
    given_ = segments()
    given_["y"][:, 0] = IGNORED
    data = made(**given_)
    assert data.x.shape == (8, 3, 4, 6)
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.y, given_["y"])
    assert data.y.dtype == np.int64
    assert data.kind == Kind((4, 6))
    assert data.kind.dense
    assert data.kind.measure == "mean_iou"
    assert "25.00% of the labels are -100 and are not counted" in data.notes
    assert class_counts(data.y, 3).sum() == 8 * 3 * 6


@pytest.mark.parametrize("axis", [1, 3])
def test_an_axis_of_length_one_is_no_label(axis):
    given_ = segments()
    plain = made(**given_)
    given_["y"] = np.expand_dims(given_["y"], axis)
    np.testing.assert_array_equal(made(**given_).y, plain.y)


def test_labels_without_names_are_the_values_that_occur():
    given_ = segments()
    y = np.array([10, 20, 255])[given_["y"]].astype(np.uint8)
    data = made(x=given_["x"][..., 0], y=y)
    assert data.class_names == ("10", "20", "255")
    np.testing.assert_array_equal(data.y, given_["y"])
    flags = made(x=given_["x"][..., 0], y=given_["y"] > 0)
    assert flags.class_names == ("False", "True")
    np.testing.assert_array_equal(flags.y, (given_["y"] > 0).astype(int))
    words = np.array(["sky", "tree", "river"])[given_["y"]]
    assert made(x=given_["x"], y=words).class_names == ("river", "sky", "tree")


def test_a_label_for_each_token():
    given_ = texts()
    data = made(**given_)
    assert data.x.dtype == data.y.dtype == np.int64
    np.testing.assert_array_equal(data.x, given_["x"])
    np.testing.assert_array_equal(data.y, given_["y"])
    assert data.kind == Kind((5,), vocabulary=9)
    assert data.kind.measure == "accuracy"


def test_a_label_for_each_text_needs_the_layout():
    x = texts()["x"]
    y = np.arange(8) % 2
    as_text = made(x=x, y=y, layout="nt")
    assert as_text.kind == Kind((), vocabulary=9)
    assert as_text.x.dtype == np.int64
    as_vectors = made(x=x, y=y)
    assert as_vectors.kind == PLAIN
    assert as_vectors.x.dtype == np.float32


def test_one_hot_rows_stay_what_they_were_and_the_layout_says_otherwise():
    one_hot = np.eye(5, dtype=int)[np.arange(10) % 5]
    assert made(x=np.arange(50).reshape(10, 5), y=one_hot).kind == PLAIN
    assert made(x=np.arange(50).reshape(10, 5), y=one_hot, layout="NT").kind == Kind((5,), vocabulary=50)


def test_the_fingerprint_of_plain_data_is_what_it_was():
    data = Dataset("d", np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2), np.array([0, 1, 0]), ("a", "b"))
    assert data.fingerprint == "f5bb276edb0d4fc7"
    assert data.kind == PLAIN
    assert data.strata is data.y


def test_a_file_and_a_function_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez(tmp_path / "t.npz", **segments())
    np.savez(tmp_path / "s.npz", **texts())
    (tmp_path / "dense_source.py").write_text(
        "import numpy as np\nfrom adma.bench.data import Dataset\n"
        "def pixels():\n    return dict(np.load('t.npz'))\n"
        "def tokens():\n    return dict(np.load('s.npz'))\n"
        "def whole():\n    d = np.load('s.npz')\n"
        "    return Dataset('s', d['x'].astype('int64'), d['y'], tuple(d['class_names']))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("t.npz").fingerprint == load("dense_source:pixels").fingerprint
    assert (
        load("s.npz").fingerprint == load("dense_source:tokens").fingerprint == load("dense_source:whole").fingerprint
    )


def _with(change, **more):
    given_ = segments() | more
    change(given_)
    return given_


def _set(key, value):
    def change(given_):
        given_["y"][key] = value

    return change


REFUSED = {
    "another size": (
        {"x": segments()["x"][..., 0], "y": np.zeros((8, 5, 6), int)},
        ["for each pixel", "(8, 4, 6)", "(8, 5, 6)"],
    ),
    "other axes": ({"x": np.zeros((8, 3)), "y": np.zeros((8, 2, 2), int)}, ["each of the 8 samples", "(8, 2, 2)"]),
    "a class that is not named": (_with(_set((2, 1, 3), 3)), ["1 labels such as 3", "(2, 1, 3)", "3 names"]),
    "255 for ignored": (_with(_set((2, 1), 255)), ["6 labels such as 255", "write -100"]),
    "another negative one": (_with(_set((0, 0, 0), -1)), ["such as -1", "(0, 0, 0)", "or -100"]),
    "nothing to count": (_with(_set(5, IGNORED)), ["1 samples have no label that counts", "index 5"]),
    "one class": ({"x": segments()["x"], "y": np.zeros((8, 4, 6), int)}, ["at least 2 classes"]),
    "fractions": ({**segments(), "y": np.zeros((8, 4, 6)) + 0.5}, ["integers or strings", "float64"]),
    "no train": ({**segments(), "parts": ["test"] * 8}, ["no sample is stated as 'train'"]),
    "negative ids": ({**texts(), "x": texts()["x"] - 1}, ["must not be negative", "padding"]),
    "ids that are no numbers": ({"x": np.ones((4, 2)) / 2, "y": np.zeros((4, 2), int), "layout": "NT"}, ["float64"]),
    "labels for other tokens": ({**texts(), "y": texts()["y"][:, 1:], "layout": "NT"}, ["(8, 5)", "(8, 4)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    data, words = REFUSED[name]
    with pytest.raises(BenchError) as caught:
        made(**data)
    for word in ["DATA t", *words]:
        assert word in str(caught.value)


def test_a_class_may_be_missing_and_is_noted():
    given_ = segments(classes=4)
    given_["y"][given_["y"] == 2] = 0
    given_["y"][4:][given_["y"][4:] == 3] = 1
    notes = made(**given_, parts=["train"] * 4 + ["test"] * 4).notes
    assert "no label of class c2" in notes
    assert "the test part has no label of class c2, c3" in notes


def test_images_with_labels_are_not_resized(tmp_path: Path):
    np.savez(tmp_path / "t.npz", **segments())
    with pytest.raises(BenchError, match="would have to be resized too"):
        load(str(tmp_path / "t.npz"), image_size=(8, 8))


# -- splits ------------------------------------------------------------------------------------------------------


@given(n=st.integers(3, 60), seed=st.integers(0, 2**32), share=st.floats(0.05, 0.45))
@settings(max_examples=40, deadline=None)
def test_a_split_has_every_sample_once_and_the_sizes_that_were_asked_for(n, seed, share):
    data = made(**texts(n))
    split = make_split(data, seed=seed, train_size=None, val_fraction=share, test_fraction=share)
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(n))
    assert min(len(split.train), len(split.val), len(split.test)) >= 1
    if n >= 20:
        assert abs(len(split.test) - share * n) <= 1


def test_groups_stay_whole_and_sizes_are_limits():
    data = made(**texts(24), groups=np.arange(24) // 3)
    split = make_split(data, seed=1, **SPLIT)
    parts = [set(data.groups[part]) for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 8
    small = make_split(data, seed=1, **{**SPLIT, "train_size": 5}, eval_size=2)
    assert (len(small.train), len(small.val), len(small.test)) == (5, 2, 2)
    assert set(small.train) <= set(split.train)
    half = make_split(data, seed=1, **SPLIT, train_fraction=0.5)
    assert len(half.train) == len(split.train) / 2


def test_too_few_samples_and_impossible_sizes_are_told():
    data = made(**texts(8))
    with pytest.raises(BenchError, match="between 1 and 4 "):
        make_split(data, seed=0, **{**SPLIT, "train_size": 9})
    with pytest.raises(BenchError, match=r"at least 3 samples are needed.*there are 2"):
        make_split(made(**texts(2)), seed=0, **SPLIT)


def test_what_is_held_out_needs_no_classes():
    held = draw_held_out(made(**segments(20)).y, ("c0", "c1", "c2"), share=0.2, seed=3)
    assert len(held) == 4
    assert len(set(held)) == 4
