"""Folders and archives of pictures: classes, parts, pixels, sizes, and files that are no pictures."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from data_samples import grey_tiff, picture, png_header, refuses, tar_of, two_classes, write, zip_of
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adma.bench.data import sources
from adma.bench.data.catalog import load
from adma.bench.data.images import Header, read_header
from adma.bench.errors import BenchError

# -- what is read -------------------------------------------------------------------------------------------


def test_class_folders_become_sorted_classes_and_samples(tmp_path):
    data = load(str(write(tmp_path / "pets", two_classes())))
    assert data.name == "pets"
    assert data.class_names == ("cat", "dog")
    assert data.x.shape == (6, 3, 6, 8)
    assert data.x.dtype == np.uint8
    assert data.x[:, 0, 0, 0].tolist() == [0, 50, 100, 10, 60, 110]
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.y.dtype == np.int64
    assert data.parts is None
    assert data.notes == ()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".ZIP"])
@pytest.mark.parametrize("wrapping", ["", "NAME/", "./", "a/b/"])
def test_archives_read_as_the_folder_does_and_leave_nothing_on_disk(tmp_path, ending, wrapping):
    files = two_classes()
    folder = load(str(write(tmp_path / "folder", files)))
    shuffled = {wrapping + name: files[name] for name in sorted(files, key=lambda n: n[::-1])}
    path = tmp_path / f"archive{ending}"
    if ending.lower() == ".zip":
        zip_of(path, shuffled)
    else:
        mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(ending.split(".")[-1], "w")
        tar_of(path, shuffled, mode=mode)
    before = sorted(tmp_path.rglob("*"))
    data = load(str(path))
    assert data.fingerprint == folder.fingerprint
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "test"), ["test", "train"]),
        (("training", "valid", "Testing"), ["test", "train", "val"]),
        (("train", "validation"), ["train", "val"]),
        (("TRAIN",), ["train"]),
    ],
)
@pytest.mark.parametrize("wrapping", ["", "NAME/"])
def test_part_folders_become_parts(tmp_path, folders, parts, wrapping):
    files = {f"{wrapping}{part}/{name}": b for part in folders for name, b in two_classes().items()}
    data = load(str(write(tmp_path, files)))
    assert data.class_names == ("cat", "dog")
    assert sorted(set(data.parts.tolist())) == parts
    assert all((data.parts == p).sum() == 6 for p in parts)


def test_a_class_may_be_called_train(tmp_path):
    files = {f"{c}/{n}.png": picture() for c in ("train", "tram") for n in range(2)}
    data = load(str(write(tmp_path, files)))
    assert data.class_names == ("train", "tram")
    assert data.parts is None


def test_pictures_in_deeper_folders_count_for_the_class_and_are_noted(tmp_path):
    data = load(str(write(tmp_path, two_classes(**{"cat/more/9.png": picture()}))))
    assert data.y.tolist().count(0) == 4
    assert any("1 images lie in folders below" in n for n in data.notes)


def test_system_files_and_manifests_are_no_samples(tmp_path):
    junk = dict.fromkeys(
        [
            ".DS_Store", "cat/.hidden.png", "cat/._1.png", "cat/Thumbs.db", "cat/desktop.ini", "__MACOSX/cat/1.png",
            ".git/x/y.png", "manifest.csv", "cat/labels.txt", "dog/info.json", "README.md", "README", "LICENSE",
        ],
        b"junk",
    )  # fmt: skip
    data = load(str(write(tmp_path, two_classes(**junk))))
    assert data.class_names == ("cat", "dog")
    assert len(data) == 6
    (note,) = data.notes
    assert "manifest.csv" in note
    assert "and 1 more" in note
    assert "Thumbs" not in note


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "naïve ünï 猫", "a&b", "'; DROP TABLE", " x ", "new\nline"]
)
def test_class_names_are_kept_as_text(tmp_path, name):
    name = name.replace("/", "∕")
    data = load(str(write(tmp_path, {f"{name}/1.png": picture(), "z/1.png": picture()})))
    assert name in data.class_names
    assert len(data.fingerprint) == 16


def test_one_spelling_of_accents(tmp_path):
    files = {"train/caf\u00e9/1.png": picture(), "train/b/1.png": picture(), "test/cafe\u0301/1.png": picture()}
    assert load(str(write(tmp_path, files))).class_names == ("b", "caf\u00e9")


def test_links_in_a_folder_are_followed_but_not_round_in_circles(tmp_path):
    files = write(tmp_path / "data", two_classes())
    (files / "cat" / "link.png").symlink_to(files / "dog" / "0.png")
    (files / "bird").symlink_to(files / "dog")
    data = load(str(files))
    assert data.class_names == ("bird", "cat", "dog")
    assert len(data) == 10
    (files / "dog" / "up").symlink_to(files)
    refuses(files, "leads back", "dog/up")


# -- pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "value", "form", "expected"),
    [
        ("L", 100, "PNG", [100]),
        ("1", 1, "PNG", [255]),
        ("I;16", 65535, "PNG", [255]),
        ("I;16", 25700, "PNG", [100]),
        ("I;16", 100, "TIFF", [0]),
        ("LA", 100, "PNG", [194]),  # 100 at opacity 100/255, over white
        ("RGB", 100, "PNG", [100, 100, 100]),
        ("RGBA", 100, "PNG", [194, 194, 194]),
        ("CMYK", 100, "TIFF", [94, 94, 94]),
        ("RGB", 100, "BMP", [100, 100, 100]),
        ("RGB", 100, "WEBP", [100, 100, 100]),
        ("L", 100, "JPEG", [100]),
        ("RGB", 100, "GIF", [100, 100, 100]),
    ],
)
def test_every_kind_of_picture_becomes_grey_or_rgb(tmp_path, mode, value, form, expected):
    content = picture(mode, value=value, form=form)
    data = load(str(write(tmp_path, {"a/1.x": content, "b/1.x": content})))
    assert data.x.shape == (2, len(expected), 6, 8)
    assert np.abs(data.x[0, :, 2, 2].astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("bits", "white_is_0"), [(8, False), (12, False), (16, False), (8, True), (16, True)])
def test_a_grey_tiff_says_what_its_white_is(tmp_path, bits, white_is_0):
    most = 2**bits - 1
    shades = [[0, most], [(most + 1) // 2, (most + 1) // 4]]
    rows = [[most - value for value in row] for row in shades] if white_is_0 else shades
    content = grey_tiff(rows, bits, white_is_0=white_is_0)
    data = load(str(write(tmp_path, {"a/1.tif": content, "b/1.tif": content})))
    assert data.x[0].tolist() == [[[0, 255], [128, 64]]]


def test_cmyk_jpeg_and_palette_transparency(tmp_path):
    palette = Image.new("P", (8, 6), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=1)
    opaque = io.BytesIO()
    palette.save(opaque, "PNG")
    files = {"a/1.jpg": picture("CMYK", form="JPEG"), "b/1.png": buffer.getvalue(), "c/1.PNG": opaque.getvalue()}
    data = load(str(write(tmp_path, files)))
    assert data.x[1, :, 0, 0].tolist() == [255, 255, 255]
    assert data.x[2, :, 0, 0].tolist() == [10, 200, 30]
    assert np.ptp(data.x[0]) <= 2


def test_one_colour_picture_makes_all_three_channelled(tmp_path):
    data = load(str(write(tmp_path, {"a/1.png": picture("L", value=7), "b/1.png": picture("RGB")})))
    assert data.x.shape == (2, 3, 6, 8)
    assert (data.x[0] == 7).all()


def half_white(form: str = "PNG", **save) -> bytes:
    """16 x 32 pixels, of which the left half is white."""
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **save)
    return buffer.getvalue()


def shown_turned(tmp_path: Path, content: bytes) -> None:
    """Check that it is read as it is shown, by 90 degrees clockwise: the white half on top, nothing stretched."""
    data = load(str(write(tmp_path, {"a/1": content, "b/1": content})))
    assert data.x.shape == (2, 3, 32, 16)
    assert data.x[0, :, :12].min() > 200
    assert data.x[0, :, 20:].max() < 50


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied(tmp_path, form):
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow has no {form}")
    exif = Image.Exif()
    exif[0x0112] = 6
    shown_turned(tmp_path, half_white(form, exif=exif))


def test_a_tiffs_orientation_counts_once_whatever_pillow_made_of_its_size(monkeypatch):
    """Pillow gives the size of a picture before it is turned until 10.4, and that of the turned one since 11."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content, opened = half_white("TIFF", exif=exif), Image.open
    headers = []
    for size in ((32, 16), (16, 32)):

        def open_as(*given, size=size, **named):
            image = opened(*given, **named)
            image._size = size
            return image

        monkeypatch.setattr(Image, "open", open_as)
        headers.append(read_header(io.BytesIO(content)))
    assert headers == [Header(32, 16, False)] * 2


def test_a_pngs_orientation_counts_wherever_it_stands(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = half_white(exif=exif), half_white()
    start = turned.index(b"eXIf") - 4
    block = turned[start : turned.index(b"IDAT") - 4]
    assert turned.replace(block, b"") == plain
    end = plain.index(b"IEND") - 4
    shown_turned(tmp_path / "behind", plain[:end] + block + plain[end:])  # behind the pixels

    packet = PngInfo()
    packet.add_itxt("Comment", "a text of its own")
    packet.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>')
    shown_turned(tmp_path / "xmp", half_white(pnginfo=packet))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 6), (v, v, v)) for v in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    data = load(str(write(tmp_path, {"a/1.gif": buffer.getvalue(), "b/1.png": picture()})))
    assert (data.x[0] == 40).all()
    assert any("1 images have several frames" in n for n in data.notes)


# -- sizes --------------------------------------------------------------------------------------------------


def test_several_sizes_become_the_median_and_say_so(tmp_path):
    files = {"a/1.png": picture(size=(10, 20)), "a/2.png": picture(size=(30, 40)), "b/1.png": picture(size=(20, 30))}
    data = load(str(write(tmp_path, files)))
    assert data.sample_shape == (3, 20, 30)
    assert any("20 x 30" in n and "3 sizes" in n for n in data.notes)


def test_large_pictures_are_made_smaller_and_say_so(tmp_path):
    data = load(
        str(write(tmp_path / "same", {"a/1.png": picture(size=(320, 200)), "b/1.png": picture(size=(320, 200))}))
    )
    assert data.sample_shape == (3, 160, 100)
    assert any("160 x 100" in n for n in data.notes)
    mixed = {
        "a/1.png": picture(size=(320, 160)),
        "b/1.png": picture(size=(300, 160)),
        "b/2.png": picture(size=(320, 160)),
    }
    data = load(str(write(tmp_path / "mixed", mixed)))
    assert data.sample_shape == (3, 64, 32)


def test_image_size_is_height_and_width(tmp_path):
    root = write(tmp_path, two_classes())
    data = load(str(root), image_size=(5, 9))
    assert data.sample_shape == (3, 5, 9)
    assert any("5 x 9" in n for n in data.notes)
    assert load(str(root), image_size=(6, 8)).notes == ()
    for wrong in [(0, 5), (5,), 5, (5.0, 5), (True, 5)]:
        with pytest.raises(BenchError, match="--image-size"):
            load(str(root), image_size=wrong)


# -- bad files ----------------------------------------------------------------------------------------------

WHOLE = picture(size=(40, 40), form="PNG")
BAD = {
    "text.png": b"not a picture",
    "empty.jpg": b"",
    "model.pkl": b"\x80\x04K\x01.",
    "cut.jpg": picture(size=(64, 64), form="JPEG")[:-200],
    "cut.png": WHOLE[: len(WHOLE) // 2],
    "bomb.png": png_header(60_000, 60_000),
    "large.png": png_header(9_000, 9_000),
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EOF\n",
    "notes.pdf": b"%PDF-1.4",
    "wide.tif": picture("I", value=70_000, form="TIFF"),
    "wide_but_small.tif": picture("I", value=100, form="TIFF"),  # of 16 bits it would be as good as black
    "float.tif": picture("F", value=100, form="TIFF"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_file_is_an_error_that_names_it_and_skipped_only_if_asked(tmp_path, name, packed):
    files = two_classes(**{f"dog/{name}": BAD[name]})
    root = zip_of(tmp_path / "x.zip", files) if packed else write(tmp_path, files)
    refuses(root, f"dog/{name}", "1 of 7 files", "--skip-bad")
    data = load(str(root), skip_bad=True)
    assert len(data) == 6
    assert data.sample_shape == (3, 6, 8)  # the bad file has no say in the size
    assert any("left out 1 of 7 files" in n and f"dog/{name}" in n for n in data.notes)


def test_many_bad_files_are_counted_and_the_first_named(tmp_path):
    files = two_classes(**{f"dog/bad{n:02}.png": b"?" for n in range(12)})
    message = refuses(write(tmp_path, files), "12 of 18", "bad00", "bad04", "and 7 more")
    assert "bad05" not in message
    (note,) = load(str(tmp_path), skip_bad=True).notes
    assert all(f"bad{n:02}" in note for n in range(12))


def test_skipped_colour_files_do_not_colour_a_grey_data_set(tmp_path):
    files = {"a/1.png": picture("L"), "b/1.png": picture("L"), "b/2.png": WHOLE[: len(WHOLE) // 2]}
    assert load(str(write(tmp_path, files)), skip_bad=True).sample_shape == (1, 6, 8)


def test_other_things_than_files(tmp_path):
    root = write(tmp_path, two_classes())
    os.mkfifo(root / "dog" / "pipe.png")
    (root / "dog" / "dead.png").symlink_to(tmp_path / "nowhere")
    refuses(root, "dog/pipe.png (not a regular file)", "dog/dead.png (a link to nothing)")
    assert len(load(str(root), skip_bad=True)) == 6
    refuses(root / "dog" / "pipe.png", "cannot be read")


def test_a_file_too_large_to_be_a_picture(tmp_path, monkeypatch):
    root = write(tmp_path, two_classes())
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 10)
    refuses(root, "6 of 6", "larger than")


def test_pictures_outside_class_folders(tmp_path):
    root = write(tmp_path, two_classes(**{"loose.png": picture()}))
    refuses(root, "loose.png (lies in no class folder)")
    assert len(load(str(root), skip_bad=True)) == 6


def test_undecodable_class_name(tmp_path):
    root = write(tmp_path, two_classes())
    bad = os.fsencode(root) + b"/b\xff"
    os.mkdir(bad)
    Path(os.fsdecode(bad), "1.png").write_bytes(picture())
    refuses(root, "UTF-8", "udcff")


# -- layouts that are refused -------------------------------------------------------------------------------


PIC = picture()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ["no images"]),
        ({"a.csv": b"", "b/c.txt": b""}, ["no images", "2 text files"]),
        ({"1.png": b"", "2.png": b""}, ["no image lies in a class folder"]),
        ({"cat/1.png": PIC}, ["at least 2 classes", "got 1 (cat)"]),
        ({"cat/1.png": PIC, "dog/x.txt": b""}, ["no image in the class folder dog"]),
        ({"w/cat/1.png": PIC, "w/dog/.x": b"", "w/owl/a.txt": b""}, ["no image in the class folder w/dog, w/owl"]),
        ({"train/a/1.png": PIC, "train/b/1.png": PIC, "more/b/1.png": PIC}, ["more", "mixture"]),
        ({"train/a/1.png": PIC, "train/b/1.png": PIC, "test/1.png": PIC}, ["test", "no class folders"]),
        ({"train/a/1.png": PIC, "train/b/1.png": PIC, "test/c/1.png": PIC}, ["class c", "not in train"]),
        ({"test/a/1.png": PIC, "test/b/1.png": PIC}, ["no sample is stated as 'train'"]),
        ({f"{p}/{c}/1.png": PIC for p in ("train", "Training") for c in "ab"}, ["Training", "all name the train"]),
        ({"train/a/1.png": PIC, "train/b/1.png": PIC, "val/.x": b""}, ["val", "no class folders"]),
    ],
)  # fmt: skip
def test_layouts_that_are_refused(tmp_path, files, words):
    refuses(write(tmp_path, files), *words)


def test_a_class_of_which_nothing_is_left(tmp_path):
    files = {"a/1.png": picture(), "b/1.png": picture(), "c/1.png": b"?"}
    refuses(write(tmp_path, files), "no sample of class c", skip_bad=True)


# -- the paper's data ---------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_archive():
    if not os.environ.get("ADMA_DATA"):
        pytest.skip("ADMA_DATA IS NOT SET: the paper's data sets were not tested")
    path = Path(os.environ["ADMA_DATA"], "svhn.tar")
    if not path.is_file():
        pytest.skip(f"ADMA_DATA HOLDS NO {path.name}: it was not tested")
    data = load(str(path))
    assert data.x.shape == (1083, 3, 32, 32)
    assert data.class_names == tuple("0123456789")
    assert (data.parts == "test").sum() == 200
