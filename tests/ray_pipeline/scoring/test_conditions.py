"""Tables of studies from outcomes whose figures are known."""

import pytest

from ray_pipeline.scoring.conditions import LAYOUTS, Outcome, is_right, study_tables, study_text
from ray_pipeline.scoring.tables import Group

BOX = (0.0, 0.0, 10.0, 10.0)


def zoomed(place: int, size: str, whole: bool, with_crop: bool, best: bool) -> Outcome:
    right = {"whole": whole, "zoomed": with_crop, "true_crop": best}
    return Outcome(f"p{place}", size, right, {"held_zoomed": 0.5})


ZOOMING = [
    *(zoomed(k, "small", False, k < 6, k < 8) for k in range(10)),
    *(zoomed(k, "large", k > 11, k > 10, True) for k in range(10, 20)),
]


def group(found: list[Group], name: str) -> Group:
    return next(one for one in found if one.name == name)


@pytest.mark.parametrize(
    ("text", "box", "references", "right"),
    [
        ("Exit ", BOX, ["exit", "way out"], True),
        ("exit", None, ["way out"], False),
        ("anything", BOX, [], True),
        ("anything", BOX, [" "], True),
        ("anything", (6.0, 0.0, 16.0, 10.0), [], False),
        ("anything", None, [], False),
    ],
)
def test_right(text: str, box: tuple[float, float, float, float] | None, references: list[str], right: bool) -> None:
    assert is_right(text, box, references, [BOX]) is right


def test_zooming_by_size() -> None:
    found = study_tables(ZOOMING, LAYOUTS["zooming"], 200, 0)
    table = list(found.tables[LAYOUTS["zooming"].title])
    small, everything = group(table, "small").scores, group(table, "all").scores
    assert (small["whole"].value, small["zoomed"].value, small["true_crop"].value) == (0, 0.6, 0.8)
    assert small["recovered"].value == pytest.approx(0.75) and small["recovered"].interval is not None
    assert everything["recovered"].value == pytest.approx((15 - 8) / (18 - 8)) and everything["held_zoomed"].value == 0.5
    pair = found.pairs[("zoomed", "whole")]
    assert list(pair) == ["all", "small", "large"]
    one = pair["small"]["exact_match"]
    assert (one.rows, one.value, one.other, one.won, one.lost, one.mcnemar) == (10, 0.6, 0.0, 6, 0, 2 / 64)
    text = study_text(found)
    assert "## zoomed against whole" in text and "## true crop against zoomed" in text and "- gap recovered: " in text


def test_right_and_wrong_answers_apart() -> None:
    outcomes = [
        Outcome(f"p{k}", "small" if k < 6 else "large", {"whole": k % 2 == 0}, {"attention_ratio": 9.0 if k % 2 else 3.0 + k})
        for k in range(12)
    ]
    found = study_tables(outcomes, LAYOUTS["attention"], 200, 0)
    wrong, right = list(found.tables["Wrong answers"]), list(found.tables["Right answers"])
    assert group(wrong, "all").scores["attention_ratio"].value == 9 and "whole" not in group(wrong, "all").scores
    assert group(right, "small").scores["attention_ratio"].value == 5
    assert {size: one["attention_ratio"].difference for size, one in found.contrasts.items()} == {"small": 5 - 9, "large": 11 - 9}
    assert "## Right minus wrong answers: small (< 0.5 %)" in study_text(found) and "-4.00" in study_text(found)


def test_answers_all_right_have_no_other_side() -> None:
    found = study_tables([Outcome("p", "large", {"whole": True}, {"pointed": 1.0})], LAYOUTS["attention"], 100, 0)
    assert not found.contrasts and not found.tables["Wrong answers"]
    assert "Wrong answers" not in study_text(found)
