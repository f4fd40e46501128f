"""Bytes that no camera makes: headers that promise too much, cut files, text dressed as pictures. All seeded."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def tiff_pages(sizes: list[tuple[int, int]], loop: bool = False) -> bytes:
    """A little-endian TIFF of 8-bit grey pages whose strips hold one byte; `loop` links the last page to the first."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number, (width, height) in enumerate(sizes):
        tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 4), (277, 1), (278, height), (279, 1)]
        here = len(data)
        following = here + 2 + 12 * len(tags) + 4
        last = number == len(sizes) - 1
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data += struct.pack("<I", (8 if loop else 0) if last else following)
    return bytes(data)


def gif_header(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame + b";"


def webp_header(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def ppm_header(width: int, height: int) -> bytes:
    return f"P6\n{width} {height}\n255\n".encode()


def jpeg_header(width: int, height: int) -> bytes:
    """A small JPEG whose frame header claims another size."""
    data = bytearray(saved(Image.new("RGB", (16, 16), (200, 30, 30)), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def text_bomb_png() -> bytes:
    """A PNG with a compressed comment of 64 MB."""
    whole = saved(Image.new("RGB", (8, 8)), "PNG")
    comment = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (64 << 20), 9))
    return whole[:33] + comment + whole[33:]


def zero_run_png(side: int) -> bytes:
    """A valid black picture, as large as it says, of a few kilobytes."""
    return saved(Image.new("L", (side, side)), "PNG", compress_level=9)


def animation(kind: str, frames: int) -> bytes:
    """Frame n is filled with the red value 20 n."""
    pictures = [Image.new("RGB", (24, 18), (20 * number, 0, 0)) for number in range(frames)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return saved(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=50, **options)


def dressed_as_jpeg() -> dict[str, bytes]:
    """Other things that servers hand out under the name of a picture."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.png"), b"x")  # whose date does not change
    return {
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "json": json.dumps({"error": "not found"}).encode(),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "psd": b"8BPS\0\1" + bytes(60),
        "zip": buffer.getvalue(),
        "fits": b"SIMPLE  =                    T" + bytes(2880),
        "ico": b"\0\0\1\0\1\0" + bytes(40),
        "one byte": b"\xff",
        "zeros": bytes(1000),
    }


def cuts(data: bytes) -> Iterator[bytes]:
    """The file cut at every tenth of its length."""
    return (data[: len(data) * tenth // 10] for tenth in range(1, 10))


def with_orientation(image: Image.Image, value: int, kind: str = "JPEG", **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return saved(image, kind, exif=exif, **options)


def with_text(image: Image.Image, name: str, text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(name, text)
    return saved(image, "PNG", pnginfo=info)
