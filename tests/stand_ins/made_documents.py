"""Documents whose pages are known, made of bytes: PDFs with a rectangle per page, TIFFs of given pages."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

WHITE, RED, GREEN = (255, 255, 255), (255, 0, 0), (0, 255, 0)


@dataclass(frozen=True)
class PdfSheet:
    """A page of so many points with a red square of 36 points, its lower left corner at (72, 36) as PDF counts; then more."""

    width_pt: float = 144
    height_pt: float = 216
    more: bytes = b""
    entries: bytes = b""


def pdf(sheets: Sequence[PdfSheet], lost: Sequence[int] = (), trailer: bytes = b"", objects: Sequence[bytes] = ()) -> bytes:
    """A PDF of these pages. Those `lost` are counted, but their objects are missing. Further objects begin at number 4."""
    first = 4 + len(objects)
    kids = b" ".join(b"%d 0 R" % (first + 2 * number) for number in range(len(sheets)))
    bodies: dict[int, bytes] = {
        1: b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[]/DR<</Font<</F1 3 0 R>>>>>>>>",
        2: b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(sheets)),
        3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    }
    bodies |= dict(enumerate(objects, 4))
    for number, sheet in enumerate(sheets):
        content = b"1 0 0 rg 72 36 36 36 re f " + sheet.more
        box = b"[0 0 %g %g]" % (sheet.width_pt, sheet.height_pt)
        own = b"<</Type/Page/Parent 2 0 R/MediaBox%s/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R%s>>"
        if number not in lost:
            bodies[first + 2 * number] = own % (box, first + 2 * number + 1, sheet.entries)
            bodies[first + 2 * number + 1] = b"<</Length %d>>stream\n%s\nendstream" % (len(content), content)
    return _written(bodies, trailer)


def _written(bodies: dict[int, bytes], trailer: bytes) -> bytes:
    data, places = bytearray(b"%PDF-1.7\n"), {}
    for number, body in bodies.items():
        places[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start, size = len(data), max(bodies) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        data += b"%010d 00000 n \n" % places[number] if number in places else b"0000000000 00001 f \n"
    return bytes(data + b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, start))


def encrypted_pdf() -> bytes:
    """A PDF that no empty password opens."""
    entry = b"/Encrypt<</Filter/Standard/V 1/R 2/O(%s)/U(%s)/P -4>>/ID[(a)(a)]" % (b"o" * 32, b"u" * 32)
    return pdf([PdfSheet()], trailer=entry)


def tiff(pages: Sequence[Image.Image], **options: object) -> bytes:
    """A TIFF of these pages, each with its own EXIF turn where its `info` has one under `turn`."""
    whole = io.BytesIO()
    first, *others = pages
    first.save(whole, "TIFF", save_all=True, append_images=others, **options)
    data = bytearray(whole.getvalue())
    for number, page in enumerate(pages):
        if turn := page.info.get("turn"):
            _turn(data, directories(data)[number], int(turn))
    return bytes(data)


def directories(data: bytes | bytearray) -> list[int]:
    """Where the directories of a little-endian TIFF begin."""
    found, place = [], struct.unpack_from("<I", data, 4)[0]
    while place:
        found.append(place)
        place = struct.unpack_from("<I", data, next_place(data, place))[0]
    return found


def next_place(data: bytes | bytearray, directory: int) -> int:
    """Where a directory says which one follows."""
    return directory + 2 + 12 * int(struct.unpack_from("<H", data, directory)[0])


def _turn(data: bytearray, directory: int, turn: int) -> None:
    """Put the orientation in the place of the tag for the planar configuration, which has the value that is assumed."""
    for place in range(directory + 2, next_place(data, directory), 12):
        if struct.unpack_from("<H", data, place)[0] == 0x011C:
            struct.pack_into("<HHII", data, place, 0x0112, 3, 1, turn)


def striped(width: int, height: int, colour: tuple[int, int, int], turn: int | None = None) -> Image.Image:
    """White with one stripe of colour along its top, a fifth of its height; to be turned as EXIF says."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(colour, (0, 0, width, height // 5))
    if turn:
        image.info["turn"] = turn
    return image


def sheet_of_noise(width: int, height: int, seed: int) -> Image.Image:
    """Black on white as a scanner sees it: one bit a pixel, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.random((height // 20, width // 20)) < 0.1
    return Image.fromarray(~np.kron(small, np.ones((20, 20), bool))).convert("1")
