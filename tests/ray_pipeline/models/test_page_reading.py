"""A page's lines are found, cut out level from its own pixels, read, and put back where they stand."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ray_pipeline.models.contract import ReadLines
from ray_pipeline.models.families import load_family
from ray_pipeline.models.line_finder import FoundLine, LineFinder
from ray_pipeline.models.line_reader import ROWS, LineReader, LineText
from ray_pipeline.models.page_reading import ABOVE_BELOW, BEFORE_BEHIND, HOPELESS, PageReader, in_reading_order, strip_of
from ray_pipeline.models.profiles import weights_digest
from ray_pipeline.models.weights import EMBEDDED, LINE_FINDER, LINE_READER, ModelRefused, model_digests, model_folder
from ray_pipeline.synthesis.fonts import evaluation_fonts, font_at
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture


@dataclass
class Repeating:
    """A reader that says the same of every strip, and remembers them."""

    text: str = "TOTAL"
    log_p: float = -0.1
    seen: list[np.ndarray] = field(default_factory=list)

    def read(self, strips: list[np.ndarray]) -> list[LineText]:
        self.seen += strips
        return [LineText(self.text, (self.log_p,) * len(self.text)) for _ in strips]


def pages(reader: Repeating) -> PageReader:
    return PageReader(LineFinder.load(EMBEDDED / LINE_FINDER), reader)


def printed(width: int, height: int, texts: list[tuple[float, float, str]], size: int = 24) -> Picture:
    """Texts with their upper left corners, black on white."""
    image = Image.new("RGB", (width, height), (250, 250, 250))
    for x, y, text in texts:
        ImageDraw.Draw(image).text((x, y), text, (20, 20, 20), font_at(evaluation_fonts()[1], size))
    return Picture(np.asarray(image), "0" * 64)


ROW_TEXTS = [(40, 60, "Coffee and cake"), (300, 60, "12.50"), (40, 120, "Total amount"), (300, 120, "88.20")]


def test_lines_in_order_with_boxes_around_them() -> None:
    picture = printed(420, 220, ROW_TEXTS)
    reply = pages(Repeating()).read(ReadLines(picture, (0.0, 0.0, 420.0, 220.0)))
    assert [line.text for line in reply.lines] == ["TOTAL"] * 4
    assert reply.finished
    assert reply.tokens > 420 * 220 / 16
    assert all(line.logprob == pytest.approx(-0.1) for line in reply.lines)
    for line, (x, y, _) in zip(reply.lines, ROW_TEXTS, strict=True):
        assert abs(line.box_px[0] - x) < 12
        assert y - 6 < line.box_px[1] < y + 14 < line.box_px[3] < y + 40


def test_a_region_is_read_alone_and_in_the_picture_s_pixels() -> None:
    picture = printed(420, 220, ROW_TEXTS)
    region = (20.0, 100.0, 420.0, 170.0)
    lines = pages(Repeating()).read(ReadLines(picture, region)).lines
    assert len(lines) == 2
    assert all(region[1] < line.box_px[1] < line.box_px[3] < region[3] for line in lines)
    with pytest.raises(ValueError, match="expected area inside"):
        pages(Repeating()).read(ReadLines(picture, (500.0, 0.0, 600.0, 50.0)))


def test_one_line_is_one_line_whatever_its_gaps() -> None:
    picture = printed(420, 220, ROW_TEXTS)
    reader = Repeating()
    (line,) = pages(reader).read(ReadLines(picture, (20.0, 50.0, 420.0, 100.0), single=True)).lines
    assert line.box_px[0] < 60
    assert line.box_px[2] > 340
    assert len(reader.seen) == 1


def test_small_print_on_a_large_sheet_is_looked_at_again() -> None:
    """On the first look these letters are some 5 px high."""
    texts = [(900.0 + 20 * (k % 3), 1400.0 + 44 * k, "Coffee and cake 12.50") for k in range(6)]
    picture = printed(2480, 3508, texts, 26)
    reply = pages(Repeating()).read(ReadLines(picture, (0.0, 0.0, 2480.0, 3508.0)))
    assert len(reply.lines) == 6
    assert all(
        abs(line.box_px[0] - x) < 12 and y - 8 < line.box_px[1] < y + 20
        for line, (x, y, _) in zip(reply.lines, texts, strict=True)
    )


def test_an_empty_page_and_an_unreadable_one_have_no_lines() -> None:
    nothing = pages(Repeating()).read(ReadLines(printed(300, 200, []), (0.0, 0.0, 300.0, 200.0)))
    assert (nothing.lines, nothing.finished, nothing.tokens) == ((), True, 3750 + 235)
    hopeless = Repeating(log_p=HOPELESS - 0.1)
    assert pages(hopeless).read(ReadLines(printed(420, 220, ROW_TEXTS), (0.0, 0.0, 420.0, 220.0))).lines == ()


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.12])
@pytest.mark.parametrize("height", [12.0, 48.0])
def test_strips_are_level_and_hold_their_line(slope: float, height: float) -> None:
    """A bar drawn along the line comes out as a level bar with the margins above and below it."""
    page = Image.new("L", (600, 300), 255)
    line = FoundLine(100.0, 500.0, 150.0, slope, height, 1.0)
    ends = [(x, 150 + slope * (x - 300)) for x in (60, 540)]
    (x0, y0), (x1, y1) = ends
    half = height / 2
    ImageDraw.Draw(page).polygon([(x0, y0 - half), (x1, y1 - half), (x1, y1 + half), (x0, y0 + half)], fill=0)
    strip = strip_of(page.convert("RGB"), line)
    assert strip.shape[0] == ROWS
    assert strip.shape[1] == pytest.approx(ROWS / (1 + 2 * ABOVE_BELOW) * (400 / height + 2 * BEFORE_BEHIND), abs=2)
    dark = (strip < 128).mean(0) * ROWS
    pixel = ROWS / (1 + 2 * ABOVE_BELOW) / height  # of the page, in rows of the strip
    assert dark == pytest.approx(np.full(strip.shape[1], height * pixel), abs=1 + pixel)
    middles = [np.nonzero(strip[:, x] < 128)[0].mean() for x in (3, strip.shape[1] // 2, strip.shape[1] - 4)]
    assert middles == pytest.approx([(ROWS - 1) / 2] * 3, abs=0.6 + pixel / 2)


def test_a_strip_at_the_edge_repeats_the_edge() -> None:
    strip = strip_of(Image.new("RGB", (60, 12), (90, 90, 90)), FoundLine(-5.0, 70.0, 4.0, 0.0, 20.0, 1.0))
    assert strip.shape[0] == ROWS
    assert set(np.unique(strip)) == {90}


def at(x: float, y: float, slope: float = 0.0) -> FoundLine:
    return FoundLine(x, x + 50, y, slope, 16.0, 1.0)


@pytest.mark.parametrize(
    ("lines", "order"),
    [
        ([at(300, 52), at(10, 50), at(10, 20), at(300, 19)], [2, 3, 1, 0]),
        ([at(600, 80, 0.1), at(10, 21, 0.1), at(10, 51, 0.1), at(600, 109, 0.1)], [1, 0, 2, 3]),
        ([], []),
    ],
)
def test_rows_come_before_columns(lines: list[FoundLine], order: list[int]) -> None:
    assert in_reading_order(lines) == [lines[k] for k in order]


def test_the_package_s_model_reads_with_its_own_networks() -> None:
    family = load_family(ModelSettings(), ViewSettings(), PromptSettings())
    assert family.defaults.reading_px is not None
    (reply,) = family.read_lines([ReadLines(printed(420, 220, ROW_TEXTS), (0.0, 0.0, 420.0, 220.0))])
    assert [line.text for line in reply.lines] == [text for _, _, text in ROW_TEXTS]


@pytest.mark.parametrize("size", [60, 200])
def test_huge_type_is_read_too(size: int) -> None:
    """Letters of which the first look sees pieces; what is read from afar stands where it reads better."""
    texts = [(float(size), float(size), "Coffee 12"), (float(size), 3.0 * size, "Cake 8.50")]
    picture = printed(8 * size, 5 * size, texts, size)
    reply = PageReader(LineFinder.load(EMBEDDED / LINE_FINDER), LineReader.load(EMBEDDED / LINE_READER)).read(
        ReadLines(picture, (0.0, 0.0, 8.0 * size, 5.0 * size))
    )
    assert [line.text for line in reply.lines] == [text for _, _, text in texts]
    assert all(0.6 * size < line.box_px[3] - line.box_px[1] < 1.5 * size for line in reply.lines)


def copied(folder: Path, *names: str) -> Path:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", *names):
        shutil.copy(EMBEDDED / name, folder / name)
    return folder


def test_half_of_the_pair_is_refused_and_a_folder_without_it_is_not(tmp_path: Path) -> None:
    assert PageReader.load(copied(tmp_path)) is None
    assert model_folder(str(tmp_path)) == tmp_path
    copied(tmp_path, LINE_FINDER)
    with pytest.raises(ModelRefused, match=f"no {LINE_READER}"):
        model_folder(str(tmp_path))
    copied(tmp_path, LINE_READER)
    assert model_folder(str(tmp_path)) == tmp_path


def test_what_reads_pages_decides_results_but_no_profile(tmp_path: Path) -> None:
    before = weights_digest(copied(tmp_path))
    copied(tmp_path, LINE_FINDER, LINE_READER)
    assert {LINE_FINDER, LINE_READER} < model_digests(tmp_path).keys()
    assert weights_digest(tmp_path) == before


def test_networks_in_each_other_s_place_are_refused(tmp_path: Path) -> None:
    shutil.copy(EMBEDDED / LINE_FINDER, tmp_path / LINE_READER)
    shutil.copy(EMBEDDED / LINE_READER, tmp_path / LINE_FINDER)
    with pytest.raises(ModelRefused, match="misfits"):
        PageReader.load(tmp_path)
