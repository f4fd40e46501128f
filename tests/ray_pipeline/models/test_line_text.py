"""What families write about pages -> lines: their texts, boxes and the characters that spell them."""

import pytest

from ray_pipeline.models.line_text import WrittenLine, read_json_lines, read_marked_lines, read_plain_lines

Told = tuple[str, tuple[float, ...] | None, bool]  # text, numbers, unreadable


def told(lines: list[WrittenLine]) -> list[Told]:
    return [(line.text, line.values, line.unreadable) for line in lines]


PLAIN: list[tuple[str, list[Told]]] = [
    ("", []),
    (" \n \n", []),
    ("TOTAL 12.50", [("TOTAL 12.50", None, False)]),
    ("  first\n\nsecond  \n", [("first", None, False), ("second", None, False)]),
    ("```text\nfenced\n```", [("fenced", None, False)]),
]
JSON: list[tuple[str, list[Told]]] = [
    ('[{"bbox_2d": [12, 7, 340, 98], "text_content": "TOTAL 12.50"}]', [("TOTAL 12.50", (12, 7, 340, 98), False)]),
    ('```json\n[\n\t{"bbox_2d": [1, 2, 30, 40], "text_content": "a"},\n\t{"bbox_2d": [5, 6, 70, 80], "text": "b"}\n]\n```',
     [("a", (1, 2, 30, 40), False), ("b", (5, 6, 70, 80), False)]),
    ('[{"text": "turned round", "bbox_2d": [340, 98, 12, 7]}]', [("turned round", (12, 7, 340, 98), False)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "label": "as a label"}]', [("as a label", (1, 2, 3, 4), False)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "text_content": "\\u20ac 5 \\"net\\" {x}"}]', [('€ 5 "net" {x}', (1, 2, 3, 4), False)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "text_content": "a \\d b"}]', [("a \\d b", (1, 2, 3, 4), False)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "text_content": "cut o', [("cut o", (1, 2, 3, 4), False)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "text_content": "whole"}, {"bbox_2d": [5, 6', [("whole", (1, 2, 3, 4), False)]),
    ('[{"bbox_2d": [1, 2, 3], "text_content": "three"}]', [("three", None, True)]),
    ('[{"bbox_2d": [5, 5, 5, 9], "text_content": "flat"}]', [("flat", None, True)]),
    ('[{"bbox_2d": null, "text_content": "nowhere"}]', [("nowhere", None, True)]),
    ('[{"text_content": "no place"}]', [("no place", None, False)]),
    ('[{"bbox_2d": [1, 2, 3, 4], "text_content": ""}]', []),
    ("[]", []),
    ("```json\n[]\n```", []),
    ("no JSON at all\nbut two lines", [("no JSON at all", None, False), ("but two lines", None, False)]),
    ("", []),
]  # fmt: skip
MARKED: list[tuple[str, list[Told]]] = [
    ("<ref>TOTAL 12.50</ref><box>[[12, 7, 340, 98]]</box>", [("TOTAL 12.50", (12, 7, 340, 98), False)]),
    ("<ref>a</ref><box>[[1, 2, 30, 40]]</box>\n<ref>b</ref> <box>[[5, 6, 70, 80]]</box>",
     [("a", (1, 2, 30, 40), False), ("b", (5, 6, 70, 80), False)]),
    ("<ref>a [1]</ref><box>[[1, 2, 30, 40]]</box>", [("a [1]", (1, 2, 30, 40), False)]),
    ("<ref>broken</ref><box>[[1, 2, 30]]</box>", [("broken", None, True)]),
    ("<ref>cut</ref><box>[[1, 2", [("cut", None, True)]),
    ("bare[[12, 7, 340, 98]]\nnext one [[1, 2, 3, 4]]", [("bare", (12, 7, 340, 98), False), ("next one", (1, 2, 3, 4), False)]),
    ("only text\non two lines", [("only text", None, False), ("on two lines", None, False)]),
    ("", []),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "expected"), PLAIN)
def test_plain_lines(raw: str, expected: list[Told]) -> None:
    assert told(read_plain_lines(raw)) == expected


@pytest.mark.parametrize(("raw", "expected"), JSON)
def test_json_lines(raw: str, expected: list[Told]) -> None:
    assert told(read_json_lines(raw)) == expected


@pytest.mark.parametrize(("raw", "expected"), MARKED)
def test_marked_lines(raw: str, expected: list[Told]) -> None:
    assert told(read_marked_lines(raw)) == expected


@pytest.mark.parametrize(
    ("read", "raw"),
    [(read_plain_lines, raw) for raw, _ in PLAIN]
    + [(read_marked_lines, raw) for raw, _ in MARKED]
    + [(read_json_lines, raw) for raw, lines in JSON if not any("€" in text for text, _, _ in lines)],
)  # fmt: skip
def test_spans_are_the_characters_of_the_text(read: type, raw: str) -> None:
    for line in read(raw):
        assert raw[slice(*line.span)].strip() == line.text


@pytest.mark.parametrize("raw", ['{"' * 20000, "<ref>" * 20000, "[[1," * 20000, '"text": "\\' * 20000])
def test_nonsense_of_any_length_is_read_at_once(raw: str) -> None:
    for read in (read_plain_lines, read_json_lines, read_marked_lines):
        assert isinstance(read(raw), list)
