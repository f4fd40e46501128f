"""Confidence maps: a planted miscalibration is found and removed, and whatever the rows, maps rise within 0..1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.calibration.isotonic import TooFew, calibrated, fitted
from ray_pipeline.scoring.scored_row import Sureness
from schemas.profile import ConfidenceMap

share = st.floats(0, 1, allow_subnormal=False)


def answers(count: int, seed: int) -> list[Sureness]:
    """Right as often as the square of what they say: too sure everywhere."""
    drawn = np.random.default_rng(seed)
    said = drawn.uniform(0.2, 1.0, count)
    return [Sureness("answer", float(one), bool(hit)) for one, hit in zip(said, drawn.uniform(size=count) < said**2, strict=True)]


def test_a_planted_miscalibration_is_removed() -> None:
    found = calibrated(answers(2000, 1), answers(2000, 2))
    assert found.map.before > 0.12
    assert found.map.after < 0.04
    for said in (0.3, 0.5, 0.7, 0.9):
        assert found.map.of(said) == pytest.approx(said**2, abs=0.1)
    assert (found.map.rows, found.map.held_out, found.before.rows) == (2000, 2000, 2000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(share, st.booleans()), min_size=1, max_size=40), share, share)
def test_maps_rise_within_0_and_1(rows: list[tuple[float, bool]], one: float, other: float) -> None:
    knots, shares = fitted([said for said, _ in rows], [right for _, right in rows])
    known = ConfidenceMap(knots=knots, shares=shares, rows=len(rows), held_out=1, before=0, after=0)
    low, high = known.of(min(one, other)), known.of(max(one, other))
    assert 0 <= low <= high <= 1
    assert ConfidenceMap.model_validate_json(known.model_dump_json()) == known


@pytest.mark.parametrize(
    ("right", "wrong", "held_out", "said"),
    [
        (20, 20, 100, "40 rows to fit on, expected at least 50"),
        (60, 0, 100, "60 of 60 rows are right, expected at least 5 right and as many wrong"),
        (3, 60, 100, "3 of 63 rows are right"),
        (40, 40, 19, "19 held-back rows, expected at least 20"),
    ],
)
def test_too_few_rows_are_no_curve(right: int, wrong: int, held_out: int, said: str) -> None:
    rows = [Sureness("box", 0.5, k < right) for k in range(right + wrong)]
    with pytest.raises(TooFew, match=said):
        calibrated(rows, [Sureness("box", 0.5, True)] * held_out)


@pytest.mark.parametrize(
    ("knots", "shares", "said"),
    [
        ((0.1, 0.1), (0.2, 0.3), "expected each above"),
        ((0.1, 0.2), (0.4, 0.3), "expected none below"),
        ((0.1, 0.2), (0.4,), "2 knots and 1 shares"),
        ((0.1, float("nan")), (0.4, 0.5), "finite number"),
        ((0.1, 1.2), (0.4, 0.5), "less than or equal to 1"),
    ],
)
def test_maps_that_do_not_rise_are_refused(knots: tuple[float, ...], shares: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConfidenceMap(knots=knots, shares=shares, rows=1, held_out=1, before=0, after=0)


def test_between_knots_lines_are_straight_and_beyond_them_flat() -> None:
    known = ConfidenceMap(knots=(0.2, 0.6), shares=(0.1, 0.5), rows=1, held_out=1, before=0, after=0)
    assert [known.of(said) for said in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.5])
