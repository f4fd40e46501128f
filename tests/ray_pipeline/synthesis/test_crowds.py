"""Counting and comparing: scenes with several like things, questions about them, their cases and truths."""

import random
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_pipeline.models.embedded_tokenizer import build_tokenizer
from ray_pipeline.synthesis.archive import entry_of, write_archive
from ray_pipeline.synthesis.crowd import CROWD_KINDS, Crowd, sample_crowd
from ray_pipeline.synthesis.evaluation import BUCKETS, CROWD_TASKS, INPUT_PX, SPLITS, cases
from ray_pipeline.synthesis.fonts import BUILT_IN, evaluation_fonts
from ray_pipeline.synthesis.questions import MOST_COUNTED, Question, ask, count_alike
from ray_pipeline.synthesis.render import Rendering, render
from ray_pipeline.synthesis.scene import COLOURS, Line, Scene, Thing

SIDES = (0.03, 0.17)


def crowd_of(seed: int, alike: int, side: tuple[float, float] = SIDES) -> Crowd:
    return sample_crowd(seed, evaluation_fonts(), alike, side)


@pytest.mark.parametrize("alike", range(MOST_COUNTED + 1))
def test_a_crowd_holds_what_it_says(alike: int) -> None:
    for seed in range(40):
        crowd = crowd_of(seed, alike)
        names = [thing.name for thing in crowd.scene.things]
        sought = f"{crowd.colour} {crowd.kind}"
        assert names[:alike] == [sought] * alike and sought not in names[alike:]
        assert len(names) == alike + len(set(names[alike:])) and 2 <= len(names) - alike <= 4
        others = crowd.scene.things[alike:]
        assert any(thing.colour == crowd.colour for thing in others) and any(thing.kind == crowd.kind for thing in others)


def test_a_crowds_things_have_their_size_and_do_not_touch() -> None:
    for seed in range(30):
        drawn = render(crowd_of(seed, 5, (0.05, 0.15)).scene, 0.2, degrade=False)
        scene = drawn.scene
        for thing in scene.things:
            assert 0.05 * 0.999 <= min(thing.width, thing.height) <= 0.15 * 1.001
        unit = (drawn.image.width * drawn.image.height) ** 0.5
        boxes = drawn.thing_boxes_px
        for a, b in combinations(boxes, 2):
            apart = max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])
            assert apart > 0.2 * 0.05 * unit, "a fifth of the smallest side lies between any two"
        for x0, y0, x1, y1 in boxes:
            assert x0 > -1 and y0 > -1 and x1 < drawn.image.width + 1 and y1 < drawn.image.height + 1


def test_crowds_are_seeded_and_use_every_kind_and_colour() -> None:
    assert crowd_of(7, 3) == crowd_of(7, 3) != crowd_of(8, 3)
    crowds = [crowd_of(seed, 1) for seed in range(120)]
    assert {crowd.kind for crowd in crowds} == set(CROWD_KINDS) and {crowd.colour for crowd in crowds} == set(COLOURS)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="things of 0.6 units do not fit"):
        crowd_of(0, 5, (0.6, 0.7))


def block(colour: str, kind: str, x: float, y: float, width: float = 0.1, height: float = 0.1) -> Thing:
    line = Line("A1", 0.0, 0.0, 0.02)
    return Thing(kind, colour, COLOURS[colour], (9, 9, 9), x, y, width, height, 0.0, BUILT_IN, (line,))


# square, 1 unit a side: three red signs on the diagonal, a red tag beside the first, a blue sign at the bottom
BLOCKS = (
    block("red", "sign", 0.2, 0.2), block("red", "sign", 0.5, 0.5), block("red", "sign", 0.8, 0.8),
    block("red", "tag", 0.5, 0.2, 0.2), block("blue", "sign", 0.2, 0.9),
)  # fmt: skip


def drawn(*things: Thing) -> Rendering:
    return render(Scene(3, 1.0, things), 0.1, degrade=False)


@pytest.mark.parametrize(
    ("colour", "kind", "words", "counted"),
    [
        ("red", "sign", "red signs", (0, 1, 2)),
        ("red", "tag", "red tags", (3,)),
        (None, "sign", "signs", (0, 1, 2, 4)),
        ("red", None, "red things", (0, 1, 2, 3)),
        (None, None, "things", (0, 1, 2, 3, 4)),
        ("blue", "tag", "blue tags", ()),
    ],
)
def test_counts(colour: str | None, kind: str | None, words: str, counted: tuple[int, ...]) -> None:
    rendering = drawn(*BLOCKS)
    question = count_alike(rendering, colour, kind, random.Random(0))
    assert question is not None and (question.task, question.thing, question.line) == ("count", -1, -1)
    assert f"How many {words} " in question.text
    assert (question.answer, question.counted) == (str(len(counted)), counted)
    side = rendering.image.width
    if counted:
        boxes = [rendering.thing_boxes_px[k] for k in counted]
        assert question.box_px == (
            min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)
        )  # fmt: skip
    else:
        assert question.box_px == (0, 0, side, side)


def test_more_than_five_are_not_asked_for() -> None:
    row = [block("red", "sign", 0.1 + 0.15 * k, 0.5) for k in range(6)]
    assert count_alike(drawn(*row), "red", "sign", random.Random(0)) is None
    assert count_alike(drawn(*row[:5]), "red", "sign", random.Random(0)).answer == "5"  # type: ignore[union-attr]


def test_ask_counts_by_name_kind_and_colour() -> None:
    rendering, rng = drawn(*BLOCKS), random.Random(1)
    asked = {ask(rendering, 0, "count", rng) for _ in range(60)}
    answers = {
        question.text.split("How many ")[1].split(" are ")[0].split(" do ")[0]: question.answer for question in asked if question
    }
    assert answers == {"red signs": "3", "signs": "4", "red things": "4"}


@pytest.mark.parametrize("task", ["read", "where", "relation"])
def test_what_several_bear_is_no_name(task: str) -> None:
    assert ask(drawn(*BLOCKS), 0, task, random.Random(0)) is None
    assert ask(drawn(*BLOCKS), 3, task, random.Random(0)) is not None


def relations(first: Thing, second: Thing) -> dict[str, str]:
    """Every relation that is asked about two things, with the answer."""
    rng, found = random.Random(2), {}
    for _ in range(200):
        question = ask(drawn(first, second), 0, "relation", rng)
        assert question is not None and {f"the {first.name}", f"the {second.name}"} == set(
            question.text.removesuffix("?").split(", ")[1].split(" or ")
        )
        relation = question.text.removeprefix("Which is ").split(",")[0]
        assert found.setdefault(relation, question.answer) == question.answer, "whichever is named first"
        assert question.thing == [first.name, second.name].index(question.answer)
        assert question.box_px == drawn(first, second).thing_boxes_px[question.thing]
    return found


def test_relations_are_asked_where_they_are_beyond_doubt() -> None:
    sign, tag = block("red", "sign", 0.2, 0.3), block("blue", "tag", 0.7, 0.35, 0.2, 0.2)
    assert relations(sign, tag) == {
        "further left": "red sign", "further right": "blue tag", "larger": "blue tag", "smaller": "red sign",
    }  # fmt: skip
    beneath = block("blue", "tag", 0.22, 0.6, 0.11, 0.1)
    assert relations(sign, beneath) == {"higher": "red sign", "lower": "blue tag"}


def test_what_cannot_be_compared_is_not() -> None:
    assert ask(drawn(BLOCKS[3]), 0, "relation", random.Random(0)) is None, "alone"
    alike = block("red", "sign", 0.3, 0.3), block("blue", "tag", 0.34, 0.33)
    assert ask(drawn(*alike), 0, "relation", random.Random(0)) is None, "as large, and neither beside nor above the other"


@pytest.mark.parametrize("bucket", list(BUCKETS))
@pytest.mark.parametrize("split", list(SPLITS))
def test_counting_cases(split: str, bucket: str) -> None:
    low, high = (px / INPUT_PX for px in BUCKETS[bucket])
    found = list(cases(split, bucket, 12, (0.1, 0.12), "count"))
    assert Counter(case.question.answer for case in found) == Counter({str(k): 2 for k in range(6)})
    for case in found:
        question, things = case.question, case.rendering.scene.things
        sought = question.text.split()[2:4]
        alike = [k for k, thing in enumerate(things) if [thing.colour, f"{thing.kind}s"] == sought]
        assert question.counted == tuple(alike) and question.answer == str(len(alike))
        assert all(low * 0.999 <= min(thing.width, thing.height) <= high * 1.001 for thing in things)


def test_comparing_cases() -> None:
    answers = set()
    for case in cases("validation", "medium", 12, (0.1, 0.12), "relation"):
        names = [thing.name for thing in case.rendering.scene.things]
        assert case.question.answer in names and len(set(names)) == len(names)
        answers.add(case.question.text.split(",")[0])
    assert len(answers) >= 4


def test_every_tasks_pictures_have_seeds_of_their_own() -> None:
    starts = sorted(
        start + offset + 1_000_000 * k for start in SPLITS.values() for offset in (0, *CROWD_TASKS.values()) for k in range(3)
    )
    assert all(b - a >= 1_000_000 for a, b in pairwise(starts)) and starts[-1] < 1 << 40
    seen = [next(cases("demo", "small", 1, (0.1, 0.11), task)).seed for task in ("read", "count", "relation")]
    assert len(set(seen)) == 3


def test_questions_are_spelt_in_the_embedded_models_tokens() -> None:
    tokenizer = build_tokenizer()
    question = Question("count", "How many red signs are there?", "3", (0, 0, 1, 1), -1, -1)
    for text in (question.text, question.answer, "Which is further left, the red sign or the blue tag?", "red sign"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == text
    assert len(tokenizer("red sign", add_special_tokens=False).input_ids) == 2, "answers of comparisons are words it has"


def test_the_archive_knows_what_was_counted(tmp_path: Path) -> None:
    entries = [entry_of(case) for task in ("read", "count", "relation") for case in cases("demo", "medium", 6, (0.1, 0.11), task)]
    rows = pq.read_table(write_archive(tmp_path, entries)).to_pylist()
    assert len({row["id"] for row in rows}) == 18
    assert [row["id"] for row in rows[::6]] == ["medium-0000", "count-medium-0000", "relation-medium-0000"]
    for row in rows[6:12]:
        (answer,) = row["references"]
        assert len(row["reference_boxes"]) == int(answer)
        assert all(f"{box['label']}s" in row["question"] for box in row["reference_boxes"])
    assert all(len(row["reference_boxes"]) == 1 for row in rows[:6] + rows[12:])
    assert rows[0]["reference_boxes"][0]["label"] == rows[0]["references"][0]
