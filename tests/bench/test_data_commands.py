"""`adma data`: what is printed, what is written, and with which code it ends."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adma.bench import data_commands
from adma.bench.data import Dataset, augment
from adma.bench.data.catalog import KNOWN
from adma.bench.data.sheet import contact_sheet
from adma.bench.errors import BenchError


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("ADMA_DATA", raising=False)
    monkeypatch.setattr("adma.bench.data.hub.download", lambda known, **_: pytest.fail("would download"))


def options(**given) -> argparse.Namespace:
    default = {
        "data_dir": None, "image_size": None, "skip_bad": False, "modules": [], "augment": None, "seed": 0,
        "classes": 10, "pictures": 3, "epochs": 4,
    }  # fmt: skip
    return argparse.Namespace(**{**default, **given})


@pytest.fixture
def dogs(tmp_path) -> Path:
    """A data folder with a few cats and dogs, of different colours."""
    for k, name in enumerate(("cat", "dog")):
        folder = tmp_path / "data" / "dogs_vs_cats" / name
        folder.mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (20, 30), (60 * n, 100 * k, 30)).save(folder / f"{n}.png")
    return tmp_path / "data"


def test_list_says_where_each_set_is(dogs, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert data_commands.data_list(options(data_dir=dogs)) == 0
    printed = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.startswith("│")}
    assert set(KNOWN) <= set(rows)
    assert "bundled" in rows["digits"]
    assert "60,000" in rows["cifar10"]
    assert "not here" in rows["cifar10"]
    assert "not here" not in rows["dogs_vs_cats"]
    assert rows["dogs_vs_cats"].split("│")[-2].strip() == "dogs_vs_cats"
    assert f"found in {dogs}" in printed
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    data_commands.data_list(options())
    assert capsys.readouterr().out.count("download") >= 8


def test_get_prints_what_is_there(dogs, capsys):
    assert data_commands.data_get(options(name="dogs_vs_cats", data_dir=dogs)) == 0
    printed = capsys.readouterr().out
    assert "8 samples of shape (3, 150, 150)" in printed
    assert "note: 8 of the 25,000 published samples" in printed
    assert str(dogs / "dogs_vs_cats") in printed
    data_commands.data_get(options(name="digits"))
    printed = capsys.readouterr().out
    assert "1,797" in printed
    assert "from scikit-learn" in printed


def test_check_passes_a_subset_and_fails_a_difference(dogs, capsys):
    assert data_commands.data_check(options(name="dogs_vs_cats", data_dir=dogs)) == 0
    printed = capsys.readouterr().out
    assert "ok: the 2 classes have the published names" in printed
    assert "ok: a subset: 8 of the 25,000 published samples" in printed
    (dogs / "dogs_vs_cats" / "manifest.csv").write_text("file\ncat/0.png\ndog/9.png\n")
    assert data_commands.data_check(options(name="dogs_vs_cats", data_dir=dogs)) == 1
    assert "FAILED: DATA dogs_vs_cats" in (printed := capsys.readouterr().out)
    assert "half downloaded: 1 of 2 files" in printed


@pytest.mark.parametrize("command", ["data_get", "data_check"])
def test_unknown_names(command):
    with pytest.raises(BenchError, match=r"'cifar11' is no known data set.*did you mean 'cifar10'"):
        getattr(data_commands, command)(options(name="cifar11"))


# -- the sheet ----------------------------------------------------------------------------------------------


def test_show_writes_a_sheet(tmp_path, dogs, capsys):
    out = tmp_path / "sheet.png"
    assert data_commands.data_show(options(name="dogs_vs_cats", data_dir=dogs, out=out)) == 0
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as plain:
        width, height = plain.size
    assert height > 2 * 150
    data_commands.data_show(options(name="dogs_vs_cats", data_dir=dogs, out=out, augment="flip"))
    with Image.open(out) as varied:
        assert varied.size[0] > 3 * width
        assert varied.size[1] == height


def test_show_takes_the_papers_augmentation_and_files_of_the_user(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        data_commands, "contact_sheet", lambda data, spec, **o: seen.append((data, spec)) or Image.new("L", (1, 1))
    )
    data_commands.data_show(options(name="digits", out=tmp_path / "a.png"))
    assert seen[-1][1] == "none"
    monkeypatch.setattr(data_commands, "load", lambda name, **o: name)
    data_commands.data_show(options(name="cifar10", out=tmp_path / "a.png"))
    assert seen[-1] == ("cifar10", "paper_cifar10")
    data_commands.data_show(options(name="my/folder", out=tmp_path / "a.png"))
    assert seen[-1] == ("my/folder", "none")


def test_show_refuses(tmp_path, dogs):
    with pytest.raises(BenchError, match="--augment"):
        data_commands.data_show(options(name="no/such/thing", out=tmp_path / "a.png", augment="fip"))
    for out in (tmp_path / "none" / "a.png", tmp_path / "a.xyz"):
        with pytest.raises(BenchError, match=r"--out .*cannot be written"):
            data_commands.data_show(options(name="dogs_vs_cats", data_dir=dogs, out=out))
    np.savez(tmp_path / "v.npz", x=np.zeros((6, 2)), y=[0, 1] * 3)
    with pytest.raises(BenchError, match=r"no images but have shape \(2,\)"):
        data_commands.data_show(options(name=str(tmp_path / "v.npz"), out=tmp_path / "a.png"))


def colours(sheet: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in sheet.convert("RGB").getcolors(2**24)}


def test_a_sheet_holds_the_pictures_and_what_augmentation_makes_of_them():
    """One-coloured pictures stay what they are under every augmentation, so each block shows each colour."""
    y = np.repeat(np.arange(3), 4)
    x = np.zeros((12, 3, 10, 20), dtype=np.uint8)
    x[:, 0], x[:, 1] = (20 * y)[:, None, None] + 100, (np.arange(12) * 10)[:, None, None] + 50
    data = Dataset("d", x, y, ("<b>", "ünï", "x" * 200))
    sheet = contact_sheet(data, "none", pictures=4)
    expected = {(20 * int(label) + 100, 10 * n + 50, 0) for n, label in enumerate(y)}
    assert expected <= colours(sheet)
    tile = sum(count for count, c in sheet.getcolors(2**24) if c in expected) / 12
    assert tile == 7 * 10 * 7 * 20  # enlarged sevenfold, to about 72 pixels
    varied = contact_sheet(data, "rotate=30,shift=0.2,warp=0.1", pictures=4, epochs=2)
    counts = {c: n for n, c in varied.getcolors(2**24)}
    assert all(counts[c] == pytest.approx(3 * tile, rel=0.01) for c in expected)  # the original and two epochs
    two = contact_sheet(data, "none", pictures=2, classes=2)
    assert len(expected & colours(two)) == 4
    assert {c[0] for c in expected & colours(two)} == {100, 120}


def test_a_sheets_augmented_pictures_are_augments_own():
    rng = np.random.default_rng(0)
    data = Dataset("d", rng.integers(0, 256, (2, 1, 72, 72), dtype=np.uint8), np.array([0, 1]), ("a", "b"))
    sheet = np.asarray(contact_sheet(data, "flip", pictures=1, epochs=6))
    for picture in data.x[:, 0]:
        places = {name: where(sheet, p) for name, p in (("as it is", picture), ("flipped", picture[:, ::-1]))}
        assert sum(map(len, places.values())) == 7  # the original and six epochs
        assert places["as it is"]
        assert places["flipped"]
    assert augment.parse("flip").draws(2, 1).shape == (2, 4)


def where(sheet: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Where the picture stands, found by its first row of pixels."""
    rows, columns = np.nonzero(sheet[: 1 - 72, : 1 - 72, 0] == picture[0, 0])
    return [
        (r, c)
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        if (sheet[r : r + 72, c : c + 72] == picture[..., None]).all()
    ]


def test_a_sheet_of_numbers_scales_them():
    x = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32) * 1000
    sheet = contact_sheet(Dataset("d", x, np.array([0, 0, 1, 1]), ("a", "b")), "none", pictures=2)
    assert {(0, 0, 0), (255, 255, 255)} <= colours(sheet)
    assert len(colours(sheet)) > 100
