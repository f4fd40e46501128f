"""The line reader: strips made ready, CTC decoded, batches equal to single reading, files, and the shipped weights."""

import string
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ray_pipeline.models.line_reader import (
    ALPHABET,
    LineNetwork,
    LineReader,
    LineReaderConfig,
    fit_strip,
    padded_width,
)
from ray_pipeline.synthesis.document_texts import CHARACTERS
from ray_pipeline.synthesis.fonts import evaluation_fonts, font_at

SMALL = LineReaderConfig(alphabet="ab 1", channels=(4, 4, 4, 8), features=16, hidden=8)


def _small_reader() -> LineReader:
    torch.manual_seed(0)
    return LineReader(LineNetwork(SMALL), SMALL)


def _printed(text: str, font: str, size: int = 28) -> np.ndarray:
    face = font_at(font, size)
    left, top, right, bottom = (int(edge) for edge in face.getbbox(text))
    picture = Image.new("L", (right - left + 12, bottom - top + 8), 250)
    ImageDraw.Draw(picture).text((6 - left, 4 - top), text, fill=20, font=face)
    return np.asarray(picture)


def test_the_alphabet_is_that_of_the_documents_each_character_once() -> None:
    assert len(set(ALPHABET)) == len(ALPHABET)
    assert set(ALPHABET) == {*CHARACTERS, " "}
    assert set(ALPHABET) > set(string.printable[:95])


@pytest.mark.parametrize(
    ("shape", "width", "padded"),
    [
        ((32, 100), 100, 128),
        ((64, 100), 50, 64),
        ((16, 100), 200, 224),
        ((32, 24), 24, 32),
        ((32, 25), 25, 64),
        ((40, 1), 4, 32),
        ((10, 5000), 1280, 1312),
    ],
)  # fmt: skip
def test_strips_are_fitted_to_32_rows(shape: tuple[int, int], width: int, padded: int) -> None:
    fitted = fit_strip(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    assert fitted.shape == (32, width)
    assert padded_width(fitted) == padded


def test_contrast_is_made_even_but_flat_paper_stays_flat() -> None:
    strip = np.full((32, 60), 200, np.uint8)
    assert np.abs(fit_strip(strip)).max() == 0
    strip[8:24, 20:40] = 140
    fitted = fit_strip(strip)
    assert fitted[16, 30] == pytest.approx(1) and fitted[2, 2] == pytest.approx(0)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (4, 4, 3)])
def test_what_is_no_strip_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected rows x columns"):
        fit_strip(np.zeros(shape, np.uint8))


def test_logits_have_a_column_for_4_pixels() -> None:
    with torch.inference_mode():
        assert LineNetwork(SMALL).eval()(torch.zeros(3, 1, 32, 96)).shape == (3, 24, 5)


def test_a_strip_reads_the_same_alone_and_among_others() -> None:
    reader = _small_reader()
    rng = np.random.default_rng(1)
    strips = [
        rng.integers(0, 256, (rows, columns)).astype(np.uint8)
        for rows, columns in [(32, 50), (20, 31), (40, 400), (32, 52), (9, 14)]
    ]
    together = reader.read(strips)
    for strip, among in zip(strips, together, strict=True):
        (alone,) = reader.read([strip])
        assert alone.text == among.text
        assert alone.log_probabilities == pytest.approx(among.log_probabilities, abs=1e-5)
        assert len(alone.log_probabilities) == len(alone.text)
    assert reader.read([]) == []


def test_saved_and_loaded_readers_agree(tmp_path: Path) -> None:
    reader = _small_reader()
    reader.network.half().float()
    reader.save(tmp_path / "reader.safetensors")
    loaded = LineReader.load(tmp_path / "reader.safetensors")
    assert loaded.config == SMALL
    for name, value in reader.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name


@pytest.mark.parametrize("font", evaluation_fonts())
@pytest.mark.parametrize("text", ["TOTAL AMOUNT 148.90", "Invoice No: 2071-6453", "Coffee, milk & 3 eggs"])
def test_the_shipped_reader_reads_clean_print(font: str, text: str) -> None:
    (found,) = LineReader.load().read([_printed(text, font)])
    assert found.text == text
