"""One picture: from the bytes of an untrusted file to 8-bit grey or RGB pixels, or the reason why not.

- Grey of 1, 8, 12 or 16 bits becomes grey of 8 bits (65535 -> 255); palette, CMYK and other modes become RGB.
- Transparency is laid over white. The camera's orientation (EXIF) is applied.
- Of an animation or a multi-page file the first frame is taken.
- Refused: more than MAX_PIXELS pixels, 32-bit and floating-point pixels, truncated data, and formats outside
  FORMATS (Pillow would hand EPS to an outside program, and guesses at formats without a signature).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**26  # 8192 x 8192; below the size at which Pillow speaks of a decompression bomb
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap height and width
_COLUMNS, _ROWS = 0x0100, 0x0101  # TIFF tags: the size of the picture before it is turned
_BITS = 0x0102  # TIFF tag: bits of a channel
_PHOTOMETRIC = 0x0106  # TIFF tag: 0 where white is 0
_WIDE = "32-bit pixels, whose range is not known"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_TURNED = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # texts in which Pillow looks for an orientation
_GREY_MODES = {"1", "L", "LA", "La", "I"}


class NotAnImage(Exception):  # noqa: N818 - a finding about a file, told to the user in a BenchError
    """Why a file cannot be used as a picture."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    height: int
    width: int
    grey: bool


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    Image.init()
    known = tuple(f for f in FORMATS if f in Image.OPEN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a broken EXIF block is no reason to print
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(stream, formats=known) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS:
                    raise NotAnImage(f"{pixels} pixels, more than {MAX_PIXELS}")
                yield image
        except NotAnImage:
            raise
        except UnidentifiedImageError as error:
            raise NotAnImage("not an image in a known format") from error
        except Exception as error:  # decoders raise almost anything on damaged bytes
            raise NotAnImage(f"{error or type(error).__name__}") from error


def read_header(stream: BinaryIO) -> Header:
    """Size (as shown, orientation applied) and colour, without decoding the pixels.

    Raises:
        NotAnImage: the file is none that can be used.
    """
    with _opened(stream) as image:
        height, width = image.height, image.width
        if image.format == "PNG":  # its getexif may decode the pixels: only where there is something to find
            may_turn = _png_may_turn(stream)
        elif image.format == "TIFF":  # Pillow has turned its size already, since version 11
            tags: Any = getattr(image, "tag_v2", {})
            may_turn = (height, width) == (tags.get(_ROWS), tags.get(_COLUMNS))
        else:
            may_turn = True
        if may_turn and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
            height, width = width, height
        return Header(height, width, _is_grey(image))


def _png_may_turn(stream: BinaryIO) -> bool:
    """Whether a PNG has a chunk that may hold an orientation, also behind the pixels, where some programs write it."""
    before = stream.tell()
    stream.seek(8)
    found = False
    while not found and len(head := stream.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        key = stream.read(min(length, 32)) if kind in _PNG_TEXTS else b""
        found = kind == b"eXIf" or key.startswith(_PNG_TURNED)
        stream.seek(length - len(key) + 4, 1)  # the rest of the chunk, and its check sum
    stream.seek(before)
    return found


def decode(stream: BinaryIO, size: tuple[int, int] | None = None) -> tuple[np.ndarray, bool]:
    """The pixels, and whether there were more frames than this one.

    Args:
        stream: the file's bytes.
        size: (height, width) to resize to, bilinear with antialiasing; None keeps the picture's own.

    Returns:
        uint8, (H, W) if the picture is grey, else (H, W, 3).

    Raises:
        NotAnImage: the file is none that can be used.
    """
    with _opened(stream) as image:
        more_frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        image.seek(0)
        image.load()
        return pixels(image, size), more_frames


def decode_mask(stream: BinaryIO, size: tuple[int, int] | None = None) -> np.ndarray:
    """The values of a mask's pixels as they stand in the file: indices of a palette, or grey of up to 8 bits.

    The orientation (EXIF) is applied.

    Args:
        stream: the file's bytes.
        size: (height, width) to resize to; each pixel takes the nearest one's value.

    Returns:
        uint8 (H, W).

    Raises:
        NotAnImage: the file is none that can be used, has colours or more than 8 bits, or was compressed with loss.
    """
    with _opened(stream) as image:
        if image.format in ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"):
            raise NotAnImage(f"{image.format} may change a mask's values; save it as PNG")
        image.seek(0)
        stretched = _stretched(image)
        image.load()
        if image.mode not in ("L", "P", "1"):
            raise NotAnImage(
                f"a mask must be a grey or palette image of 8 bits whose values are class indices, this has the mode "
                f"{image.mode}"
            )
        values = ImageOps.exif_transpose(image) or image  # as its image is turned, and as `read_header` has it
        if size is not None and (values.height, values.width) != size:
            values = values.resize((size[1], size[0]), Image.Resampling.NEAREST)
        return np.array(values).astype(np.uint8) // np.uint8(stretched)


def _stretched(image: Image.Image) -> int:
    """By how much Pillow will multiply the values of a PNG or TIFF: grey of 2 or 4 bits is stretched to 8, of 1 not."""
    tiles: Any = getattr(image, "tile", None)
    if image.format not in ("PNG", "TIFF") or not tiles:
        return 1
    how = tiles[0][3]
    raw = how if image.format == "PNG" else how[0]  # such as L;4, in a TIFF also L;4I and others
    return {"L;2": 85, "L;4": 17}.get(raw[:3], 1)


def pixels(image: Image.Image, size: tuple[int, int] | None = None, mode: str | None = None) -> np.ndarray:
    """The pixels of an opened picture, as `decode` gives them; in mode "L" or "RGB" if one is named.

    Raises:
        NotAnImage: pixels of a kind that is refused.
    """
    # Their values alone do not tell: an image of 0 to 255 in 32 bits would be black, read as one of 16 bits.
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {_BITS: (16,)}
    if image.mode == "I" and tags.get(_BITS) != (16,):
        raise NotAnImage(_WIDE)
    # Pillow gives a TIFF of 12 bits the mode of 16 and leaves its values: its white is 4095. Of 8 bits it turns one
    # whose 0 is white, of 16 it does not.
    black, white = 0, 4095 if tags.get(_BITS) == (12,) else 65535
    if image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0:
        black, white = white, black
    plain = _plain(ImageOps.exif_transpose(image) or image, black, white)
    if mode is not None:
        plain = plain.convert(mode)
    if size is not None and (plain.height, plain.width) != size:
        plain = plain.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.array(plain)


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def _plain(image: Image.Image, black: int, white: int) -> Image.Image:
    """The picture in mode "L" or "RGB"; `black` and `white` are values of more than 8 bits."""
    if image.mode == "F":
        raise NotAnImage("floating-point pixels, whose range is not known")
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.int64)
        largest = max(black, white)
        if wide.min() < 0 or wide.max() > largest:
            raise NotAnImage(_WIDE)
        return Image.fromarray(((255 * abs(wide - black) + largest // 2) // largest).astype(np.uint8))
    mode = "L" if _is_grey(image) else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if mode == "L":
            image = image.convert("RGB")
    return image.convert(mode)


def resize_arrays(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images (N, C, H, W), uint8 or float32, resized like `decode` does, channel by channel."""
    if x.shape[2:] == size:
        return x
    result = np.empty((*x.shape[:2], *size), dtype=x.dtype)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            plane = Image.fromarray(np.ascontiguousarray(x[n, c]))
            result[n, c] = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return result
