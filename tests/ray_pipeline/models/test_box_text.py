"""Every family's box notation: values, the characters that spell them, what is unreadable, and nothing else."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_pipeline.models.box_text import BoxText, read_fractions, read_json_boxes, read_locations, read_marked_boxes

Reader = Callable[[str], BoxText]
SPOON = '[{"bbox_2d": [12, 7, 340, 98], "label": "spoon"}]'


def spelled(raw: str, answer: BoxText) -> list[str]:
    assert answer.box is not None
    return [raw[start:stop] for start, stop in answer.box.spans]


@pytest.mark.parametrize(
    ("reader", "raw", "text", "values", "digits"),
    [
        (read_locations, "KX7<at><loc012><loc100><loc250><loc180>", "KX7", (12, 100, 250, 180), ["012", "100", "250", "180"]),
        (read_json_boxes, SPOON, "spoon", (12, 7, 340, 98), ["12", "7", "340", "98"]),
        (read_json_boxes, f"```json\n{SPOON}\n```", "spoon", (12, 7, 340, 98), ["12", "7", "340", "98"]),
        (read_json_boxes, f"Here: {SPOON}.", "Here: spoon.", (12, 7, 340, 98), ["12", "7", "340", "98"]),
        (read_json_boxes, '{"label": "a {b} \\"c\\"", "bbox_2d": [1,2,3,4]}', 'a {b} "c"', (1, 2, 3, 4), ["1", "2", "3", "4"]),
        (read_json_boxes, '[{"bbox_2d": [10.5, 2, 30, 40.25]}]', "", (10.5, 2, 30, 40.25), ["10.5", "2", "30", "40.25"]),
        (read_json_boxes, '```json\n[\n\t{"bbox_2d": [1, 2, 3, 4], "label": "sp', "", (1, 2, 3, 4), ["1", "2", "3", "4"]),
        (read_json_boxes, '[{"point_2d": [5, 6]}, {"bbox_2d": [1, 2, 3, 4]}]', "", (1, 2, 3, 4), ["1", "2", "3", "4"]),
        (read_marked_boxes, "<ref>spoon</ref><box>[[12, 7, 340, 98]]</box>", "spoon", (12, 7, 340, 98), ["12", "7", "340", "98"]),
        (read_marked_boxes, "It is <ref>a 7</ref> <box>[[500,500,550,560]]</box>.", "It is a 7.",
         (500, 500, 550, 560), ["500", "500", "550", "560"]),
        (read_marked_boxes, "KX7 <box>[1, 2, 30, 4]</box>", "KX7", (1, 2, 30, 4), ["1", "2", "30", "4"]),
        (read_marked_boxes, "<ref>spoon</ref><box>[[1, 2, 3, 4]", "spoon", (1, 2, 3, 4), ["1", "2", "3", "4"]),
        (read_fractions, "[0.40, 0.55, 0.50, 0.65]", "", (0.40, 0.55, 0.50, 0.65), ["40", "55", "50", "65"]),
        (read_fractions, "KX7 [0.4,.05,1,1.0].", "KX7.", (0.4, 0.05, 1, 1), ["4", "05", "1", "0"]),
        (read_fractions, "as in [1]: [0.1, 0.2, 0.3, 0.4]", "as in [1]:", (0.1, 0.2, 0.3, 0.4), ["1", "2", "3", "4"]),
        (read_fractions, "[0, 0, 1, 1]", "", (0, 0, 1, 1), ["0", "0", "1", "1"]),
    ],
)  # fmt: skip
def test_one_box(reader: Reader, raw: str, text: str, values: tuple[float, ...], digits: list[str]) -> None:
    answer = reader(raw)
    assert answer.box is not None and answer.box.values == values
    assert (answer.text, answer.extra, answer.malformed) == (text, (), False)
    assert spelled(raw, answer) == digits


@pytest.mark.parametrize(
    ("reader", "raw", "text"),
    [
        (read_json_boxes, '[{"bbox_2d": [12, 7, 340], "label": "spoon"}]', "spoon"),
        (read_json_boxes, '[{"bbox_2d": [12, 7, 340, 98, 5]}]', ""),
        (read_json_boxes, '[{"bbox_2d": [12, 7, "340", 98]}]', ""),
        (read_json_boxes, '[{"bbox_2d": [12, 7, 12, 98]}]', ""),
        (read_json_boxes, '```json\n[{"bbox_2d": [12, 7, 34', ""),
        (read_json_boxes, '[{"bbox_2d": null}]', ""),
        (read_json_boxes, '{"bbox_2d', '{"bbox_2d'),
        (read_marked_boxes, "<ref>spoon</ref><box>[[12, 7, 340]]</box>", "spoon"),
        (read_marked_boxes, "<ref>spoon</ref><box>", "spoon"),
        (read_marked_boxes, "<box>[[12, 7, 340, 9", ""),
        (read_marked_boxes, "<box>none</box>", ""),
        (read_marked_boxes, "<box>[[12, 7, 340, 7]]</box>", ""),
        (read_fractions, "[0.40, 0.55, 0.50", "[0.40, 0.55, 0.50"),
        (read_fractions, "[0.40, 0.55, 0.40, 0.65]", "[0.40, 0.55, 0.40, 0.65]"),
        (read_fractions, "[0.40, 0.55, 1.50, 0.65]", "[0.40, 0.55, 1.50, 0.65]"),
    ],
)
def test_an_unreadable_box_is_malformed(reader: Reader, raw: str, text: str) -> None:
    assert reader(raw) == BoxText(text, None, (), malformed=True)


@pytest.mark.parametrize(
    ("reader", "raw", "text"),
    [
        (read_json_boxes, " KX7\n", "KX7"),
        (read_json_boxes, '{"total": [1, 2, 3, 4]}', '{"total": [1, 2, 3, 4]}'),
        (read_json_boxes, '```json\n{"a": {"b": 1}}\n```', '```json\n{"a": {"b": 1}}\n```'),
        (read_marked_boxes, "<ref>spoon</ref>", "spoon"),
        (read_marked_boxes, "[[1, 2, 3, 4]]", "[[1, 2, 3, 4]]"),
        (read_fractions, "[1, 2, 3, 4]", "[1, 2, 3, 4]"),
        (read_fractions, "see [1], [2, 3]", "see [1], [2, 3]"),
        (read_fractions, "0.40, 0.55, 0.50, 0.65", "0.40, 0.55, 0.50, 0.65"),
        (read_fractions, "", ""),
    ],
)
def test_text_without_a_box_stays_as_it_is(reader: Reader, raw: str, text: str) -> None:
    assert reader(raw) == BoxText(text, None, (), malformed=False)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [("", "wooden spoon"), ("spoon", "spoon"), ("Where is the fork?", "fork"), ("wooden SPOON", "wooden spoon"),
     ("the knife", "wooden spoon"), ("Where is the wooden spoon?", "wooden spoon")],
)  # fmt: skip
@pytest.mark.parametrize("reader", [read_json_boxes, read_marked_boxes, read_fractions])
def test_the_box_asked_for_comes_before_the_first(reader: Callable[[str, str], BoxText], asked: str, chosen: str) -> None:
    boxes = {"wooden spoon": (0.1, 0.2, 0.3, 0.4), "spoon": (0.5, 0.2, 0.6, 0.4), "fork": (0.7, 0.8, 0.9, 0.95)}
    written: dict[object, str] = {
        read_json_boxes: json.dumps([{"bbox_2d": list(box), "label": name} for name, box in boxes.items()]),
        read_marked_boxes: "".join(f"<ref>{name}</ref><box>[{list(box)}]</box>" for name, box in boxes.items()),
        read_fractions: ", ".join(f"{name} {list(box)}" for name, box in boxes.items()),
    }
    answer = reader(written[reader], asked)
    assert answer.box is not None and (answer.box.label, answer.box.values) == (chosen, boxes[chosen])
    assert [box.label for box in answer.extra] == [name for name in boxes if name != chosen]


def test_several_boxes_under_one_name_and_one_that_cannot_be_read() -> None:
    answer = read_marked_boxes("<ref>cups</ref><box>[[1, 2, 3, 4], [5, 6], [7, 8, 9, 10]]</box>")
    assert answer.box is not None and answer.box.values == (1, 2, 3, 4) and not answer.malformed
    assert [(box.values, box.label) for box in answer.extra] == [((7, 8, 9, 10), "cups")]


@pytest.mark.parametrize(
    ("reader", "raw"),
    [(read_json_boxes, '{"bbox_2d": [340, 98, 12, 7]}'), (read_marked_boxes, "<box>[[340, 98, 12, 7]]</box>")],
)
def test_turned_corners_are_put_in_order_with_their_characters(reader: Reader, raw: str) -> None:
    answer = reader(raw)
    assert answer.box is not None and answer.box.values == (12, 7, 340, 98)
    assert spelled(raw, answer) == ["12", "7", "340", "98"]


@given(st.tuples(*[st.integers(0, 9999)] * 4), st.text(max_size=30), st.booleans(), st.sampled_from([None, 0, 1, 4]))
def test_any_label_survives_json(numbers: tuple[int, ...], label: str, ascii_only: bool, indent: int | None) -> None:
    raw = json.dumps([{"bbox_2d": numbers, "label": label}], ensure_ascii=ascii_only, indent=indent)
    answer = read_json_boxes(raw)
    x0, y0, x1, y1 = numbers
    if x0 == x1 or y0 == y1:
        assert answer.malformed
        return
    assert answer.box is not None and [float(digits) for digits in spelled(raw, answer)] == list(answer.box.values)
    assert answer.box.values == (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    assert answer.text == label.strip()


@given(st.text(alphabet='<>[]{}"\\box_2d:ref/locat0123456789., \n`', max_size=60))
def test_no_text_makes_a_reader_fail(raw: str) -> None:
    for reader in (read_locations, read_json_boxes, read_marked_boxes, read_fractions):
        reader(raw)


def test_hostile_repetition_is_read_in_time() -> None:
    """Nothing is tried in exponentially or quadratically many ways: tens of thousands of characters come back at once."""
    for piece in ("[", "{", '{"', "<ref>", "<box>", "[0.1,", '{"bbox_2d": [1,', "```json", " " * 3, "\\"):
        for reader in (read_json_boxes, read_marked_boxes, read_fractions):
            reader(piece * 4000)


@pytest.mark.parametrize(
    ("raw", "text", "values", "malformed"),
    [
        ("KX7<at><loc012><loc100><loc250><loc180>", "KX7", (12, 100, 250, 180), False),
        ("KX7", "KX7", None, False),
        ("KX7<at><loc012><loc100><loc250>", "KX7", None, True),
        ("KX7<at><loc250><loc100><loc012><loc180>", "KX7", None, True),
        ("KX7<at>", "KX7", None, True),
        ("<loc012>KX7", "KX7", None, True),
    ],
)
def test_locations(raw: str, text: str, values: tuple[int, ...] | None, malformed: bool) -> None:
    answer = read_locations(raw)
    assert (answer.text, answer.values, answer.malformed) == (text, values, malformed)
