"""Known data sets: which word stands for what, and what is said when one cannot be had."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from adma.bench.data import augment, hub, idx
from adma.bench.data.catalog import KNOWN, load, locate
from adma.bench.errors import BenchError


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not os.environ.get("ADMA_DATA"):
        pytest.skip("ADMA_DATA IS NOT SET: MNIST and Fashion-MNIST were not tested")
    return Path(os.environ["ADMA_DATA"])


def test_digits():
    data = load("digits")
    assert data.x.shape == (1797, 1, 8, 8)
    assert data.x.dtype == np.uint8
    assert (data.x.min(), data.x.max()) == (0, 255)
    assert set(np.unique(data.x).tolist()) == {round(v * 255 / 16) for v in range(17)}
    assert np.bincount(data.y).min() > 170
    assert data.class_names == tuple("0123456789")
    assert data.parts is None
    assert load("digits").fingerprint == data.fingerprint
    assert load("digits", image_size=(16, 12)).x.shape == (1797, 1, 16, 12)


def test_a_size_that_no_memory_holds_is_refused_before_it_is_asked_for():
    with pytest.raises(BenchError, match=r"DATA digits: needs [0-9.]+ GiB, more than half .*a smaller --image-size"):
        load("digits", image_size=(100_000, 100_000))


def test_digits_are_scikit_learns_from_its_file_and_from_its_function(monkeypatch):
    bunch = load_digits()
    read = [load("digits")]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # a release that keeps the file elsewhere
    read.append(load("digits"))
    assert read[0].fingerprint == read[1].fingerprint
    for dataset in read:
        np.testing.assert_array_equal(dataset.x[:, 0], np.rint(bunch.images * 255 / 16))
        np.testing.assert_array_equal(dataset.y, bunch.target)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "mnits",
            [
                "'mnits'",
                "did you mean 'mnist'",
                "digits, mnist, fashion_mnist, cifar10",
                ".tar",
                ".npz",
                "package.module",
            ],
        ),
        ("Fashion-MNIST", ["did you mean 'fashion_mnist'"]),
        ("/no/such/folder", ["'/no/such/folder'", "nor an existing path"]),
        ("~nobody_at_all/x", ["nor an existing path"]),
        ("", ["empty"]),
        ("  ", ["empty"]),
        ("a\0b", ["a\\x00b"]),
        ("x" * 5000, ["nor an existing path"]),
        ("a-b:load", ["nor an existing path"]),
    ],
)
def test_unknown_names(data, words):
    with pytest.raises(BenchError) as caught:
        load(data)
    for word in words:
        assert word in str(caught.value)


def test_a_known_name_wins_over_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(load("digits")) == 1797
    with pytest.raises(BenchError, match="no images"):
        load("./digits")


def test_the_papers_eight_data_sets_and_digits_are_known():
    assert list(KNOWN) == [
        "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "flowers", "ham10000", "dogs_vs_cats",
    ]  # fmt: skip
    assert {name: known.size for name, known in KNOWN.items()} == {
        "digits": 1797, "mnist": 70_000, "fashion_mnist": 70_000, "cifar10": 60_000, "cifar100": 60_000,
        "svhn": 73_257 + 26_032, "flowers": 4317, "ham10000": 10_015, "dogs_vs_cats": 25_000,
    }  # fmt: skip


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_each_known_set_is_described_in_full(known):
    assert all(len(counts) == len(known.classes) == len(set(known.classes)) for counts in known.counts.values())
    augment.parse(known.augment)
    if known.hub is not None:
        assert known.hub.revision is None or len(known.hub.revision) == 40
        assert set(known.hub.parts) <= set(known.hub.rows)
        assert set(known.hub.classes.values()) <= set(known.classes)
        rows = list(known.hub.rows.values())
        assert None in rows or sum(rows) >= known.size


# -- MNIST from files ---------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A data folder with files as MNIST's but smaller, whose sums are the expected ones."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for (part, key), stem in idx.FILES.items():
        n = {"train": 30, "test": 20}[part]
        array = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) if key == "x" else np.arange(n, dtype=np.uint8) % 10
        content = idx_bytes(array)
        (raw / f"{stem}.gz").write_bytes(gzip.compress(content))
        monkeypatch.setitem(idx.MD5["MNIST"], f"{stem}.gz", hashlib.md5((raw / f"{stem}.gz").read_bytes()).hexdigest())
        monkeypatch.setitem(idx.MD5["MNIST"], stem, hashlib.md5(content).hexdigest())
    monkeypatch.setattr(hub, "download", lambda known, **_: pytest.fail("would download"))
    return tmp_path


def test_files_packed_or_not_by_argument_or_environment(small_mnist, monkeypatch):
    data = load("mnist", data_dir=small_mnist)
    assert data.x.shape == (50, 1, 28, 28)
    assert data.y.tolist() == [n % 10 for n in range(30)] + [n % 10 for n in range(20)]
    assert data.parts.tolist() == ["train"] * 30 + ["test"] * 20
    assert any("50 of the 70,000 published samples (train 30 of 60,000, test 20 of 10,000)" in n for n in data.notes)
    assert locate("mnist", data_dir=small_mnist) == [small_mnist / "MNIST" / "raw"]
    monkeypatch.setenv("ADMA_DATA", str(small_mnist))
    assert load("mnist").fingerprint == data.fingerprint
    for packed in small_mnist.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert load("mnist").fingerprint == data.fingerprint


def test_damaged_file_is_named_with_both_sums(small_mnist):
    path = small_mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    expected = idx.MD5["MNIST"][path.name]
    path.write_bytes(path.read_bytes() + b"!")
    got = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(BenchError) as caught:
        load("mnist", data_dir=small_mnist)
    for word in [str(path), got, expected, "fetch it again"]:
        assert word in str(caught.value)


def test_missing_file_is_named(small_mnist):
    (small_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BenchError, match=r"lacks train-labels-idx1-ubyte\.gz"):
        load("mnist", data_dir=small_mnist)


def test_data_dir_that_is_no_folder(tmp_path, monkeypatch):
    with pytest.raises(BenchError, match=r"--data-dir names .*nowhere"):
        load("mnist", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("ADMA_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(BenchError, match=r"ADMA_DATA names .*nowhere"):
        load("mnist")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x01",
        b"\0\0\x0d\x01\0\0\0\x01abcd",
        b"\0\0\x08\x01\0\0\0\x02a",
        b"\0\0\x08\x01\0\0\0\x02abc",
    ],
)
def test_bytes_that_are_no_idx_file(content):
    with pytest.raises(BenchError, match="IDX file"):
        idx.parse_idx(content)


@pytest.mark.data
@pytest.mark.parametrize(("name", "first"), [("mnist", [5, 0, 4, 1, 9]), ("fashion_mnist", [9, 0, 0, 3, 0])])
def test_real_files(real_data, name, first):
    data = load(name, data_dir=real_data)
    assert data.x.shape == (70_000, 1, 28, 28)
    assert data.y[:5].tolist() == first
    assert np.bincount(data.y[data.parts == "test"], minlength=10).sum() == 10_000
    if name == "fashion_mnist":
        assert np.bincount(data.y).tolist() == [7000] * 10
        assert data.class_names[9] == "Ankle boot"
