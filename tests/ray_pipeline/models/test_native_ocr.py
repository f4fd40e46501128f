"""A family's own OCR: lines placed in the picture, and the same contract kept by all families."""

import math
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ray_pipeline.geometry.footprints import grid_footprints
from ray_pipeline.models.contract import Encode, ReadLines, TextLine, TextLines, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily
from ray_pipeline.models.families import load_family
from ray_pipeline.models.native_ocr import JSON, LINE_PX, MARKED, PLAIN, ReadingStyle, Transcript, line_shown, slices, transcribed
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from schemas.status import RowFailure
from tests.stand_ins.family_facts import FACTS
from tests.stand_ins.made_pictures import coloured_blocks, whole

REGION: Box = (100.0, 50.0, 300.0, 150.0)


def token_each(raw: str, log_p: float = -0.5, finished: bool = True) -> Transcript:
    """One token a character."""
    return Transcript(raw, range(len(raw)), [log_p] * len(raw), finished)


def read(raw: str, style: ReadingStyle, single: bool = False) -> TextLines:
    picture = coloured_blocks(400, 300)
    tokens = VisualTokens(picture, (REGION,), grid_footprints(REGION, 2, 3, 0), None)
    return transcribed(ReadLines(picture, REGION, single), tokens, token_each(raw), style, in_region)


def in_region(values: tuple[float, ...], tokens: VisualTokens) -> Box:
    """Numbers are pixels of the region."""
    x0, y0, x1, y1 = values
    return x0 + REGION[0], y0 + REGION[1], x1 + REGION[0], y1 + REGION[1]


@pytest.mark.parametrize(
    ("raw", "style", "lines", "placed"),
    [
        ('[{"bbox_2d": [10, 20, 110, 40], "text_content": "at  its place"}]', JSON,
         [("at its place", (110, 70, 210, 90))], "own"),
        ("<ref>a</ref><box>[[10, 20, 110, 40]]</box>", MARKED, [("a", (110, 70, 210, 90))], "own"),
        ('[{"bbox_2d": [-10, 90, 110, 140], "text_content": "over the edge"}]', JSON,
         [("over the edge", (100, 140, 210, 150))], "own"),
        ('[{"bbox_2d": [10, 20, 110, 60], "text_content": "two\\nlines"}]', JSON,
         [("two", (110, 70, 210, 90)), ("lines", (110, 90, 210, 110))], "own"),
        ("first\nsecond\nthird\nlast", PLAIN,
         [("first", (100, 50, 300, 75)), ("second", (100, 75, 300, 100)), ("third", (100, 100, 300, 125)),
          ("last", (100, 125, 300, 150))], "none"),
        ('[{"bbox_2d": [10, 20, 110, 40], "text_content": "a"}, {"text_content": "b"}]', JSON,
         [("a", (110, 70, 210, 90)), ("b", (100, 100, 300, 150))], "none"),
        ('[{"bbox_2d": [10, 20, 110, 40], "text_content": "a"}, {"bbox_2d": [1, 2], "text_content": "b"}]', JSON,
         [("a", (110, 70, 210, 90)), ("b", (100, 100, 300, 150))], "unreadable"),
        ('[{"bbox_2d": [500, 20, 610, 40], "text_content": "elsewhere"}]', JSON, [("elsewhere", REGION)], "unreadable"),
        ("[]", JSON, [], "own"),
        ("", PLAIN, [], "own"),
    ],
)  # fmt: skip
def test_lines_are_placed(raw: str, style: ReadingStyle, lines: list[tuple[str, Box]], placed: str) -> None:
    reply = read(raw, style)
    assert [(line.text, line.box_px) for line in reply.lines] == [(text, pytest.approx(box)) for text, box in lines]
    assert (reply.placed, reply.tokens, reply.finished) == (placed, 6, True)


def test_one_line_is_one_line_whatever_was_written() -> None:
    assert read("TOTAL\n 12.50", JSON, single=True).lines == (TextLine(REGION, "TOTAL 12.50", -0.5),)
    assert read(" \n", JSON, single=True) == TextLines((), 6, True)


def test_a_line_is_as_sure_as_the_tokens_that_spell_it() -> None:
    raw = "ab cd\nefgh"
    transcript = Transcript(raw, [0, 2, 6, 8], [-0.1, -0.3, -0.2, -0.6], True)
    picture = coloured_blocks(400, 300)
    tokens = VisualTokens(picture, (REGION,), grid_footprints(REGION, 2, 3, 0), None)
    lines = transcribed(ReadLines(picture, REGION), tokens, transcript, PLAIN, in_region).lines
    assert [line.logprob for line in lines] == pytest.approx([-0.2, -0.4])
    assert Transcript("", [], [], True).logprob(0, 1) == -math.inf


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((10.0, 20.0, 110.0, 36.0), (400, 64)),  # enlarged four times
        ((10.2, 20.9, 109.5, 35.1), (400, 64)),  # whole pixels around it
        ((0.0, 0.0, 300.0, 200.0), (300, 200)),  # high enough
        ((5.0, 5.0, 7.0, 6.0), (16, 8)),  # eight times at most
        ((290.0, 190.0, 400.0, 400.0), (64, 64)),  # cut to the picture: 10 x 10
    ],
)
def test_a_line_alone_is_enlarged(box: Box, size: tuple[int, int]) -> None:
    picture = coloured_blocks(300, 200)
    shown, whole_px = line_shown(ReadLines(picture, box, single=True))
    assert (shown.width, shown.height) == size and whole_px == (0, 0, *size)
    x, y = math.floor(box[0]), math.floor(box[1])
    if size[1] <= LINE_PX:  # the upper left pixel is that of the picture, about
        assert np.abs(shown.pixels_YX3[0, 0].astype(int) - picture.pixels_YX3[y, x]).max() < 40
    with pytest.raises(ValueError, match="expected area inside it"):
        line_shown(ReadLines(picture, (300.0, 0.0, 310.0, 10.0), single=True))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_slices_fill_the_box(count: int) -> None:
    parts = slices(REGION, count)
    assert len(parts) == count
    if parts:
        assert parts[0][:3] == (REGION[0], REGION[1], REGION[2]) and parts[-1][3] == REGION[3]
        assert all(above[3] == below[1] for above, below in pairwise(parts))


NATIVE = [name for name in FACTS if name not in ("embedded", "llava_even", "mc_llava_native")]


def loaded(folder: Path) -> DecoderFamily:
    """With the prompt template that adds nothing, as pages are read."""
    model = ModelSettings(name=str(folder), device="cpu")
    family = load_family(model, ViewSettings(), PromptSettings(template="plain"))
    assert isinstance(family, DecoderFamily)
    return family


@pytest.mark.parametrize("name", NATIVE)
def test_every_family_reads_regions_as_if_alone(name: str, folders: dict[str, Path]) -> None:
    """Tiny random weights write nonsense, but at the right places, within the room there is, whatever shares the call."""
    family = loaded(folders[name])
    pictures: list[Picture] = [coloured_blocks(97, 120, 1), coloured_blocks(200, 90, 2)]
    requests = [
        ReadLines(pictures[0], whole(pictures[0]), max_new_tokens=12),
        ReadLines(pictures[1], (20.0, 10.0, 150.0, 70.0), max_new_tokens=5),
        ReadLines(pictures[1], (20.0, 10.0, 150.0, 30.0), single=True, max_new_tokens=9),
        ReadLines(pictures[0], (0.0, 0.0, 60.0, 60.0), max_new_tokens=9),
    ]
    together = family.read_lines(requests)
    for request, reply in zip(requests, together, strict=True):
        (alone,) = family.read_lines([request])
        assert [line.text for line in alone.lines] == [line.text for line in reply.lines]
        assert (alone.tokens, alone.finished, alone.placed) == (reply.tokens, reply.finished, reply.placed)
        for mine, theirs in zip(alone.lines, reply.lines, strict=True):
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4) and theirs.logprob <= 0
            assert mine.box_px == theirs.box_px
            x0, y0, x1, y1 = theirs.box_px
            assert request.box_px[0] <= x0 < x1 <= request.box_px[2] and request.box_px[1] <= y0 < y1 <= request.box_px[3]
        assert reply.tokens > 0 and all(line.text == " ".join(line.text.split()) for line in reply.lines)
    assert not together[2].lines or [line.box_px for line in together[2].lines] == [requests[2].box_px]
    assert family.defaults.reading_px is None or family.defaults.reading_px > 0
    assert astuple(family.reading)[0] and "{" not in family.reading.page + family.reading.line


def test_an_answer_is_as_long_as_there_is_room_for(folders: dict[str, Path]) -> None:
    family = loaded(folders["internvl"])
    picture = coloured_blocks(97, 120, 1)
    request = ReadLines(picture, (0.0, 0.0, 60.0, 60.0), max_new_tokens=100_000)
    (tokens,) = family.encode([Encode(picture, (request.box_px,))])
    asked = tokens.state.prefix.position + len(family.question_ids(family.reading.page))
    family.decoder.config.max_position_embeddings = asked + 3
    (reply,) = family.read_lines([request])
    assert sum(len(line.text) for line in reply.lines) <= 3 * 12
    family.decoder.config.max_position_embeddings = asked
    with pytest.raises(RowFailure, match=f"take {asked + 1} positions of the model's {asked}"):
        family.read_lines([request])


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "mc_llava"])
def test_long_answers_are_spelt_as_if_decoded_token_by_token(name: str, folders: dict[str, Path]) -> None:
    text = loaded(folders[name]).text
    ids = np.random.default_rng(3).integers(0, len(text.tokenizer), 200).tolist()
    texts = [
        text.tokenizer.decode(ids[:k], skip_special_tokens=False, clean_up_tokenization_spaces=False) for k in range(len(ids) + 1)
    ]
    assert text.spelled(ids) == (texts[-1], [min(len(one), len(texts[-1])) for one in texts[:-1]])


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_written_boxes_arrive_in_the_pictures_pixels(name: str, folders: dict[str, Path]) -> None:
    """The family's own frame of boxes, for a region that is not the whole picture."""
    write, family = FACTS[name].write, loaded(folders[name])
    picture, region, box = coloured_blocks(337, 211), (40.0, 30.0, 320.0, 200.0), (61.0, 40.0, 152.0, 99.0)
    assert write is not None
    raw, coarse = write(box, region, False)
    (tokens,) = family.encode([Encode(picture, (region,))])
    reply = transcribed(ReadLines(picture, region), tokens, token_each(raw), family.reading, family.box_px)
    (line,) = reply.lines
    assert line.text == "the sign" and reply.placed == "own"
    assert line.box_px == pytest.approx(box, abs=coarse + 1)
