"""Arrays from .npz files and from functions: what is read, and every way to refuse."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
import torch

from adma.bench.data.arrays import from_mapping
from adma.bench.data.catalog import load
from adma.bench.data.dataset import Kind
from adma.bench.errors import BenchError


def made(**data):
    return from_mapping("DATA t", "t", data)


def images(*shape, dtype=np.uint8):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


Y = np.array([0, 1, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (images(6, 5, dtype=np.float64), (5,), np.float32),
        (images(6, 5), (5,), np.float32),
        (images(6, 5, dtype=np.int64), (5,), np.float32),
        (images(6, 4, 5), (1, 4, 5), np.uint8),
        (images(6, 3, 4, 5), (3, 4, 5), np.uint8),
        (images(6, 5, 4, 3), (3, 5, 4), np.uint8),
        (images(6, 4, 5, 1), (4, 5, 1), np.uint8),  # axis 1 could be channels too
        (images(6, 8, 5, 7), (8, 5, 7), np.uint8),
        (images(6, 9, 5, 3, dtype=np.float16), (3, 9, 5), np.float32),
        (images(6, 9, 5, 3, dtype=np.int32), (3, 9, 5), np.float32),
        (images(6, 9, 5, dtype=bool), (1, 9, 5), np.uint8),
    ],
)
def test_shapes_and_dtypes(x, shape, dtype):
    data = made(x=x, y=Y)
    assert data.sample_shape == shape
    assert data.x.dtype == dtype
    assert data.x.flags.c_contiguous


def test_channels_last_moves_the_channels():
    x = images(6, 8, 5, 3)
    np.testing.assert_array_equal(made(x=x, y=Y).x[2, 1], x[2, :, :, 1])


def test_ambiguous_channels_are_noted_and_layout_decides():
    x = images(6, 3, 4, 3)
    data = made(x=x, y=Y)
    np.testing.assert_array_equal(data.x, x)
    assert any("layout='NHWC'" in n for n in data.notes)
    data = made(x=x, y=Y, layout="NHWC")
    np.testing.assert_array_equal(data.x, x.transpose(0, 3, 1, 2))
    assert data.notes == ()
    assert made(x=images(6, 9, 5, 3), y=Y, layout=np.array("nchw")).sample_shape == (9, 5, 3)


def test_bool_images_are_black_and_white():
    x = np.zeros((6, 2, 2), dtype=bool)
    x[0, 0, 0] = True
    assert made(x=x, y=Y).x[0].tolist() == [[[255, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("y", "names", "expected", "class_names"),
    [
        (Y, None, Y, ("0", "1")),
        (Y.astype(np.uint8)[:, None], None, Y, ("0", "1")),
        (Y * 5 + 2, None, Y, ("2", "7")),
        (Y * 3 + 9, None, Y, ("9", "12")),  # by value, not as text
        (np.array(["no", "yes"])[Y], None, Y, ("no", "yes")),
        (np.array([b"no", b"yes"])[Y], None, Y, ("no", "yes")),
        (np.array(["no", "yes"], dtype=object)[Y], None, Y, ("no", "yes")),
        (Y == 1, None, Y, ("False", "True")),
        (np.eye(2)[Y], None, Y, ("0", "1")),
        (Y, ["<b>", "é"], Y, ("<b>", "é")),
        (np.array(["no", "yes"])[Y], ["yes", "no"], 1 - Y, ("yes", "no")),
        (np.eye(2, dtype=bool)[Y], ["b", "a"], Y, ("b", "a")),
        (Y.tolist(), None, Y, ("0", "1")),
        (torch.tensor(Y), None, Y, ("0", "1")),
    ],
)
def test_labels(y, names, expected, class_names):
    data = made(x=np.zeros((6, 2)), y=y, class_names=names)
    assert data.y.tolist() == list(expected)
    assert data.y.dtype == np.int64
    assert data.class_names == class_names


@pytest.mark.parametrize("key", ["parts", "split"])
def test_parts(key):
    parts = ["train", "Train", "", "training", "test", "valid"]
    data = made(x=np.zeros((6, 2)), y=Y, **{key: np.array(parts)})
    assert data.parts.tolist() == ["train", "train", "", "train", "test", "val"]
    assert data.parts.dtype == np.dtype("U5")
    assert any("val part has no sample of class 1" in n for n in data.notes)
    assert made(x=np.zeros((6, 2)), y=Y, **{key: [""] * 6}).parts is None


def test_unread_keys_are_noted():
    assert any("ids" in n for n in made(x=np.zeros((6, 2)), y=Y, ids=Y).notes)


X = np.zeros((6, 2))
NAN, INF, BIG = (np.array(X) for _ in range(3))
NAN[3, 1] = NAN[4, 0] = np.nan
INF[0, 0] = -np.inf
BIG[5, 1] = 1e300


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"y": Y}, ["no 'x'"]),
        ({"x": X}, ["no 'y'", "only x"]),
        ({"X": X, "y": Y}, ["no 'x'", "only X, y"]),
        ({"x_train": X, "y_train": Y}, ["no 'x'", "x_train"]),
        ({"x": X, "y": Y[:5]}, ["6 samples", "(5,)"]),
        ({"x": X, "y": 3}, ["6 samples", "()"]),
        ({"x": np.zeros(6), "y": Y}, ["(6,)", "(N, D)"]),
        ({"x": np.zeros((6, 1, 1, 2, 2)), "y": Y}, ["(6, 1, 1, 2, 2)"]),
        ({"x": np.zeros((0, 2)), "y": Y[:0]}, ["empty", "(0, 2)"]),
        ({"x": np.zeros((6, 0)), "y": Y}, ["empty"]),
        ({"x": X.astype(str), "y": Y}, ["real numbers"]),
        ({"x": X.astype(complex), "y": Y}, ["complex128"]),
        ({"x": np.array([[1, "a"]] * 6, dtype=object), "y": Y}, ["object"]),
        ({"x": [[1, 2], [3]], "y": Y}, ["no array"]),
        ({"x": NAN, "y": Y}, ["2 values", "2 samples", "(3, 1)"]),
        ({"x": INF, "y": Y}, ["1 values", "(0, 0)"]),
        ({"x": BIG, "y": Y}, ["too large for float32", "(5, 1)"]),
        ({"x": X, "y": Y - 1}, ["negative", "3 such", "first -1", "index 0"]),
        ({"x": X, "y": Y.astype(float)}, ["float64", "astype(int)"]),
        ({"x": X, "y": np.full((6, 2), 0.5)}, ["not one-hot"]),
        ({"x": X, "y": np.ones((6, 2), dtype=int)}, ["not one-hot"]),
        ({"x": X, "y": Y * 0}, ["at least 2 classes", "got 1"]),
        ({"x": X, "y": np.array([None] * 6)}, ["y must be strings"]),
        ({"x": X, "y": np.array(["", "a"])[Y]}, ["empty label", "index 0"]),
        ({"x": X, "y": Y, "class_names": ["a"]}, ["label 1", "index 1", "1 names"]),
        ({"x": X, "y": Y, "class_names": ["a", "b", "c"]}, ["no sample of class c"]),
        ({"x": X, "y": Y, "class_names": ["a", "a"]}, ["differ", "got a"]),
        ({"x": X, "y": Y, "class_names": ["a", " "]}, ["not be empty"]),
        ({"x": X, "y": Y, "class_names": "ab"}, ["list of names"]),
        ({"x": X, "y": np.array(["a", "z"])[Y], "class_names": ["a", "b"]}, ["y holds z", "a, b"]),
        ({"x": X, "y": Y, "parts": ["train"] * 5}, ["parts must have shape (6,)"]),
        ({"x": X, "y": Y, "parts": ["trian"] * 6}, ["'trian'", "did you mean 'train'"]),
        ({"x": X, "y": Y, "parts": [1] * 6}, ["parts must be strings"]),
        ({"x": X, "y": Y, "parts": ["test"] * 6}, ["no sample is stated as 'train'"]),
        ({"x": X, "y": Y, "parts": np.array(["train", "test"])[Y]}, ["class 1", "not in train"]),
        ({"x": X, "y": Y, "parts": [""] * 6, "split": [""] * 6}, ["both 'parts' and 'split'"]),
        ({"x": X, "y": Y, "layout": "NHWC"}, ["4 axes"]),
        ({"x": images(6, 3, 4, 5), "y": Y, "layout": "CHWN"}, ["'NCHW' or 'NHWC'", "CHWN"]),
    ],
)  # fmt: skip
def test_what_is_refused(data, words):
    with pytest.raises(BenchError) as caught:
        made(**data)
    for word in ["DATA t", *words]:
        assert word in str(caught.value)


# -- files --------------------------------------------------------------------------------------------------


def test_npz_round_trip(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=images(6, 4, 5), y=np.array(["b", "a"])[Y], split=["train"] * 4 + ["test"] * 2)
    data = load(str(path))
    assert data.name == "mine"
    assert data.class_names == ("a", "b")
    assert data.sample_shape == (1, 4, 5)
    assert (data.parts == "test").sum() == 2
    assert load(str(path), image_size=(2, 3)).sample_shape == (1, 2, 3)


def test_npz_holding_objects_runs_nothing(tmp_path):
    path = tmp_path / "evil.npz"

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    np.savez(path, x=np.array([[Evil()]] * 6, dtype=object), y=Y)
    with pytest.raises(BenchError, match="x is an array of Python objects"):
        load(str(path))
    assert not (tmp_path / "ran").exists()
    np.savez(path, x=X, y=Y, more=np.array([Evil()], dtype=object))  # not read at all
    assert any("more" in n for n in load(str(path)).notes)
    assert not (tmp_path / "ran").exists()


def test_damaged_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 0xFF
    for content in (b"", b"hello", whole[: len(whole) // 2], bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(BenchError, match=r"x\.npz"):
            load(str(path))


@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x", "x.tar.zst", "x.pt"])
def test_other_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"1,2\n")
    with pytest.raises(BenchError, match="a file of this kind cannot be read"):
        load(str(tmp_path / name))


# -- functions ----------------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's into the current folder."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    written = []

    def write(name: str, text: str) -> None:
        head = "import numpy as np\nx, y = np.zeros((6, 2)), np.arange(6) % 2\n"
        (tmp_path / f"{name}.py").write_text(head + textwrap.dedent(text))
        written.append(name)

    yield write
    assert sys.path == before
    for name in written:
        sys.modules.pop(name, None)


def test_function_forms(module):
    module(
        "user_forms",
        """
        from adma.bench.data import Dataset
        def pair(): return x, y
        def mapping(): return {"x": x, "y": y, "class_names": ["a", "b"], "parts": ["train"] * 4 + ["test"] * 2}
        def whole(): return Dataset("mine", x.astype(np.float32), y, ("a", "b"), None, ("a note",))
        def late():
            import json as unused
            import user_forms
            return user_forms.pair()
        class Box:
            load = staticmethod(pair)
        """,
    )
    assert load("user_forms:pair").class_names == ("0", "1")
    assert load("user_forms:pair").name == "user_forms:pair"
    assert (load("user_forms:mapping").parts == "test").sum() == 2
    data = load("user_forms:whole")
    assert (data.name, data.notes) == ("mine", ("a note",))
    assert len(load("user_forms:late")) == 6
    assert len(load("user_forms:Box.load")) == 6


def test_a_dataset_of_the_users_is_read_as_its_docstring_has_it(module):
    module(
        "user_whole",
        """
        import numpy as np
        from adma.bench.data import Dataset
        labels = np.array([0, 1] * 3)
        # A mapping's x of this shape would be channels last.
        windows = np.arange(6 * 2 * 16 * 4, dtype=np.float32).reshape(6, 2, 16, 4)
        def images(): return Dataset("images", windows, labels, ("a", "b"))
        def lists(): return Dataset("lists", windows.tolist(), list(labels), ("a", "b"))
        def last(): return Dataset("last", np.zeros((6, 16, 16, 3), np.uint8), labels, ("a", "b"), notes=("mine",))
        def square(): return Dataset("square", np.zeros((6, 1, 5, 3), np.uint8), labels, ("a", "b"))
        def texts(): return Dataset("texts", np.arange(42).reshape(6, 7), labels, ("a", "b"))
        """,
    )
    data = load("user_whole:images")
    assert data.sample_shape == (2, 16, 4)
    assert data.x.ravel().tolist() == list(range(data.x.size))
    assert (load("user_whole:lists").x == data.x).all()
    assert load("user_whole:square").notes == ()  # nothing was guessed
    last = load("user_whole:last")  # what this means is not told by its shape, so it is said how it was taken
    assert last.sample_shape == (16, 16, 3)
    assert last.notes[0] == "mine"
    assert "was read as channels first (N, C, H, W), as a Dataset has it" in last.notes[1]
    texts = load("user_whole:texts")
    assert texts.x.dtype == np.int64
    assert texts.kind == Kind((), vocabulary=42)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("no_such_module_:load", ["no module named 'no_such_module_'", "current folder"]),
        ("user_bad.sub:load", ["no module named 'user_bad.sub'"]),
        ("user_bad:laod", ["no 'laod'", "did you mean 'load'"]),
        ("user_bad:x", ["ndarray", "cannot be called"]),
        ("user_bad:needs", ["without arguments", "path"]),
        ("user_bad:fails", ["raised KeyError", "'gone'"]),
        ("user_bad:exits", ["raised SystemExit"]),
        ("user_bad:load", ["must return (x, y)", "got NoneType"]),
        ("user_bad:three", ["must return (x, y)", "got tuple of 3"]),
        ("user_bad:short", ["6 samples", "(5,)"]),
        ("user_bad:wrong", ["y holds the label 1"]),
        ("user_imports:load", ["importing user_imports failed", "no_such_module_"]),
        ("user_syntax:load", ["importing user_syntax failed", "SyntaxError"]),
    ],
)
def test_functions_that_are_refused(module, data, words):
    module(
        "user_bad",
        """
        from adma.bench.data import Dataset
        def load(): pass
        def needs(path): pass
        def fails(): raise KeyError("gone")
        def exits(): raise SystemExit(3)
        def three(): return x, y, y
        def short(): return x, y[:5]
        def wrong(): return Dataset("d", x, y, ("a",))
        """,
    )
    module("user_imports", "import no_such_module_\n")
    module("user_syntax", "def load(:\n")
    with pytest.raises(BenchError) as caught:
        load(data)
    for word in [f"DATA {data}", *words]:
        assert word in str(caught.value)


def test_the_users_exception_is_chained(module):
    module("user_chain", "def load(): raise KeyError('gone')\n")
    with pytest.raises(BenchError) as caught:
        load("user_chain:load")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_path_with_a_colon_wins(module, tmp_path):
    module("user_path", "def load(): return x, y\n")
    np.savez(tmp_path / "user_path:load.npz", x=X, y=Y)
    (tmp_path / "user_path:load.npz").rename(tmp_path / "user_path:load")
    with pytest.raises(BenchError, match="a file of this kind"):
        load("user_path:load")
