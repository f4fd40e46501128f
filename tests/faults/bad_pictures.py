"""Every kind of bad picture file we know, made from a seed: what each holds, and as what it may end.

`bad_pictures` yields them one by one, so that only one of the large ones is held at a time.
"""

import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from schemas.status import Status
from tests.faults import bad_frames as frames
from tests.ray_pipeline.intake import hostile_images as hostile
from tests.stand_ins import made_documents as made

OK, CORRUPT, LARGE, UNSUPPORTED = Status.OK, Status.DECODE_CORRUPT, Status.DECODE_TOO_LARGE, Status.DECODE_UNSUPPORTED
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
_FLIPS_PER_REGION = 4
_GIB = 1 << 30


@dataclass(frozen=True)
class BadPicture:
    """`acceptable`: the statuses that are right for it under the default limits; `ok` among them where it is merely odd."""

    name: str
    data: bytes
    acceptable: frozenset[str]


def bad_pictures(seed: int = 0) -> Iterator[BadPicture]:
    """All of them; the seed moves the flipped bytes. None takes a decoder more than a second or two."""
    groups = (_headers, _bombs, _many_frames, _nothing, _dressed, _odd_tiffs, _odd_pdfs, _odd_colours, _odd_profiles, _odd_exif)
    for group in groups:
        for name, data, statuses in group():
            yield BadPicture(name, data, frozenset(statuses))
    for name, data in _cuts():  # layers make a cut JPEG 2000 a coarser picture
        yield BadPicture(name, data, frozenset({OK, CORRUPT} if "JPEG2000" in name else {CORRUPT}))
    for name, data in flipped_files(seed):
        yield BadPicture(name, data, frozenset({OK, CORRUPT, LARGE, UNSUPPORTED}))


def endless_pictures() -> list[BadPicture]:
    """Within every limit of size, but nobody has the time: only the clock ends them."""
    return [
        BadPicture("jpeg of 20,000 scans", frames.jpeg_of_scans(6000, 20_000), frozenset({Status.DECODE_TIMEOUT})),
    ]


Items = Iterable[tuple[str, bytes, set[Status]]]


def _headers() -> Items:
    """Headers that promise what no memory holds."""
    side = 100_000
    yield "png header 100,000", hostile.png_header(side, side), {LARGE}
    yield "tiff header 100,000", hostile.tiff_pages([(side, side)]), {LARGE}
    yield "webp header 100,000", hostile.webp_header(side, side), {LARGE}
    yield "bmp header 100,000", hostile.bmp_header(side, side), {LARGE}
    yield "bmp header -100,000", hostile.bmp_header(side, -side), {LARGE}
    yield "bmp header 2^31", hostile.bmp_header(-(2**31), -(2**31)), {LARGE, CORRUPT}
    yield "png header 2^31", hostile.png_header(2**31 - 1, 2**31 - 1), {LARGE, CORRUPT}
    yield "ppm header 100,000", hostile.ppm_header(side, side), {LARGE}
    yield "ppm header of 5,000 digits", b"P6\n" + b"9" * 5000 + b" 9\n255\n", {CORRUPT, LARGE}
    yield "gif header 65,535", hostile.gif_header(65_535, 65_535), {LARGE}
    yield "jpeg header 65,500", hostile.jpeg_header(65_500, 65_500), {LARGE}
    yield "jpeg header 0 high", hostile.jpeg_header(16, 0), {CORRUPT}
    yield "lossless webp 16,383", frames.lossless_webp_header(16_383, 16_383), {LARGE, CORRUPT}
    yield "avif header 100,000", frames.avif_of_size(side, side), {LARGE, CORRUPT}
    yield "jpeg 2000 header 100,000", frames.jpeg_2000_of_size(side, side), {LARGE, CORRUPT}
    yield "png header 0", hostile.png_header(0, 0), {CORRUPT}


def _bombs() -> Items:
    """Small files that unfold."""
    yield "flat jpeg 65,500", frames.flat_jpeg(65_500), {LARGE}
    yield "flat jpeg 3,000", frames.flat_jpeg(3000), {OK}
    yield "png, 8 x 8, 1 GiB of zeros", frames.png_of_zeros(8, 8, _GIB), {OK, CORRUPT}
    yield "png, 32,760 x 32,760, 1 GiB of zeros", frames.png_of_zeros(32_760, 32_760, _GIB), {LARGE}
    yield "png, zTXt of 64 MiB", hostile.text_bomb_png(), {LARGE}
    for chunk in (b"zTXt", b"iTXt", b"iCCP"):
        yield f"png, {chunk.decode()} of 1 GiB", frames.png_with_bomb(chunk, _GIB), {LARGE, CORRUPT, OK}
    yield "png, 100,000 comments", frames.png_of_comments(100_000), {OK, LARGE}
    yield "gif of one colour, 2,000", frames.flat_gif(2000), {OK, CORRUPT}
    yield "tiff, deflated strip of 1 GiB", frames.tiff_with_strip(frames.zeros_deflated(_GIB), 8), {OK, CORRUPT}
    yield "ppm comment of 1 MB", b"P6\n#" + b"x" * 1_000_000, {CORRUPT}


def _many_frames() -> Items:
    yield "gif of 100,000 frames", frames.gif_of_frames(100_000), {LARGE}
    yield "apng of 100,000 frames", frames.apng_of_frames(100_000), {LARGE}
    yield "webp of 100,000 frames", frames.webp_of_frames(100_000), {LARGE}
    yield "tiff of 10,000 pages", hostile.tiff_pages([(9, 9)] * 10_000), {LARGE}
    yield "tiff of 100,000 pages", hostile.tiff_pages([(9, 9)] * 100_000), {LARGE}
    yield "tiff pages in a loop", hostile.tiff_pages([(4, 4), (5, 5), (6, 6)], loop=True), {OK, CORRUPT}
    yield "tiff page that follows itself", hostile.tiff_pages([(4, 4)], loop=True), {OK, CORRUPT}
    yield "apng that lies about its frames", frames.apng_of_frames(3, claimed=2**31 - 1), {LARGE, CORRUPT}
    yield "apng of 0 frames", frames.apng_of_frames(3, claimed=0), {OK, CORRUPT}


def _nothing() -> Items:
    yield "no byte", b"", {CORRUPT}
    for byte in (b"\0", b"\xff", b"B", b"P"):
        yield f"one byte {byte.hex()}", byte, {UNSUPPORTED}
    for name, magic in (("png", b"\x89PNG\r\n\x1a\n"), ("jpeg", b"\xff\xd8\xff"), ("tiff", b"II*\0"), ("bmp", b"BM")):
        yield f"only the {name} magic", magic, {CORRUPT}
        yield f"{name} magic and zeros", magic + bytes(5000), {CORRUPT}
        yield f"{name} magic and noise", magic + random.Random(name).randbytes(5000), {CORRUPT, LARGE}


def _dressed() -> Items:
    for name, data in hostile.dressed_as_jpeg().items():
        yield f"{name} as .jpg", data, {UNSUPPORTED}
    yield "html after blanks as .jpg", b"\xef\xbb\xbf \n<!doctype html><title>404</title>", {UNSUPPORTED}
    yield "svg that calls out", b'<?xml version="1.0"?><svg><image href="http://127.0.0.1/"/></svg>', {UNSUPPORTED}
    yield "eps with a preview", b"\xc5\xd0\xd3\xc6" + bytes(60), {UNSUPPORTED}
    yield "zip behind a jpeg", hostile.saved(hostile.noise(9, 9), "JPEG") + hostile.dressed_as_jpeg()["zip"], {OK}
    yield "script behind a gif", hostile.saved(Image.new("L", (9, 9)), "GIF") + b"<script>alert(1)</script>", {OK}


def _odd_tiffs() -> Items:
    yield "tiff, CMYK of 16 bits", frames.tiff_cmyk_16(), {OK}
    for name, value in (("NaN", np.nan), ("infinite", np.inf)):
        values = np.array([[0.0, value], [0.5, 1.0]], dtype=np.float32)
        yield f"tiff, {name} floats", hostile.saved(Image.fromarray(values), "TIFF"), {CORRUPT}
    yield "tiff, all floats NaN", hostile.saved(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "TIFF"), {CORRUPT}
    yield "tiff, strip outside the file", hostile.tiff_pages([(300, 300)]), {CORRUPT}
    for name, data in frames.broken_tiffs():
        yield f"tiff, {name}", data, {OK, CORRUPT, LARGE, UNSUPPORTED}


def _odd_pdfs() -> Items:
    sheet, zeros = made.PdfSheet(), zlib.compress(bytes(1 << 28), 9)
    yield "pdf", made.pdf([sheet]), {OK}
    yield "pdf, encrypted", made.encrypted_pdf(), {UNSUPPORTED}
    yield "pdf, only its name", b"%PDF-1.7\n", {CORRUPT}
    yield "pdf, noise", b"%PDF-1.7\n" + random.Random(2).randbytes(5000), {CORRUPT}
    yield "pdf, a page of 14,400 points", made.pdf([made.PdfSheet(14_400, 14_400)]), {LARGE}
    yield "pdf, a page of 10^30 points", made.pdf([made.PdfSheet(1e30, 1e30)]), {OK, LARGE, CORRUPT}
    yield "pdf, 100,000 pages claimed", made.pdf([sheet]).replace(b"/Count 1", b"/Count 100000"), {LARGE, OK}
    yield "pdf, a tree that is its own branch", made.pdf([sheet]).replace(b"/Kids[4 0 R]", b"/Kids[2 0 R]"), {CORRUPT}
    bomb = b"<</Type/XObject/Subtype/Image/Width 16384/Height 16384/ColorSpace/DeviceGray/BitsPerComponent 8"
    bomb += b"/Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(zeros), zeros)
    shown = made.PdfSheet(more=b"100 0 0 100 0 0 cm /X Do", entries=b"/Resources<</XObject<</X 4 0 R>>>>")
    yield "pdf, a picture of 256 MiB", made.pdf([shown], objects=[bomb]), {OK, LARGE, Status.DECODE_CRASH}
    loop = b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>/Length 5>>stream\n/X Do\nendstream"
    looped = made.PdfSheet(more=b"/X Do", entries=b"/Resources<</XObject<</X 4 0 R>>>>")
    yield "pdf, a form that shows itself", made.pdf([looped], objects=[loop]), {OK}
    yield "pdf, 200,000 open brackets", made.pdf([made.PdfSheet(more=b"[" * 200_000)]), {OK}
    whole = made.pdf([sheet] * 3)
    for tenth, piece in enumerate(hostile.cuts(whole), 1):
        yield f"pdf cut at {10 * tenth} %", piece, {OK, CORRUPT}


def _odd_colours() -> Items:
    yield "jpeg, inverted CMYK of Adobe", hostile.saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), {OK}
    for kind in ("PNG", "BMP", "GIF"):
        yield f"{kind}, palette index out of range", frames.beyond_its_palette(kind), {OK, CORRUPT}
    clear = Image.new("RGBA", (9, 7), (1, 2, 3, 0))
    for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        yield f"{kind}, alpha only", hostile.saved(clear, kind), {OK}
    yield "PNG, grey and alpha 0", hostile.saved(Image.new("LA", (9, 7), (0, 0)), "PNG"), {OK}
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "PPM"):
        if kind != "JPEG":  # a JPEG ends at 65,500
            yield f"{kind}, 1 x 65,535", hostile.saved(Image.new("RGB", (1, 65_535)), kind), {OK}
            yield f"{kind}, 65,535 x 1", hostile.saved(Image.new("RGB", (65_535, 1)), kind), {OK}
    yield "JPEG, 1 x 65,500", hostile.saved(Image.new("RGB", (1, 65_500)), "JPEG"), {OK}
    yield "PNG, 16 bits", hostile.saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG"), {OK}


def _odd_profiles() -> Items:
    picture = hostile.noise(16, 16)
    noise = random.Random(1).randbytes(10_000_000)
    profiles = {"empty": b"", "cyclic": frames.cyclic_profile(), "10 MB of zeros": bytes(10_000_000), "10 MB of noise": noise}
    for name, profile in profiles.items():
        for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
            yield f"{kind}, {name} profile", hostile.saved(picture, kind, icc_profile=profile), {OK, LARGE, CORRUPT}
    yield "JPEG, profile pieces in a circle", frames.jpeg_with_circling_profile(), {OK, CORRUPT}


def _odd_exif() -> Items:
    picture = hostile.noise(16, 12)
    for value in (0, 9, 255, 65_535):
        yield f"orientation {value}", hostile.with_orientation(picture, value), {OK}
    for name, block in frames.broken_exif_blocks():
        yield f"JPEG, {name}", hostile.saved(picture, "JPEG", exif=block[:65_000]), {OK}
        for kind in ("PNG", "WEBP"):
            yield f"{kind}, {name}", frames.with_raw_exif(picture, kind, block), {OK, CORRUPT, LARGE}


@cache
def whole_files() -> dict[str, bytes]:
    """A sound file of each kind: what the cut and flipped ones are made from."""
    return {kind: hostile.saved(hostile.noise(64, 48), kind) for kind in KINDS}


def _cuts() -> Iterator[tuple[str, bytes]]:
    for kind, data in whole_files().items():
        for tenth, piece in enumerate(hostile.cuts(data), 1):
            yield f"{kind} cut at {10 * tenth} %", piece


def flipped_files(seed: int) -> Iterator[tuple[str, bytes]]:
    """One to eight changed bytes in the first 64, between, or in the last 32."""
    draw = random.Random(seed)
    for kind, whole in whole_files().items():
        regions = {"header": (0, 64), "body": (64, len(whole) - 32), "trailer": (len(whole) - 32, len(whole))}
        for region, (low, high) in regions.items():
            for number in range(_FLIPS_PER_REGION):
                data = bytearray(whole)
                for _ in range(draw.randint(1, 8)):
                    data[draw.randrange(low, high)] ^= draw.randint(1, 255)
                yield f"{kind} flipped in its {region}, {number}", bytes(data)
