"""Known data sets on disk: read under their names, held against what was published, grouped by what shows the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from data_samples import picture, tar_of, write, zip_of

from adma.bench.data.catalog import KNOWN, load, locate, read_known
from adma.bench.data.splits import make_split
from adma.bench.errors import BenchError

SKIN = KNOWN["ham10000"].classes
FLOWERS = KNOWN["flowers"].classes
FOLDER = os.environ.get("ADMA_DATA")  # here, as the tests below must not see it


def pictures_of(classes, each=3, size=(6, 8), prefix="") -> dict[str, bytes]:
    """Different one-coloured pictures."""
    return {
        f"{prefix}{name}/{n:04}.png": picture(size=size, value=10 * n + k)
        for k, name in enumerate(classes)
        for n in range(each)
    }


def skin(rows=None, **extra: bytes) -> dict[str, bytes]:
    """Three pictures a class, of which the first two show one lesion; `rows` in the place of the manifest's."""
    files = pictures_of(SKIN)
    if rows is None:
        rows = [f"{file},HAM_{file.split('/')[0]}{int('0002' in file)}" for file in files]
    return {**files, "manifest.csv": "\n".join(["file,lesion_id", *rows, ""]).encode(), **extra}


def refuses(name: str, data_dir: Path, *words: str, **options) -> str:
    with pytest.raises(BenchError) as caught:
        load(name, data_dir=data_dir, **options)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    return message


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch):
    monkeypatch.delenv("ADMA_DATA", raising=False)
    monkeypatch.setattr("adma.bench.data.hub.download", lambda known, **_: pytest.fail("would download"))


# -- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip", "folder"])
@pytest.mark.parametrize("wrapping", ["", "cifar10/"])
def test_archives_and_folders_are_found_by_name(tmp_path, form, wrapping):
    names = KNOWN["cifar10"].classes
    files = pictures_of(names, 2, (32, 32), f"{wrapping}train/") | pictures_of(names, 1, (32, 32), f"{wrapping}test/")
    if form == "folder":
        write(tmp_path / "cifar10", files)
    elif form == "zip":
        zip_of(tmp_path / "cifar10.zip", files)
    else:
        tar_of(tmp_path / f"cifar10.{form}", files, mode="w:gz" if form == "tar.gz" else "w")
    data = load("cifar10", data_dir=tmp_path)
    assert data.name == "cifar10"
    assert data.class_names == names
    assert data.x.shape == (30, 3, 32, 32)
    assert (data.parts == "test").sum() == 10
    assert data.groups is None
    assert "30 of the 60,000 published samples (train 20 of 50,000, test 10 of 10,000)" in data.notes
    (found,) = locate("cifar10", data_dir=tmp_path)
    assert load(str(found)).fingerprint == data.fingerprint  # the same pictures are the same study


def test_an_archive_wins_over_a_folder_and_that_is_said(tmp_path):
    names = KNOWN["dogs_vs_cats"].classes
    tar_of(tmp_path / "dogs_vs_cats.tar", pictures_of(names, 4))
    write(tmp_path / "dogs_vs_cats", pictures_of(names, 2))
    data = load("dogs_vs_cats", data_dir=tmp_path)
    assert len(data) == 8
    assert "not read, as dogs_vs_cats.tar was: dogs_vs_cats" in data.notes


def test_pictures_get_the_papers_size_unless_another_is_asked_for(tmp_path):
    write(tmp_path / "ham10000", skin())
    data = load("ham10000", data_dir=tmp_path)
    assert data.sample_shape == (3, 75, 100)
    assert "images were resized to 75 x 100 as the paper did" in data.notes
    data = load("ham10000", data_dir=tmp_path, image_size=(5, 9))
    assert data.sample_shape == (3, 5, 9)
    assert "images were resized to 5 x 9 as asked" in data.notes


def test_grey_pictures_of_a_colour_data_set_are_three_channelled(tmp_path):
    files = {f"{name}/{n}.png": picture("L", value=9) for name in ("cat", "dog") for n in range(2)}
    data = load("dogs_vs_cats", data_dir=write(tmp_path, {f"dogs_vs_cats/{k}": v for k, v in files.items()}))
    assert data.sample_shape == (3, 150, 150)
    assert any("three equal channels" in n for n in data.notes)


def test_without_an_official_test_part_one_is_drawn_and_that_is_said(tmp_path):
    write(tmp_path / "svhn", pictures_of(KNOWN["svhn"].classes))
    data = load("svhn", data_dir=tmp_path)
    assert data.parts is None
    assert "30 of the 99,289 published samples" in data.notes
    assert any("official test part is not here" in n for n in data.notes)


# -- what differs from what was published ----------------------------------------------------------------------


def test_unknown_and_missing_classes_are_both_named(tmp_path):
    names = [*FLOWERS[1:], "lily"]
    write(tmp_path / "flowers", pictures_of(names))
    refuses("flowers", tmp_path, "unknown: lily", "missing: daisy", "path in the place of 'flowers'")


def test_more_samples_than_were_published(tmp_path):
    files = pictures_of(("cat", "dog"), 2)
    write(tmp_path / "dogs_vs_cats", files)
    assert len(load("dogs_vs_cats", data_dir=tmp_path)) == 4
    small = tmp_path / "small"
    write(small / "ham10000", skin() | {f"df/{n:05}.png": picture(value=n) for n in range(200)})
    (small / "ham10000" / "manifest.csv").unlink()
    refuses("ham10000", small, "203 samples of class df", "only 115", image_size=(2, 2))


def test_a_half_downloaded_set_names_what_its_manifest_misses(tmp_path):
    files = skin()
    for gone in ("akiec/0001.png", "nv/0000.png"):
        del files[gone]
    write(tmp_path / "ham10000", files)
    refuses("ham10000", tmp_path, "half downloaded: 2 of 21 files of manifest.csv", "akiec/0001.png", "nv/0000.png")
    refuses("ham10000", tmp_path, "half downloaded", skip_bad=True)


@pytest.mark.parametrize("left", [(), ("nv",), ("nv", "bcc")])
@pytest.mark.parametrize("empty_folder", [False, True])
def test_a_half_downloaded_set_that_lacks_whole_classes_is_called_so(tmp_path, left, empty_folder):
    """Not a data set with other classes, nor one with an empty class."""
    files = {name: content for name, content in skin().items() if name.split("/")[0] in (*left, "manifest.csv")}
    write(tmp_path / "ham10000", files)
    if empty_folder:
        (tmp_path / "ham10000" / "akiec").mkdir()
    missing = 3 * (len(SKIN) - len(left))
    message = refuses("ham10000", tmp_path, "DATA ham10000:", f"half downloaded: {missing} of 21 files of manifest.csv")
    assert "rename" not in message


def test_files_that_the_manifest_does_not_name(tmp_path):
    tar_of(tmp_path / "ham10000.tar", {f"ham10000/{k}": v for k, v in skin(**{"mel/9999.png": picture()}).items()})
    refuses("ham10000", tmp_path, "1 files are not in ham10000/manifest.csv", "mel/9999.png")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"path,lesion_id\na,b\n", "no column 'file'"),
        (b"", "no column 'file'"),
        (b"\xff\xfe\x00", "no table of text"),
        (b"file,lesion_id\nnv/0000.png\n", "row 2"),
        (b"file,lesion_id\nnv/0000.png,a,b\n", "row 2"),
        (b"file,lesion_id\nnv/0000.png,a\nnv/0000.png,b\n", "nv/0000.png twice"),
        (b'file,lesion_id\n"nv/0000.png', "no table of text"),
    ],
)
def test_manifests_that_are_refused(tmp_path, manifest, words):
    write(tmp_path / "ham10000", {**skin(), "manifest.csv": manifest})
    refuses("ham10000", tmp_path, "manifest.csv", words)


def test_a_sum_beside_an_archive_is_checked(tmp_path):
    path = tar_of(tmp_path / "ham10000.tar", skin())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = tmp_path / "ham10000.tar.sha256"
    for line in (
        f"{digest}  ham10000.tar\n",
        f"{digest.upper()} *./ham10000.tar\n",
        digest,
        f"{'0' * 64}  x\n{digest}  a/ham10000.tar",
    ):
        sums.write_text(line)
        assert any("SHA-256" in check for check in read_known("ham10000", data_dir=tmp_path).checks)
    sums.write_text(f"{'0' * 64}  ham10000.tar\n")
    refuses("ham10000", tmp_path, "ham10000.tar", digest, "0" * 64, "fetch it again")
    for wrong in ("", f"{digest}  other.tar\n", "hello"):
        sums.write_text(wrong)
        refuses("ham10000", tmp_path, "does not state one SHA-256 sum of ham10000.tar")


# -- groups -------------------------------------------------------------------------------------------------


def test_lesions_stay_whole(tmp_path):
    data = load("ham10000", data_dir=write(tmp_path, {f"ham10000/{k}": v for k, v in skin().items()}))
    assert len(data) == 21
    expected = [pair for k in range(7) for pair in (2 * k, 2 * k, 2 * k + 1)]
    assert data.groups.tolist() == expected
    assert "21 samples show 14 lesions" in data.notes


@pytest.mark.parametrize("manifest", [None, "file,image_id\n"])
def test_without_lesions_a_warning_says_what_is_lost(tmp_path, manifest):
    files = skin()
    del files["manifest.csv"]
    if manifest:
        files["manifest.csv"] = (manifest + "".join(f"{file},{n}\n" for n, file in enumerate(files))).encode()
    data = load("ham10000", data_dir=write(tmp_path, {f"ham10000/{k}": v for k, v in files.items()}))
    assert data.groups is None
    (warning,) = [n for n in data.notes if n.startswith("WARNING:")]
    assert "lesion_id" in warning


def test_photographs_under_two_names_or_in_two_classes_are_one_group(tmp_path):
    """By the photograph's number in the manifest, and by the files' content."""
    files = pictures_of(FLOWERS)
    files["rose/0001.png"] = files["tulip/0002.png"]  # the same file
    names = {file: f"{10000 + n}_abc.jpg" for n, file in enumerate(files)}
    names["daisy/0000.png"], names["tulip/0000.png"] = "7166539842_43b7e02883_n.jpg", "7166539842_43b7e02883.jpg"
    names["daisy/0001.png"] = names["daisy/0002.png"] = "unknown.jpg"  # says nothing
    files["manifest.csv"] = "".join(["file,flickr_name\n", *(f"{f},{n}\n" for f, n in names.items())]).encode()
    data = load("flowers", data_dir=write(tmp_path, {f"flowers/{k}": v for k, v in files.items()}))
    same = sorted(np.flatnonzero(data.groups == g).tolist() for g in np.flatnonzero(np.bincount(data.groups) > 1))
    assert same == [[0, 12], [7, 14]]  # in the order of the paths
    assert data.groups.max() + 1 == 13


def test_without_a_manifest_the_flowers_own_names_tell_the_photograph(tmp_path):
    files = pictures_of(FLOWERS)
    files["rose/7166539842_43b7e02883.jpg"] = picture(value=200)
    files["tulip/7166539842_43b7e02883_n.jpg"] = picture(value=210)
    data = load("flowers", data_dir=write(tmp_path, {f"flowers/{k}": v for k, v in files.items()}))
    assert (np.bincount(data.groups) == 2).sum() == 1
    assert data.groups.max() + 1 == 16


# -- the paper's data ---------------------------------------------------------------------------------------

EIGHT = {
    "mnist": ((70_000, 1, 28, 28), None),
    "fashion_mnist": ((70_000, 1, 28, 28), None),
    "cifar10": ((None, 3, 32, 32), None),
    "cifar100": ((None, 3, 32, 32), None),
    "svhn": ((None, 3, 32, 32), None),
    "flowers": ((4317, 3, 150, 150), 4305),
    "ham10000": ((10_015, 3, 75, 100), 7470),
    "dogs_vs_cats": ((None, 3, 150, 150), None),
}


@pytest.mark.data
@pytest.mark.parametrize("name", EIGHT)
def test_the_papers_eight(name):
    if not FOLDER:
        pytest.skip("ADMA_DATA IS NOT SET: the paper's data sets were not tested")
    folder = Path(FOLDER)
    if not locate(name, data_dir=folder):
        pytest.skip(f"ADMA_DATA HOLDS NO {name}: it was not tested")
    data = load(name, data_dir=folder)
    shape, groups = EIGHT[name]
    assert data.x.shape[1:] == shape[1:]
    assert len(data) == (shape[0] or len(data))
    assert data.name == name
    assert data.class_names == KNOWN[name].classes
    assert (None if data.groups is None else len(np.unique(data.groups))) == groups
    options = {"train_size": None, "val_fraction": 0.1, "test_fraction": 0.25}
    split = make_split(data, seed=1, **options)
    if groups is not None:
        parts = [set(data.groups[part]) for part in (split.train, split.val, split.test)]
        assert sum(map(len, parts)) == groups
        assert len(split.test) == pytest.approx(0.25 * len(data), abs=len(data.class_names))
        leaky = make_split(data, seed=1, grouped=False, **options)
        assert set(data.groups[leaky.train]) & set(data.groups[leaky.test])
