"""Images beside masks, as people keep them: folders and archives, parts, names, and every way to refuse."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_samples import grey_tiff, picture
from PIL import Image

from adma.bench.data.catalog import load
from adma.bench.data.dataset import IGNORED
from adma.bench.errors import BenchError


def mask(values: np.ndarray, mode: str = "L", form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(values.astype(np.uint8))
    if mode == "P":
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([7, 9, 11] * 256)  # colours that say nothing of the values
    image.convert(mode if mode == "RGB" else image.mode).save(buffer, form)
    return buffer.getvalue()


def grey_png(width: int, height: int, depth: int, rows: np.ndarray) -> bytes:
    """A grey PNG of any depth, which Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


VALUES = [np.array([[0, 1, 2], [255, 2, 1]]), np.array([[2, 2, 2], [0, 0, 0]]), np.array([[1, 1, 0], [0, 2, 255]])]


def files(**more: bytes) -> dict[str, bytes]:
    found = {f"images/{n}.png": picture("RGB", (2, 3), 50 + n) for n in range(3)}
    found |= {f"masks/{n}.png": mask(values, "P" if n else "L") for n, values in enumerate(VALUES)}
    return found | {"classes.txt": b"sky\ntree\nriver\n", "README": b"words"} | more


def write(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_masks_are_read_as_they_stand_in_the_file(tmp_path: Path) -> None:
    data = load(str(write(tmp_path / "d", files())))
    assert data.class_names == ("sky", "tree", "river")
    assert data.x.shape == (3, 3, 2, 3)
    np.testing.assert_array_equal(data.y, np.where(np.array(VALUES) == 255, IGNORED, VALUES))
    assert data.kind.segments
    assert any("README" in note for note in data.notes)


def test_an_archive_with_a_folder_around_gives_the_same(tmp_path: Path) -> None:
    plain = load(str(write(tmp_path / "d", files())))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name, data in files().items():
            archive.writestr(f"around/{name}", data)
    assert load(str(tmp_path / "d.zip")).fingerprint == plain.fingerprint


@pytest.mark.parametrize("around", ["", "around/"])
def test_parts_are_the_first_folders(tmp_path: Path, around: str) -> None:
    content = {f"{around}{p}/{n}": d for p in ("train", "val", "test") for n, d in files().items() if "/" in n}
    data = load(str(write(tmp_path / "d", content | {f"{around}classes.txt": b"a\nb\nc"})))
    assert data.parts.tolist() == ["test"] * 3 + ["train"] * 3 + ["val"] * 3
    assert data.class_names == ("a", "b", "c")


@pytest.mark.parametrize("around", ["", "around/"])
def test_parts_below_images_are_not_read_and_that_is_said(tmp_path: Path, around: str) -> None:
    parts = ["Train", "val", "night"]
    content = {f"{around}{n.replace('/', f'/{p}/')}": d for p in parts for n, d in files().items() if "/" in n}
    data = load(str(write(tmp_path / "d", content)))
    assert data.parts is None
    (note,) = [note for note in data.notes if "parts" in note]
    assert note.startswith("WARNING: the folders Train, val below images were not read as parts")
    assert "train|val|test/images" in note


def test_without_names_the_classes_are_the_values_that_occur(tmp_path: Path) -> None:
    content = files()
    del content["classes.txt"]
    content["masks/1.png"] = mask(np.array([[7, 7, 7], [0, 0, 0]]))
    data = load(str(write(tmp_path / "d", content)))
    assert data.class_names == ("0", "1", "2", "7")
    assert (data.y[1] == 3).sum() == 3


def test_other_sizes_are_brought_to_one_by_the_nearest_pixel(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [2, 2, 1]])
    large = {"images/0.png": picture("RGB", (4, 6)), "masks/0.png": mask(np.kron(values, np.ones((2, 2))))}
    content = files(**large)
    data = load(str(write(tmp_path / "d", content)), image_size=(2, 3))
    np.testing.assert_array_equal(data.y[0], values)
    assert data.x.shape == (3, 3, 2, 3)


@pytest.mark.parametrize("broken", ["images/9.png", "masks/9.png"])
def test_a_pair_that_is_left_out_has_no_say_in_size_and_colour(tmp_path: Path, broken: str) -> None:
    content = {n: d for n, d in files().items() if n.startswith("masks")}
    content |= {f"images/{n}.png": picture("L", (2, 3), 50 + n) for n in range(3)}
    pair = {"images/9.png": picture("RGB", (90, 91)), "masks/9.png": mask(np.arange(90 * 91).reshape(90, 91) % 2)}
    pair[broken] = pair[broken][: len(pair[broken]) * 2 // 3]
    write(tmp_path / "d", content)
    plain = load(str(tmp_path / "d"))
    write(tmp_path / "d", pair)
    data = load(str(tmp_path / "d"), skip_bad=True)
    assert data.fingerprint == plain.fingerprint
    assert not any("sizes" in note for note in data.notes)
    assert any(broken in note for note in data.notes)


@pytest.mark.parametrize("shape", [(4, 4), (4, 6)])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_is_turned_as_its_image_is(tmp_path: Path, shape: tuple[int, int], mode: str) -> None:
    values = np.arange(shape[0] * shape[1]).reshape(shape) % 3
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    content = {}
    for n in range(2):
        for kind, of in (("images", "L"), ("masks", mode)):
            buffer = io.BytesIO()
            Image.open(io.BytesIO(mask(values * (80 if kind == "images" else 1), of))).save(buffer, "PNG", exif=exif)
            content[f"{kind}/{n}.png"] = buffer.getvalue()
    data = load(str(write(tmp_path / "d", content)))
    np.testing.assert_array_equal(data.y[0], np.rot90(values, -1))
    np.testing.assert_array_equal(data.x[0, 0], 80 * data.y[0])


@pytest.mark.parametrize(("depth", "highest"), [(1, 1), (2, 3), (4, 15), (8, 254)])
def test_grey_of_fewer_bits_has_its_values_as_they_stand_in_the_file(tmp_path: Path, depth: int, highest: int) -> None:
    values = np.array([[0, 1, highest], [highest, 1, 0]])
    bits = ((values[..., None] >> np.arange(depth)[::-1]) & 1).reshape(2, -1)
    content = {"images/0.png": picture("L", (2, 3)), "masks/0.png": grey_png(3, 2, depth, np.packbits(bits, axis=1))}
    data = load(str(write(tmp_path / "d", content)))
    assert data.class_names == tuple(str(v) for v in sorted({0, 1, highest}))
    np.testing.assert_array_equal(np.array(data.class_names).astype(int)[data.y[0]], values)


def test_class_folders_with_such_names_below_them_stay_classes(tmp_path: Path) -> None:
    content = {
        f"{c}/{k}/{n}.png": picture("L", (4, 4), 9 * n) for c in "ab" for k in ("images", "masks") for n in range(4)
    }
    data = load(str(write(tmp_path / "d", content)))
    assert data.class_names == ("a", "b")
    assert not data.kind.dense


REFUSED = {
    "no mask": ({"images/9.png": picture("RGB", (2, 3))}, ["1 files in images", "masks", "images/9.png"]),
    "no image": ({"masks/9.png": mask(VALUES[0])}, ["1 files in masks", "masks/9.png"]),
    "two of a name": (
        {"images/0.bmp": picture("RGB", (2, 3), form="BMP")},
        ["images/0.png", "images/0.bmp", "one name"],
    ),
    "another size": ({"masks/0.png": mask(np.zeros((3, 3)))}, ["masks/0.png", "3 x 3 pixels, but its image has 2 x 3"]),
    "colours": ({"masks/0.png": mask(VALUES[0], "RGB")}, ["masks/0.png", "the mode RGB", "--skip-bad"]),
    "with loss": ({"masks/0.png": mask(VALUES[0], form="JPEG")}, ["masks/0.png", "save it as PNG"]),
    "damaged": ({"masks/0.png": mask(VALUES[0])[:45]}, ["1 of 6 files", "masks/0.png"]),
    "no image file": ({"images/1.png": b"nothing"}, ["images/1.png", "not an image"]),
    "no such class": ({"masks/0.png": mask(VALUES[0] * 3)}, ["labels such as 3", "3 names"]),
    "a line without a name": ({"classes.txt": b"sky\n\nriver\n"}, ["not be empty"]),
    "names that are no text": ({"classes.txt": b"\xff\xfe\xff"}, ["classes.txt is not UTF-8"]),
}


@pytest.mark.parametrize("white_is_0", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_tiff_has_the_values_of_its_bits(tmp_path: Path, bits: int, white_is_0: bool) -> None:
    """Where 0 is white, programs that write and read masks turn the values between."""
    most = 2**bits - 1
    values = np.arange(16).reshape(2, 8) % min(2**bits, 16)
    stored = (most - values if white_is_0 else values).tolist()
    content = {"images/0.png": picture("L", (2, 8)), "masks/0.tif": grey_tiff(stored, bits, white_is_0=white_is_0)}
    np.testing.assert_array_equal(load(str(write(tmp_path / "d", content))).y[0], values)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    more, words = REFUSED[name]
    with pytest.raises(BenchError) as caught:
        load(str(write(tmp_path / "d", files(**more))))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["another size", "damaged", "no image file"])
def test_a_bad_pair_may_be_left_out(name: str, tmp_path: Path) -> None:
    data = load(str(write(tmp_path / "d", files(**REFUSED[name][0]))), skip_bad=True)
    assert len(data) == 2
    assert any("left out 1 of 3 pairs of which a file cannot be used: " in note for note in data.notes)
