"""Known data sets by download, with a stand-in for the `datasets` library: what is asked of it, what is refused."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adma.bench.data import catalog
from adma.bench.data.known import KNOWN
from adma.bench.errors import BenchError


class Split:
    """Rows as the library gives them: by number a dict with an opened picture, by column a list."""

    def __init__(self, columns: dict[str, list[Any]], names: dict[str, list[str]] | None = None) -> None:
        self.columns = columns
        self.features = {c: types.SimpleNamespace() for c in columns}
        for column, of_classes in (names or {}).items():
            self.features[column] = types.SimpleNamespace(names=of_classes)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: str | int) -> Any:
        return self.columns[key] if isinstance(key, str) else {c: values[key] for c, values in self.columns.items()}


@pytest.fixture(autouse=True)
def _no_data_dir(monkeypatch):
    monkeypatch.delenv("ADMA_DATA", raising=False)


def library(monkeypatch, splits: dict[str, Split]) -> list[dict[str, Any]]:
    """Put the stand-in in place; returns what will be asked of it."""
    calls: list[dict[str, Any]] = []

    def load_dataset(path, **options):
        calls.append({"path": path, **options})
        return splits[options["split"]]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


def expecting(monkeypatch, name: str, **rows: int | None) -> None:
    """The known data set, with other numbers of rows expected."""
    known = KNOWN[name]
    assert known.hub is not None
    small = replace(known, hub=replace(known.hub, rows=rows))
    monkeypatch.setattr(catalog, "KNOWN", {**KNOWN, name: small})


def images(n: int, size: tuple[int, int], mode: str = "RGB", start: int = 0) -> list[Image.Image]:
    """One-coloured; size is (height, width)."""
    return [Image.new(mode, size[::-1], v if mode == "L" else (v, v, v)) for v in range(start, start + n)]


def test_mnist(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    y = [n % 10 for n in range(50)]
    digits = {"label": list("0123456789")}
    pictures = [Image.fromarray(a) for a in x]
    splits = {
        "train": Split({"image": pictures[:30], "label": y[:30]}, digits),
        "test": Split({"image": pictures[30:], "label": y[30:]}, digits),
    }
    calls = library(monkeypatch, splits)
    expecting(monkeypatch, "mnist", train=30, test=20)
    data = catalog.load("mnist")
    np.testing.assert_array_equal(data.x[:, 0], x)
    assert data.x.shape == (50, 1, 28, 28)
    assert data.y.tolist() == y
    assert data.parts.tolist() == ["train"] * 30 + ["test"] * 20
    assert "downloaded from ylecun/mnist" in data.notes
    assert [(c["path"], c["split"], c["revision"]) for c in calls] == [
        ("ylecun/mnist", split, "77f3279092a1c1579b2250db8eafed0ad422088c") for split in ("train", "test")
    ]
    expecting(monkeypatch, "mnist", train=30, test=21)
    with pytest.raises(BenchError, match=r"ylecun/mnist gave 20 rows for the test split, expected 21.*MNIST/raw"):
        catalog.load("mnist")


def test_class_names_may_differ_in_case_and_punctuation_and_order(monkeypatch):
    names = ["T - shirt / top", *KNOWN["fashion_mnist"].classes[:0:-1]]
    split = Split({"image": images(20, (28, 28), "L"), "label": [n % 10 for n in range(20)]}, {"label": names})
    library(monkeypatch, {"train": split, "test": split})
    expecting(monkeypatch, "fashion_mnist", train=20, test=20)
    data = catalog.load("fashion_mnist")
    assert data.class_names == KNOWN["fashion_mnist"].classes
    assert data.y[:11].tolist() == [0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_cifar100_by_its_own_columns_and_with_its_misspelt_crab(monkeypatch):
    names = [{"crab": "cra"}.get(name, name) for name in KNOWN["cifar100"].classes]
    columns = {"img": images(100, (32, 32)), "fine_label": list(range(100)), "coarse_label": [0] * 100}
    split = Split(columns, {"fine_label": names})
    library(monkeypatch, {"train": split, "test": split})
    expecting(monkeypatch, "cifar100", train=100, test=100)
    data = catalog.load("cifar100")
    assert data.class_names[data.y[names.index("cra")]] == "crab"
    assert data.x.shape == (200, 3, 32, 32)


def test_ham10000_takes_each_picture_once_and_keeps_lesions_together(monkeypatch):
    theirs = list(KNOWN["ham10000"].hub.classes)
    train = {
        "image": images(14, (450, 600)),
        "dx": [theirs[n // 2] for n in range(14)],
        "image_id": [f"I{n}" for n in range(14)],
        "lesion_id": [f"L{n // 2}" for n in range(14)],
    }
    # Of the test split one picture is in train already, and one is of a lesion in train.
    test = {
        "image": images(7, (450, 600), start=13),
        "dx": theirs[::-1],
        "image_id": [f"I{n}" for n in range(13, 20)],
        "lesion_id": ["L6", "L6", *(f"M{n}" for n in range(5))],
    }
    assert test["dx"][0] == theirs[6]
    calls = library(monkeypatch, {"train": Split(train), "test": Split(test)})
    expecting(monkeypatch, "ham10000", train=14, test=7)
    data = catalog.load("ham10000")
    assert data.x.shape == (20, 3, 75, 100)
    assert data.x[:, 0, 0, 0].tolist() == list(range(20))
    assert [data.class_names[n] for n in data.y[:14:2]] == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    assert data.parts is None  # the hub's own splits overlap
    assert data.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7, 8, 9, 10, 11]
    assert any("1 of 21 rows repeat a picture" in n for n in data.notes)
    assert len(calls[0]["revision"]) == 40


def test_flowers_are_grouped_by_content_and_checked_without_a_revision(monkeypatch):
    pictures = images(10, (240, 320))
    pictures[7] = pictures[2].copy()
    names = {"label": ["daisy", "dandelion", "rose", "sunflower", "tulip"]}
    split = Split({"image": pictures, "label": [n % 5 for n in range(10)]}, names)
    empty = Split({"image": [], "label": []}, names)
    calls = library(monkeypatch, {"train": split, "validation": split, "test": split})
    reading = catalog.read_known("flowers", image_size=(4, 6))
    assert calls[0]["revision"] is None
    assert "no revision is pinned" in reading.checks
    assert reading.dataset.x.shape == (30, 3, 4, 6)
    assert reading.dataset.groups.tolist() == [0, 1, 2, 3, 4, 5, 6, 2, 7, 8] * 3
    assert "30 of the 4,317 published samples" in reading.dataset.notes
    library(monkeypatch, {"train": split, "validation": empty, "test": split})  # a split may lack classes
    assert len(catalog.load("flowers", image_size=(4, 6))) == 20
    fewer = Split({"image": images(4, (9, 9)), "label": [1, 2, 3, 4]}, names)
    library(monkeypatch, {"train": fewer, "validation": empty, "test": empty})
    with pytest.raises(BenchError, match=r"lacks classes of flowers: daisy"):
        catalog.load("flowers")


def test_an_unused_class_of_the_hub_is_no_matter_but_a_used_one_is(monkeypatch):
    names = {"label": ["cat", "dog", "test"]}
    good = Split({"image": images(4, (9, 9)), "label": [0, 1, 1, 0]}, names)
    library(monkeypatch, {"train": good})
    expecting(monkeypatch, "dogs_vs_cats", train=4)
    assert catalog.load("dogs_vs_cats").y.tolist() == [0, 1, 1, 0]
    library(monkeypatch, {"train": Split({"image": images(4, (9, 9)), "label": [0, 1, 2, 0]}, names)})
    with pytest.raises(BenchError, match=r"has classes that dogs_vs_cats has not: test.*put dogs_vs_cats\.tar"):
        catalog.load("dogs_vs_cats")


def test_more_of_a_class_than_was_published(monkeypatch):
    names = {"label": list(KNOWN["flowers"].classes)}
    split = Split({"image": images(1, (4, 4)) * 780, "label": [0] * 770 + [1, 2, 3, 4] + [0] * 6}, names)
    rest = Split({"image": images(5, (4, 4)), "label": list(range(5))}, names)
    library(monkeypatch, {"train": split, "validation": rest, "test": rest})
    with pytest.raises(BenchError, match=r"778 samples of class daisy, but flowers has only 764"):
        catalog.load("flowers", image_size=(4, 4))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", ["MNIST/raw"]),
        ("cifar10", ["cifar10.tar", "train|test/CLASS/IMAGE"]),
        ("flowers", ["flowers.zip", "CLASS/IMAGE"]),
        ("ham10000", ["manifest.csv", "lesion_id"]),
    ],
)
def test_library_missing(monkeypatch, name, words):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BenchError) as caught:
        catalog.load(name)
    for word in ["pip install 'adma[download]'", "--data-dir", "ADMA_DATA", *words]:
        assert word in str(caught.value)


def test_download_fails(monkeypatch):
    def load_dataset(path, **options):
        raise ConnectionError(f"cannot reach\n{path}")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(BenchError) as caught:
        catalog.load("fashion_mnist")
    for word in ["zalando-datasets/fashion_mnist", "ConnectionError", "--data-dir", "ADMA_DATA", "FashionMNIST/raw"]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ConnectionError)
