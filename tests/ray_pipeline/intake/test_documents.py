"""Documents in the decoding child: how many pages each has, what each page is, and what is broken about it."""

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.document import Document
from ray_pipeline.intake.pdf_pages import pixel_size
from schemas.job import FetchSettings
from schemas.picture import Picture
from schemas.status import RowFailure, Status
from tests.ray_pipeline.intake import hostile_images as hostile
from tests.stand_ins.made_documents import (
    GREEN,
    RED,
    PdfSheet,
    directories,
    encrypted_pdf,
    next_place,
    pdf,
    striped,
    tiff,
)

LIMITS = FetchSettings(
    max_pixels=4_000_000, max_pages=50, pdf=True, pdf_dpi=150, decode_timeout_s=90, decode_memory_bytes=600_000_000
)
CORRUPT, LARGE, UNSUPPORTED = Status.DECODE_CORRUPT, Status.DECODE_TOO_LARGE, Status.DECODE_UNSUPPORTED


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(LIMITS) as started:
        yield started


def pages(decoder: Decoder, data: bytes) -> list[tuple[int, int] | Status] | Status:
    """Sizes of all pages, or how they failed; or how the document failed."""
    with Document(data) as document:
        try:
            decoder.open(document)
        except RowFailure as failure:
            return failure.status
        return [size(decoder, document, page) for page in range(document.pages)]


def size(decoder: Decoder, document: Document, page: int) -> tuple[int, int] | Status:
    try:
        picture = decoder.page(document, page)
    except RowFailure as failure:
        return failure.status
    assert picture.sha256 == document.sha256
    return picture.width, picture.height


def with_next(data: bytes, page: int, following: int) -> bytes:
    """The TIFF with another directory after this page's."""
    changed, places = bytearray(data), directories(data)
    struct.pack_into("<I", changed, next_place(data, places[page]), following)
    return bytes(changed)


def with_broken(data: bytes, page: int) -> bytes:
    """The TIFF with nonsense for the entries of this page's directory, which still says what follows."""
    changed, place = bytearray(data), directories(data)[page]
    end = next_place(data, place)
    changed[place + 2 : end] = b"\xee" * (end - place - 2)
    return bytes(changed)


THREE = tiff([striped(50, 40, RED), striped(30, 20, GREEN, turn=6), striped(60, 30, RED, turn=3)])
A6 = PdfSheet(144, 216)  # 300 x 450 pixels at 150 dots per inch
DOCUMENTS: dict[str, tuple[bytes, list[tuple[int, int] | Status] | Status]] = {
    "a picture": (hostile.saved(hostile.noise(30, 20), "PNG"), [(30, 20)]),
    "tiff, 1 page": (tiff([striped(50, 40, RED)]), [(50, 40)]),
    "tiff, 3 pages of different sizes and turns": (THREE, [(50, 40), (20, 30), (60, 30)]),
    "tiff, compressed": (tiff([striped(50, 40, RED)] * 2, compression="tiff_lzw"), [(50, 40)] * 2),
    "tiff, big": (tiff([striped(50, 40, RED)] * 2, big_tiff=True), [(50, 40)] * 2),
    "tiff, a lost third page": (with_next(THREE, 1, 10**9), [(50, 40), (20, 30), CORRUPT]),
    "tiff, a broken second page": (with_broken(THREE, 1), [(50, 40), CORRUPT, (60, 30)]),
    "tiff, a broken first page": (with_broken(THREE, 0), [CORRUPT, (20, 30), (60, 30)]),
    "tiff, cut in its last page": (THREE[: directories(THREE)[2] + 40], [(50, 40), (20, 30), CORRUPT]),
    "tiff, in a loop": (with_next(THREE, 2, directories(THREE)[1]), [(50, 40), (20, 30), (60, 30)]),
    "tiff, a page that follows itself": (with_next(THREE, 0, directories(THREE)[0]), [(50, 40)]),
    "tiff, no page": (b"II*\0" + bytes(4), CORRUPT),
    "tiff, its first page beyond the end": (b"II*\0" + struct.pack("<I", 99), CORRUPT),
    "tiff, a page too large": (hostile.tiff_pages([(9, 9), (9000, 9000)]), [(9, 9), LARGE]),
    "tiff, too many pages": (hostile.tiff_pages([(9, 9)] * 51), LARGE),
    "gif, 3 frames": (hostile.animation("GIF", 3), [(24, 18)] * 3),
    "webp, 3 frames": (hostile.animation("WEBP", 3), [(24, 18)] * 3),
    "png, 3 frames": (hostile.animation("PNG", 3), [(24, 18)] * 3),
    "gif, too many frames": (hostile.animation("GIF", 3)[:-1] + b",\0\0\0\0\x09\0\x09\0\0\x02\x02\x4c\x01\0" * 51 + b";", LARGE),
    "jpeg with a second picture": (
        hostile.saved(hostile.noise(30, 20), "MPO", save_all=True, append_images=[hostile.noise(15, 10)]),
        [(30, 20)],
    ),
    "pdf, 1 page": (pdf([A6]), [(300, 450)]),
    "pdf, 3 pages": (
        pdf([A6, PdfSheet(300, 100), PdfSheet(144, 216, entries=b"/Rotate 90")]), [(300, 450), (625, 208), (450, 300)],
    ),
    "pdf, a lost second page": (pdf([A6] * 3, lost=[1]), [(300, 450), CORRUPT, (300, 450)]),
    "pdf, encrypted": (encrypted_pdf(), UNSUPPORTED),
    "pdf, cut": (pdf([A6] * 3)[:300], CORRUPT),
    "pdf, only its name": (b"%PDF-1.7\n", CORRUPT),
    "pdf, an absurd page": (pdf([A6, PdfSheet(14_400, 14_400), A6]), [(300, 450), LARGE, (300, 450)]),
    "pdf, a page beyond the pixels": (pdf([PdfSheet(1440, 2160)]), [(1620, 2430)]),
    "pdf, too many pages": (pdf([A6] * 51), LARGE),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_the_pages_it_has(decoder: Decoder, name: str) -> None:
    data, expected = DOCUMENTS[name]
    assert pages(decoder, data) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiff, too many pages", "at least 51 pages, at most 50 allowed"),
        ("pdf, too many pages", "51 pages, at most 50 allowed"),
        ("pdf, encrypted", "asks for a password"),
    ],
)
def test_a_refusal_says_the_numbers(decoder: Decoder, name: str, words: str) -> None:
    with Document(DOCUMENTS[name][0]) as document, pytest.raises(RowFailure, match=words):
        decoder.open(document)


def read(decoder: Decoder, data: bytes, page: int | None = None) -> Picture:
    return decoder.decode(data, page)


def centre(picture: Picture, wanted: tuple[int, int, int]) -> tuple[float, float]:
    """Where the pixels of that colour are, as shares of the picture."""
    near = (np.abs(picture.pixels_YX3.astype(int) - wanted) < 40).all(axis=2)
    rows, columns = np.nonzero(near)
    return round(float(columns.mean() + 0.5) / picture.width, 2), round(float(rows.mean() + 0.5) / picture.height, 2)


def test_pages_are_turned_as_each_of_them_says(decoder: Decoder) -> None:
    """Stripes along the top: one stays, one turns to the right edge, one to the bottom."""
    found = [centre(read(decoder, THREE, page), colour) for page, colour in enumerate((RED, GREEN, RED))]
    assert found == [(0.5, 0.1), (0.9, 0.5), (0.5, 0.9)]


def test_a_pdf_is_rendered_over_white_at_its_place(decoder: Decoder) -> None:
    picture = read(decoder, pdf([PdfSheet(more=b"0 1 0 rg BT /F1 20 Tf 10 190 Td (TOP) Tj ET")]))
    assert (picture.width, picture.height) == (300, 450)
    assert centre(picture, RED) == (0.62, 0.75)  # (72 + 18) / 144, 1 - (36 + 18) / 216
    assert tuple(picture.pixels_YX3[0, 0]) == (255, 255, 255)
    x, y = centre(picture, GREEN)
    assert x < 0.5 and y < 0.15  # letters of a font that is not in the file


def test_what_a_form_is_filled_with_is_shown(decoder: Decoder) -> None:
    field = b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/Rect[10 150 60 200]/F 4/AP<</N 5 0 R>>>>"
    look = b"<</Type/XObject/Subtype/Form/BBox[0 0 50 50]/Length 22>>stream\n0 1 0 rg 0 0 50 50 re f\nendstream"
    data = pdf([PdfSheet(entries=b"/Annots[4 0 R]")], objects=[field, look])
    assert centre(read(decoder, data), GREEN) == (0.24, 0.19)


def test_another_task_takes_the_first_page_or_the_one_it_names(decoder: Decoder) -> None:
    data = pdf([A6, PdfSheet(300, 100)])
    assert [read(decoder, data, page).width for page in (None, 0, 1)] == [300, 300, 625]
    with pytest.raises(RowFailure, match="page 2 asked, the file has 2"):
        read(decoder, data, 2)
    second = hostile.saved(hostile.noise(30, 20), "MPO", save_all=True, append_images=[hostile.noise(15, 10)])
    assert read(decoder, second, 1).width == 15


PIXEL_SIZES = [
    ((595.28, 841.89), 300, 200_000_000, (2480, 3508)),  # A4
    ((595.28, 841.89), 72, 200_000_000, (595, 842)),
    ((595.28, 841.89), 300, 4_000_000, (1678, 2374)),  # 203 dots per inch
    ((1190.55, 1683.78), 300, 200_000_000, (4961, 7016)),  # A2
    ((2480, 3508), 300, 200_000_000, (4960, 7016)),  # 144 dots per inch
    ((10_000, 14_000), 300, 200_000_000, (10_000, 14_000)),
    ((2480, 3508), 300, 8_699_840, (2480, 3508)),  # a scan whose pixels were called points keeps them all
    ((0.1, 0.1), 300, 100, (1, 1)),
    ((1e6, 0.5), 300, 5_000_000, (2_986_111, 1)),
]


@pytest.mark.parametrize(("size_pt", "dpi", "most", "size_px"), PIXEL_SIZES)
def test_a_page_has_the_resolution_asked_for_or_the_most_that_is_allowed(
    size_pt: tuple[float, float], dpi: int, most: int, size_px: tuple[int, int]
) -> None:
    width, height = pixel_size(size_pt, dpi, most)
    assert width * height <= most
    assert (width, height) == size_px


@pytest.mark.parametrize("size_pt", [(0.0, 9.0), (-3.0, 9.0), (float("nan"), 9.0), (float("inf"), 9.0)])
def test_a_page_without_a_size_is_corrupt(size_pt: tuple[float, float]) -> None:
    with pytest.raises(RowFailure, match="decode_corrupt"):
        pixel_size(size_pt, 300, 10**9)


def test_a_pdf_is_read_only_where_it_is_asked_for() -> None:
    """Elsewhere its library is not even loaded."""
    with Decoder(FetchSettings()) as plain, pytest.raises(RowFailure, match=r"decode_unsupported: a PDF.*fetch\.pdf is true"):
        assert read(plain, THREE).width == 50
        assert "pdfium" not in Path(f"/proc/{plain.child_pid}/maps").read_text()
        read(plain, pdf([A6]))


def test_pages_of_two_documents_in_turns_are_each_their_own(decoder: Decoder) -> None:
    """A child that has another document open opens the first one again."""
    with Document(THREE) as first, Document(hostile.animation("GIF", 3)) as second:
        for document in (first, second):
            decoder.open(document)
        seen = [(decoder.page(first, page).width, decoder.page(second, page).pixels_YX3[5, 5, 0]) for page in (2, 0, 1)]
    assert seen == [(60, 40), (50, 0), (20, 20)]


def test_a_child_that_died_over_a_page_spares_the_next_ones(decoder: Decoder) -> None:
    """A new child opens the document again."""
    with Document(THREE) as document:
        decoder.open(document)
        pid = decoder.child_pid or 0
        os.kill(pid, signal.SIGSEGV)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert [decoder.page(document, page).width for page in (0, 1)] == [50, 20]
        assert decoder.child_pid != pid


def test_nothing_of_a_document_stays_open(decoder: Decoder) -> None:
    assert pages(decoder, THREE) and pages(decoder, pdf([A6] * 3))
    assert not [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and "picture-file" in os.readlink(link)]


def test_a_page_is_the_picture_that_was_saved(decoder: Decoder) -> None:
    saved = [hostile.noise(20 + number, 10, number) for number in range(4)]
    data = tiff(saved, compression="tiff_deflate")
    for number, page in enumerate(saved):
        assert read(decoder, data, number).pixels_YX3.tobytes() == page.tobytes()
