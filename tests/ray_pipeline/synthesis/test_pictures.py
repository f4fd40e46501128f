"""Rendered pictures hold what they say they hold."""

import random

import numpy as np
import pytest

from ray_pipeline.synthesis.evaluation import BUCKETS, INPUT_PX, SPLITS, cases
from ray_pipeline.synthesis.fonts import BUILT_IN, evaluation_fonts, training_fonts
from ray_pipeline.synthesis.questions import ask
from ray_pipeline.synthesis.render import RASTER_STEP, render
from ray_pipeline.synthesis.scene import COLOURS, KINDS, Line, Scene, Thing, sample_scene
from ray_pipeline.synthesis.texts import PUNCTUATION, TEXT_CHARACTERS, short_text, slip_line


def scene_with(text: str, angle: float, capital: float = 0.05, kind: str = "label") -> Scene:
    line = Line(text, 0.03, -0.02, capital)
    thing = Thing(kind, "white", (245, 245, 245), (5, 5, 5), 0.6, 0.4, 0.5, 0.3, angle, BUILT_IN, (line,))
    return Scene(7, 1.3, (thing,))


@pytest.mark.parametrize("angle", [0.0, 10.0, -15.0])
@pytest.mark.parametrize("megapixels", [0.3, 1.1])
def test_the_box_of_a_text_is_where_its_ink_is(angle: float, megapixels: float) -> None:
    drawn = render(scene_with("KX7", angle), megapixels, degrade=False)
    pixels = np.asarray(drawn.image).astype(int)
    inside = np.asarray(drawn.thing_YX)[: pixels.shape[0] // RASTER_STEP, : pixels.shape[1] // RASTER_STEP]
    ink = (pixels.sum(2) < 150)[::RASTER_STEP, ::RASTER_STEP][: inside.shape[0], : inside.shape[1]] & (inside == 1)
    x0, y0, x1, y1 = drawn.lines[0].box_px
    rows, columns = np.nonzero(ink)
    xs, ys = columns * RASTER_STEP, rows * RASTER_STEP
    assert len(xs) > 20
    slack = 0.02 * drawn.image.width
    assert abs(xs.min() - x0) < slack and abs(xs.max() - x1) < slack
    assert abs(ys.min() - y0) < slack and abs(ys.max() - y1) < slack


def test_every_character_has_its_place() -> None:
    drawn = render(scene_with("A-1 b", 5.0), 0.5)
    raster = drawn.character_YX
    centres = [np.nonzero(raster == drawn.lines[0].first_label + k)[1].mean() for k, c in enumerate("A-1 b") if c != " "]
    assert centres == sorted(centres)
    assert not (raster == drawn.lines[0].first_label + 3).any(), "a space stands nowhere"


def test_same_seed_same_pixels() -> None:
    fonts = evaluation_fonts()
    first, again = (render(sample_scene(41, fonts), 0.4) for _ in range(2))
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert first.lines == again.lines


def test_scenes_name_things_uniquely_and_keep_them_apart() -> None:
    fonts = evaluation_fonts()
    kinds, colours = set(), set()
    for seed in range(150):
        scene = sample_scene(seed, fonts)
        names = [thing.name for thing in scene.things]
        assert names and len(names) == len(set(names))
        kinds |= {thing.kind for thing in scene.things}
        colours |= {thing.colour for thing in scene.things}
        for thing in scene.things:
            assert 0 <= thing.cx <= scene.width and 0 <= thing.cy <= scene.height
    assert kinds == set(KINDS) and colours == set(COLOURS)


def test_texts_are_short_and_hold_what_the_reader_can_tell_apart() -> None:
    rng = random.Random(5)
    texts = [short_text(rng) for _ in range(3000)]
    assert all(2 <= len(text) <= 7 and set(text) <= set(TEXT_CHARACTERS) for text in texts)
    joined = "".join(texts)
    assert any(c.islower() for c in joined) and any(c.isupper() for c in joined) and any(c.isdigit() for c in joined)
    assert len(set(joined) & set(PUNCTUATION)) >= 8
    assert all(set(slip_line(rng)) <= set(TEXT_CHARACTERS) for _ in range(200))


@pytest.mark.parametrize("task", ["read", "where", "where_text", "colour", "kind", "describe"])
def test_every_question_has_an_answer_and_a_box_inside_the_picture(task: str) -> None:
    for case in cases("validation", "medium", 12, (0.3, 0.5)):
        question = ask(case.rendering, 0, task, random.Random(1))
        assert question is not None
        x0, y0, x1, y1 = question.box_px
        assert -1 <= x0 < x1 <= case.rendering.image.width + 1 and -1 <= y0 < y1 <= case.rendering.image.height + 1
        assert question.answer or task.startswith("where")


@pytest.mark.parametrize("bucket", list(BUCKETS))
def test_a_buckets_first_text_has_its_size_at_the_models_input(bucket: str) -> None:
    low, high = BUCKETS[bucket]
    for case in cases("evaluation", bucket, 15, (0.5, 0.6)):
        drawn = case.rendering.lines[0]
        unit = (case.rendering.image.width * case.rendering.image.height) ** 0.5
        assert 0.55 * low <= drawn.capital_px / unit * INPUT_PX <= high * 1.001


def test_training_and_evaluation_share_neither_fonts_nor_seeds(tmp_path: object) -> None:
    assert BUILT_IN in evaluation_fonts() and len(evaluation_fonts()) == 6
    assert max(SPLITS.values()) + 10_000_000 < 1 << 40
    try:
        fonts = training_fonts()
    except FileNotFoundError as error:
        assert "expected at least 40" in str(error)
        return
    assert not [name for name in fonts if any(family in name.lower() for family in ("dejavu", "roboto", "open-sans", "opensans"))]
