"""Pages above `fetch.max_pixels`: read in bands, they are pixel by pixel what they would be as a whole."""

import importlib.util
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ray_pipeline.intake import decode
from ray_pipeline.intake.canvas import Canvas
from ray_pipeline.intake.decode import Decoder, DecoderUnavailable, refuse_missing_libvips
from ray_pipeline.intake.document import Document, unnamed_file
from ray_pipeline.intake.opened_file import OpenedFile, PageLimits
from ray_pipeline.intake.tiff_directories import directories
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.ray_pipeline.intake import hostile_images as hostile

INSTALLED = importlib.util.find_spec("pyvips") is not None
needs_libvips = pytest.mark.skipif(not INSTALLED, reason="pyvips is not installed: pip install 'fovea[vips]'")
WIDTH, HEIGHT = 257, 101
ALL, HUGE = PageLimits(1_000_000, 9, 0), PageLimits(1_000, 9, 0, huge_pixels=1_000_000)
SETTINGS = FetchSettings(max_pixels=1_000, huge_pixels=1_000_000, decode_timeout_s=90)

NOISE = hostile.noise(WIDTH, HEIGHT, 1).convert("RGB")
SMOOTH = hostile.noise(9, 7, 2).convert("RGB").resize((WIDTH, HEIGHT))
DEEP = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16))
CLEAR = NOISE.copy()
CLEAR.putalpha(SMOOTH.convert("L"))
CORNER = NOISE.getpixel((0, 0))


def tiff(image: Image.Image, **options: Any) -> bytes:
    return hostile.saved(image, "TIFF", **options)


def png(image: Image.Image, **options: Any) -> bytes:
    return hostile.saved(image, "PNG", **options)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    return hostile.saved(image, "JPEG", **options)


def turned(kind: str, turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return tiff(NOISE, compression="tiff_lzw", tiffinfo={274: turn}) if kind == "TIFF" else hostile.saved(NOISE, kind, exif=exif)


PAGES = {
    "tiff": tiff(NOISE),
    "tiff, lzw": tiff(NOISE, compression="tiff_lzw"),
    "tiff, deflate, one strip": tiff(NOISE, compression="tiff_adobe_deflate", strip_size=10**6),
    "tiff, jpeg": tiff(SMOOTH, compression="jpeg"),
    "tiff, bilevel": tiff(SMOOTH.convert("1"), compression="group4"),
    "tiff, grey": tiff(NOISE.convert("L"), compression="packbits"),
    "tiff, palette": tiff(NOISE.quantize(99)),
    "tiff, alpha": tiff(CLEAR, compression="tiff_lzw"),
    "tiff, a channel that means nothing": tiff(NOISE.convert("RGBX"), compression="tiff_lzw"),
    "tiff, inks": tiff(NOISE.convert("CMYK"), compression="tiff_lzw"),
    "tiff, 16 bits": tiff(DEEP, compression="tiff_lzw"),
    "png": png(NOISE),
    "png, bilevel": png(SMOOTH.convert("1")),
    "png, 16 bits": png(DEEP),
    "png, 4 bits": png(NOISE.quantize(16), bits=4),
    "png, alpha": png(CLEAR),
    "png, grey and alpha": png(CLEAR.convert("LA")),
    "png, a transparent colour": png(NOISE, transparency=CORNER),
    "png, a transparent entry": png(NOISE.quantize(16), transparency=3),
    "jpeg": jpeg(SMOOTH, subsampling="4:4:4"),
    "jpeg, colours at half size": jpeg(SMOOTH, subsampling="4:2:0"),
    "jpeg, progressive": jpeg(SMOOTH, progressive=True),
    "jpeg, grey": jpeg(SMOOTH.convert("L")),
    "jpeg, inks": jpeg(SMOOTH.convert("CMYK")),
    "jpeg with a second picture": hostile.saved(SMOOTH, "MPO", save_all=True, append_images=[hostile.noise(15, 10)]),
    **{f"{kind}, turn {turn}": turned(kind, turn) for kind in ("TIFF", "JPEG", "PNG") for turn in range(2, 9)},
}
LOSSY = 2  # JPEG's arithmetic may differ between two builds; with the same one nothing does


def whole(data: bytes) -> np.ndarray:
    made: list[np.ndarray] = []

    def target(width: int, height: int) -> np.ndarray:
        made.append(np.empty((height, width, 3), np.uint8))
        return made[-1]

    OpenedFile(data, ALL).write(0, target)
    return made[0]


def in_bands(data: bytes, folder: Path) -> np.ndarray:
    def refused(width: int, height: int) -> np.ndarray:
        raise AssertionError("decoded as a whole")

    file = OpenedFile(data, HUGE)
    width, height = file.write(0, refused)  # asked for its size alone
    memory = unnamed_file(str(folder), width * height * 3)
    assert file.write(0, refused, lambda *size: Canvas(memory, *size)) == (width, height)
    pixels = np.frombuffer(os.pread(memory, width * height * 3, 0), np.uint8).reshape(height, width, 3)
    os.close(memory)
    return pixels


@needs_libvips
@pytest.mark.parametrize("band_rows", [7, 1000])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_bands_is_what_it_is_as_a_whole(
    name: str, band_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray_pipeline.intake import bands

    monkeypatch.setattr(bands, "_BAND_BYTES", band_rows * 3 * WIDTH)
    monkeypatch.setattr("ray_pipeline.intake.canvas._WINDOW_BYTES", 5 * 3 * WIDTH)
    found, expected = in_bands(PAGES[name], tmp_path), whole(PAGES[name])
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= (LOSSY if "jpeg" in name.lower() else 0)


@needs_libvips
def test_what_follows_a_page_is_not_its_own_business(tmp_path: Path) -> None:
    """libvips counts a TIFF's pages before it reads one."""
    data = bytearray(PAGES["tiff, lzw"])
    place = directories(memoryview(data), 9)[0]
    struct.pack_into("<I", data, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], 10**9)
    assert np.array_equal(in_bands(bytes(data), tmp_path), np.asarray(NOISE))


@needs_libvips
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (hostile.saved(NOISE, "WEBP"), "257 x 101 pixels, at most 1000 allowed"),
        (hostile.saved(NOISE, "GIF", save_all=True, append_images=[SMOOTH]), "at most 1000 allowed"),
        (png(NOISE, save_all=True, append_images=[SMOOTH]), "at most 1000 allowed"),
        (tiff(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32))), "mode F, a kind that is not read in bands"),
        (tiff(NOISE.convert("LAB")), "mode LAB, a kind"),
        (hostile.png_header(2000, 2000), "2000 x 2000 pixels, at most 1000000 allowed"),
    ],
)
def test_what_is_not_read_in_bands_is_too_large(data: bytes, words: str) -> None:
    with pytest.raises(RowFailure, match=f"decode_too_large.*{words}"):
        OpenedFile(data, HUGE).write(0, lambda *_: np.empty(0, np.uint8))


@needs_libvips
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_locked_in_child_reads_them(on_disk: bool, tmp_path: Path) -> None:
    """One beside small ones, a document of three, and nothing is left lying in the folder."""
    others = [hostile.noise(30, 20), SMOOTH.copy()]
    data = tiff(NOISE.copy(), save_all=True, append_images=others, compression="tiff_lzw", tiffinfo={274: 6})
    with Decoder(SETTINGS.model_copy(update={"scratch": str(tmp_path) if on_disk else None})) as decoder:
        assert decoder.decode(hostile.saved(hostile.noise(30, 20), "WEBP"), None).width == 30
        picture = decoder.decode(PAGES["jpeg"], None)
        with Document(data) as document:
            decoder.open(document)
            pages = [decoder.page(document, page).pixels_YX3 for page in range(document.pages)]
    assert np.abs(picture.pixels_YX3.astype(int) - whole(PAGES["jpeg"])).max() <= LOSSY
    if picture.file is not None:
        with pytest.raises(OSError):
            os.ftruncate(picture.file.descriptor, 0)
        assert os.pread(picture.file.descriptor, 30, 0) == picture.pixels_YX3.tobytes()[:30]
    assert (picture.file is not None) == on_disk
    picture.pixels_YX3[:] = 0  # it belongs to the picture
    for page, image in zip(pages, (NOISE, *others), strict=True):
        assert np.array_equal(page, np.rot90(np.asarray(image.convert("RGB")), -1))
    assert os.listdir(tmp_path) == []


@needs_libvips
def test_broken_ones_cost_no_child() -> None:
    broken = {name: PAGES[name][: len(PAGES[name]) * 2 // 3] for name in ("png", "jpeg", "tiff, lzw", "tiff, bilevel")}
    broken["none of the pixels"] = hostile.png_header(900, 900)
    with Decoder(SETTINGS) as decoder:
        child = decoder.child_pid
        for name, data in broken.items():
            with pytest.raises(RowFailure, match="decode_corrupt"):
                decoder.decode(data, None)
            assert decoder.child_pid == child, name


@needs_libvips
def test_a_file_that_was_cut_short_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "unnamed_file", lambda folder, size: unnamed_file(folder, size - 1))
    with (
        Decoder(SETTINGS.model_copy(update={"scratch": str(tmp_path)})) as decoder,
        pytest.raises(RowFailure, match=Status.DECODE_CRASH),
    ):
        decoder.decode(PAGES["png"], None)


@needs_libvips
def test_no_room_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with Decoder(SETTINGS.model_copy(update={"scratch": str(folder)})) as decoder:
        folder.rmdir()
        with pytest.raises(RowFailure, match="decode_crash: no room for the picture"):
            decoder.decode(PAGES["png"], None)


def test_what_is_missing_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_missing_libvips(FetchSettings())
    (tmp_path / "file").touch(0o600)
    for folder in (str(tmp_path / "none"), str(tmp_path / "file"), "."):
        with pytest.raises(DecoderUnavailable, match=re.escape(f"fetch.scratch {folder!r}: expected the absolute path")):
            Decoder(FetchSettings(scratch=folder))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refuse_missing_libvips(FetchSettings())
    with pytest.raises(DecoderUnavailable, match=re.escape("not installed here: pip install 'fovea[vips]'")):
        Decoder(SETTINGS)
