"""Tables of an evaluation: groups, contrasts and comparisons of planted rows."""

import pytest

from ray_pipeline.scoring.evaluation import compared, evaluated
from ray_pipeline.scoring.markdown import comparison_text, evaluation_text
from ray_pipeline.scoring.scored_row import Groups, ScoredRow, Sureness
from ray_pipeline.scoring.share import Share


def row(number: int, right: float, size: str = "small", before: float | None = None, **more: object) -> ScoredRow:
    scores = {"exact_match": Share(right), "cer": Share(3 - 3 * right, 3)}
    earlier = {} if before is None else {"exact_match": Share(before)}
    groups = Groups(f"picture {number // 2}", size, "rel_att", "used")
    fields = dict(id=f"row {number}", page=None, status="ok", groups=groups, scores=scores, before=earlier)
    return ScoredRow(**(fields | more))


ROWS = [row(k, float(k % 4 == 0), "small", 0.0) for k in range(40)] + [
    row(100 + k, float(k % 4 > 0), "large", 0.0) for k in range(40)
]


def test_groups_and_contrasts() -> None:
    found = evaluated([*ROWS, row(999, 1, scores={})], "answer", 300, 0)
    assert (found.rows, found.labelled, found.failed, found.pictures) == (81, 80, 0, 40)
    sizes = {group.name: group for group in found.tables["object size"]}
    assert {name: (group.rows, group.scores["exact_match"].value) for name, group in sizes.items()} == {
        "large": (40, 0.75),
        "small": (40, 0.25),
    }
    overall = found.tables["overall"][0].scores
    assert overall["exact_match"].value == 0.5 and overall["cer"].value == 0.5 and "anls" not in overall
    contrast = found.size_sensitivity["exact_match"]
    assert contrast.difference == 0.5 and contrast.interval is not None and contrast.interval.low > 0.2 and contrast.p is not None
    assert contrast.p < 0.02 and found.size_sensitivity["cer"].difference == -0.5


def test_refinement_is_compared_with_what_was_said_before() -> None:
    found = evaluated(ROWS, "answer", 200, 0).refinement
    assert {
        size: (one["exact_match"].value, one["exact_match"].other, one["exact_match"].won) for size, one in found.items()
    } == {
        "all": (0.5, 0, 40),
        "small": (0.25, 0, 10),
        "large": (0.75, 0, 30),
    }
    assert found["all"]["exact_match"].mcnemar == pytest.approx(2 / 2**40)


def test_the_seed_decides_the_intervals() -> None:
    assert evaluated(ROWS, "answer", 200, 1) == evaluated(ROWS, "answer", 200, 1)
    assert evaluated(ROWS, "answer", 200, 1) != evaluated(ROWS, "answer", 200, 2)


def test_two_runs() -> None:
    others = [row(k, 0.0, "small") for k in range(40)] + [row(500, 1.0)]
    found = compared(ROWS, others, "answer", 200, 0)
    assert (found.rows, found.only_here, found.only_there) == (40, 40, 1)
    assert list(found.sizes) == ["all", "small"]
    one = found.sizes["all"]["exact_match"]
    assert (one.rows, one.value, one.other, one.won, one.lost) == (40, 0.25, 0, 10, 0)
    text = comparison_text(found)
    assert "40 rows in both runs; 40 rows are in this run alone, 1 in the other alone." in text
    assert "+25.0 [" in text


def test_tables_read_as_text() -> None:
    rows = [*ROWS, row(200, 0.0, status="model_oom", groups=Groups("p", "unknown", "a|b\nc", "failed"))]
    rows += [row(300, 1.0, sureness=(Sureness("answer", 0.95, True),))]
    text = evaluation_text(evaluated(rows, "answer", 100, 0))
    assert "| small (< 0.5 %) | 41" in text and "a\\|b c" in text and "## By status" in text
    assert "Expected calibration error 5.0 (equal widths), 5.0 (equal masses); Brier score 0.0025." in text
    for table in text.split("\n\n"):
        assert len({len(line) for line in table.splitlines() if line.startswith("|")}) <= 1
    assert "## By status" not in evaluation_text(evaluated(ROWS, "answer", 100, 0))


def test_scores_that_do_not_vary_have_no_interval() -> None:
    found = evaluated([row(k, 1.0) for k in range(10)], "answer", 100, 0)
    score = found.tables["overall"][0].scores["exact_match"]
    assert (score.value, score.interval) == (1.0, None)
    assert "| all | 10  | 100.0 | 0.0 |" in evaluation_text(found)


def test_nothing_labelled_is_an_empty_evaluation() -> None:
    found = evaluated([row(1, 1, scores={})], "answer", 100, 0)
    assert found.labelled == 0 and evaluation_text(found) == ""
