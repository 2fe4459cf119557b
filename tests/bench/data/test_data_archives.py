"""Hostile and damaged archives: each is refused by name, and nothing is written."""

from __future__ import annotations

import stat
import tarfile
import zipfile

import pytest
from data_samples import picture, refuses, special, tar_of, two_classes, zip_of

from adma.bench.data.catalog import load


@pytest.mark.parametrize("name", ["../evil.png", "cat/../../evil.png", "/etc/evil.png", "cat/.."])
def test_paths_out_of_an_archive_are_refused(tmp_path, name):
    for path in (
        tar_of(tmp_path / "slip.tar", two_classes(**{name: picture()})),
        zip_of(tmp_path / "slip.zip", two_classes(**{name: picture()})),
    ):
        refuses(path, path.name, name, "path")
        refuses(path, name, skip_bad=True)


@pytest.mark.parametrize("name", ["..\\evil.png", "C:\\evil.png", "c:/evil.png", "\\evil.png"])
def test_windows_paths_out_of_a_zip_are_refused(tmp_path, name):
    refuses(zip_of(tmp_path / "slip.zip", two_classes(**{name: picture()})), "path")


def test_backslashes_in_a_zip_part_folders(tmp_path):
    files = {name.replace("/", "\\"): b for name, b in two_classes().items()}
    assert load(str(zip_of(tmp_path / "win.zip", files))).class_names == ("cat", "dog")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("name", ["dog/9.png", ".hidden"])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, name):
    path = tar_of(tmp_path / "x.tar", two_classes(), special(name, kind, "cat/0.png"))
    refuses(path, "x.tar", name, skip_bad=True)


def test_links_in_a_zip_are_refused(tmp_path):
    path = zip_of(tmp_path / "x.zip", two_classes())
    info = zipfile.ZipInfo("dog/9.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    refuses(path, "x.zip", "dog/9.png", "is a link", skip_bad=True)


def test_encrypted_zip(tmp_path):
    path = zip_of(tmp_path / "x.zip", two_classes())
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the first member's flags, there and in the list at the end
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refuses(path, "x.zip", "cat/0.png", "is encrypted")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz"])
def test_damaged_tars(tmp_path, name):
    mode = {"x.tar": "w", "x.tar.gz": "w:gz", "x.tar.xz": "w:xz"}[name]
    path = tar_of(tmp_path / name, two_classes(), mode=mode)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, 1024 if mode == "w" else 100, 10, 0):  # 1024: between two members
        path.write_bytes(whole[:cut])
        refuses(path, name, "damaged")
    damaged = bytearray(whole)
    damaged[1024 + 100 if mode == "w" else len(whole) // 2] ^= 0xFF  # of a tar, the second member's header
    path.write_bytes(damaged)
    refuses(path, name, "damaged")
    path.write_bytes(b"hello")
    refuses(path, name, "damaged")


def test_damaged_zips(tmp_path):
    path = zip_of(tmp_path / "x.zip", two_classes())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuses(path, "x.zip", "damaged")
    damaged = bytearray(whole)
    damaged[60] ^= 0xFF  # in the first member's content: its check sum tells
    path.write_bytes(damaged)
    refuses(path, "x.zip", "damaged", "cat/0.png")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    twice = {"cat/0.png": picture(), "./cat/0.png": picture()}
    refuses(tar_of(tmp_path / "x.tar", {**two_classes(), **twice}), "cat/0.png", "twice")
    path = zip_of(tmp_path / "x.zip", two_classes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dog/0.png", picture())
    refuses(path, "dog/0.png", "twice")


def test_empty_folders_in_an_archive_count(tmp_path):
    path = tar_of(tmp_path / "x.tar", two_classes(), special("owl", tarfile.DIRTYPE))
    refuses(path, "no image in the class folder owl")
