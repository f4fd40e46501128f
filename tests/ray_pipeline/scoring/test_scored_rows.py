"""One result row against its truth: answers, pages, and the studies of crops and candidates."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.scoring.answers import score_answer
from ray_pipeline.scoring.pages import score_page
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.studies import choosing, looking, mean_cover
from schemas.picture import Box
from schemas.result import CandidateRecord, Region
from schemas.truth import TrueBox, Truth
from tests.stand_ins.labelled_runs import HEIGHT, WIDTH, Said, result_row

TRUE: Box = (100, 40, 120, 60)
HALF: Box = (100, 40, 120, 50)
ELSEWHERE: Box = (0, 0, 10, 10)
FAILED = Said(answer=None)


def truth(*references: str, boxes: tuple[Box, ...] = ()) -> Truth:
    return Truth(0, "row", None, references, tuple(TrueBox(box, "") for box in boxes))


def values(scores: dict[str, Share]) -> dict[str, float | None]:
    return {name: share.value for name, share in scores.items()}


def test_an_answer_with_a_box() -> None:
    row = score_answer(
        result_row(Said("EXIT", box_px=HALF, sure=0.9, box_sure=0.4)), truth("exit", "way out", boxes=(ELSEWHERE, TRUE))
    )
    assert values(row.scores) == {"anls": 1, "vqa_accuracy": 1, "exact_match": 1, "cer": 1, "acc_50": 1, "mean_iou": 0.5}
    assert [(one.of, one.right) for one in row.sureness] == [("answer", True), ("box", True)]
    assert row.groups.size == "medium" and row.groups.refined == "no crop" and row.groups.method == "none"


def test_what_a_row_without_a_box_is_worth() -> None:
    """A miss where the box is all that is asked, or the prompt asks for one; else it is not counted."""
    asked = score_answer(result_row(Said("")), truth("", boxes=(TRUE,)))
    assert values(asked.scores) == {"box_given": 0, "acc_50": 0, "mean_iou": 0}
    text = truth("exit", boxes=(TRUE,))
    assert "acc_50" not in score_answer(result_row(Said("exit")), text).scores
    assert score_answer(result_row(Said("exit")), text, boxes_asked=True).scores["acc_50"] == Share(0)


def test_a_failed_row_is_wrong() -> None:
    row = score_answer(result_row(FAILED), truth("exit", boxes=(TRUE,)))
    assert values(row.scores) == {"anls": 0, "vqa_accuracy": 0, "exact_match": 0, "cer": 1}
    assert (row.status, row.groups.size, row.groups.method, row.groups.refined) == (
        "fetch_not_found",
        "unknown",
        "failed",
        "failed",
    )
    assert row.groups.picture == "row.png" and not row.before and not row.sureness
    assert values(score_answer(result_row(FAILED), truth(boxes=(TRUE,))).scores) == {"box_given": 0, "acc_50": 0, "mean_iou": 0}


def test_a_row_without_truth_is_not_labelled() -> None:
    assert not score_answer(result_row(Said("exit")), truth()).labelled
    assert not score_answer(result_row(Said("exit")), truth(" ")).labelled


def test_before_and_after() -> None:
    row = score_answer(result_row(Said("exit", before="exot", crops_px=(TRUE,), used=True)), truth("exit"))
    assert (row.before["exact_match"], row.scores["exact_match"]) == (Share(0), Share(1))
    assert row.before["anls"] == pytest.approx((0.75, 1)) and row.before["cer"] == Share(1, 4)
    assert (row.groups.method, row.groups.refined) == ("rel_att", "used")
    assert score_answer(result_row(Said("exit", crops_px=(TRUE,))), truth("exit")).groups.refined == "not used"
    assert not score_answer(result_row(Said("exit", before="exot")), truth(boxes=(TRUE,))).before


@pytest.mark.parametrize("box", [(-2, 0, 9, 9), (0, -1.5, 9, 9), (0, 0, WIDTH + 2, 9), (0, 0, 9, HEIGHT + 1.5)])
def test_reference_boxes_lie_inside_the_picture(box: Box) -> None:
    for score in (lambda row: score_answer(row, truth(boxes=(box,))), lambda row: score_page(row, [], truth(boxes=(box,)).boxes)):
        with pytest.raises(ValueError, match=r"row 'row': reference box .* inside the picture of 200 x 100 px"):
            score(result_row(Said("x")))


def test_edges_may_be_rounded_and_unknown_sizes_are_not_judged() -> None:
    assert score_answer(result_row(Said("x")), truth(boxes=((0, 0, WIDTH + 1, HEIGHT + 1),))).labelled
    assert score_answer(result_row(FAILED), truth(boxes=((0, 0, 9999, 9999),))).labelled


def line(box: Box, text: str, sure: float | None = None) -> Region:
    return Region(box, None, text, sure, "line")


LINES = ((0.0, 0.0, 50.0, 10.0), (0.0, 20.0, 50.0, 30.0))


def test_a_page() -> None:
    stray = line((100, 80, 150, 90), "?", 0.3)
    said = Said("RM total\n9.00", regions=(line(LINES[1], "9.00", 0.8), stray, line(LINES[0], "RM total", None)))
    row = score_page(result_row(said), ["Total RM 9.00"], truth(boxes=LINES).boxes)
    assert row.scores["word_f1"] == Share(6, 6) and row.scores["wer"] == Share(2, 3)  # all words, in another order and case
    assert (row.scores["line_precision"], row.scores["line_recall"], row.scores["line_f1"]) == ((2, 3), (2, 2), (4, 5))
    assert [(one.confidence, one.right) for one in row.sureness] == [(pytest.approx(0.8), True), (pytest.approx(0.3), False)]
    assert row.boxes is not None and len(row.boxes.found) == 3 and row.boxes.area_px == WIDTH * HEIGHT


def test_a_failed_page_misses_everything_on_it() -> None:
    row = score_page(result_row(FAILED), ["a b"], truth(boxes=LINES).boxes)
    assert row.scores["word_recall"] == Share(0, 2) and row.scores["cer"] == Share(3, 3)
    assert row.scores["line_recall"] == Share(0, 2) and row.scores["line_precision"].value is None
    assert row.boxes is not None and row.boxes.area_px is None


def test_an_empty_page_counts() -> None:
    assert score_page(result_row(Said("")), [""], ()).scores["cer"] == Share(0, 0)
    assert score_page(result_row(Said("dust")), [""], ()).scores["cer"] == Share(4, 0)
    assert not score_page(result_row(Said("dust")), [], ()).labelled


def test_accepted_texts_of_a_page() -> None:
    row = score_page(result_row(Said("one two")), ["three", "one two"], ())
    assert row.scores["word_f1"].value == 1 and row.scores["cer"].value == 0 and row.boxes is None


@pytest.mark.parametrize(
    ("side", "low", "high", "length", "share"),
    [
        (10, 0, 100, 100, 1), (10, 0, 50, 100, 0.5), (10, 45, 55, 100, 1 / 9), (100, 20, 50, 100, 0.3), (10, 0, 10, 100, 5 / 90),
        (60, 40, 60, 100, 20 / 60),  # wherever it lies, it holds the middle
    ],
)  # fmt: skip
def test_share_by_chance(side: float, low: float, high: float, length: float, share: float) -> None:
    assert mean_cover(side, low, high, length) == pytest.approx(share)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 99), st.floats(0, 99), st.floats(0.5, 99))
def test_share_by_chance_is_the_mean_over_all_places(side: float, low: float, extent: float) -> None:
    high = min(100.0, low + extent)
    places = [(100 - side) * (k + 0.5) / 400 for k in range(400)]
    mean = sum(max(0.0, min(place + side, high) - max(place, low)) / side for place in places) / len(places)
    assert mean_cover(side, low, high, 100) == pytest.approx(mean, abs=5e-3)


def test_a_crop_that_holds_the_box() -> None:
    crops: tuple[Box, ...] = (ELSEWHERE, (80, 20, 140, 80))
    found = looking(result_row(Said("x", crops_px=crops)), [TRUE])
    assert (found["crop_inside"], found["crop_holds"], found["crop_area"]) == (Share(1), Share(1), (3600, WIDTH * HEIGHT))
    chance = found["crop_chance"].part
    assert found["crop_ratio"].value == pytest.approx(1 / chance) and 0.1 < chance < 0.5
    assert looking(result_row(Said("x")), [TRUE]) == {} and looking(result_row(FAILED), [TRUE]) == {}
    assert looking(result_row(Said("x", crops_px=(ELSEWHERE,))), [TRUE])["crop_inside"] == Share(0)


def test_choosing_among_candidates() -> None:
    pool = (
        CandidateRecord(ELSEWHERE, "a", -0.1, None, None, False),
        CandidateRecord(TRUE, "b", -0.5, None, None, True),
        CandidateRecord(None, "c", -0.01, None, None, False),  # gave no box: it cannot be chosen
        CandidateRecord(HALF, "d", -0.7, None, None, False),
        CandidateRecord((100, 40, 120, 49), "e", -0.7, None, None, False),
    )
    found = choosing(result_row(Said("x", candidates=pool)), [TRUE])
    assert values(found) == {"chosen_acc_50": 1, "random_acc_50": 0.5, "likeliest_acc_50": 0, "best_acc_50": 1}
    nobody = tuple(replace(one, chosen=False) for one in pool)
    for candidates in (nobody, pool[1:3], ()):
        assert choosing(result_row(Said("x", candidates=candidates)), [TRUE]) == {}
