"""Makes pictures, folders and archives for the tests, friendly and hostile."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adma.bench.data.catalog import load
from adma.bench.errors import BenchError


def picture(mode: str = "RGB", size: tuple[int, int] = (6, 8), value: int = 100, form: str = "PNG", **save) -> bytes:
    """The bytes of a one-coloured picture; size is (height, width)."""
    buffer = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(np.full(size, value, dtype=np.uint16))
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        image = Image.new(mode, size[::-1], value if bands == 1 else (value,) * bands)
    image.save(buffer, form, **save)
    return buffer.getvalue()


def grey_tiff(rows: list[list[int]], bits: int, *, white_is_0: bool = False) -> bytes:
    """A grey TIFF of 1 to 16 bits, little-endian, its rows whole bytes; Pillow writes some of these not at all."""
    height, width = len(rows), len(rows[0])
    values = [value for row in rows for value in row]
    if bits == 16:
        pixels = b"".join(value.to_bytes(2, "little") for value in values)
    else:
        pixels = int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(len(values) * bits // 8, "big")
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_0), 273: 8, 277: 1, 278: height}
    tags[279] = len(pixels)
    pixels += bytes(len(pixels) % 2)
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return head + pixels + struct.pack("<H", len(tags)) + directory + bytes(4)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims any size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def two_classes(**extra: bytes) -> dict[str, bytes]:
    files = {f"{c}/{n}.png": picture(value=50 * n + 10 * i) for i, c in enumerate(("cat", "dog")) for n in range(3)}
    return {**files, **extra}


def tar_of(path: Path, files: dict[str, bytes], *specials: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in specials:
            tar.addfile(info)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refuses(path: Path, *words: str, **options) -> str:
    with pytest.raises(BenchError) as caught:
        load(str(path), **options)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    return message
