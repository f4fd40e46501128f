"""Intervals, tests and calibration: hand-computed values, and properties that hold whatever the numbers."""

import numpy as np
import pytest

from ray_pipeline.scoring.bootstrap import Draws, interval, p_value
from ray_pipeline.scoring.differences import differences
from ray_pipeline.scoring.mcnemar import mcnemar
from ray_pipeline.scoring.reliability import reliability
from ray_pipeline.scoring.share import Share


def column(values: list[float]) -> np.ndarray:
    return np.asarray(values, dtype=float)[:, None]


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator, hits, trials = np.random.default_rng(5), 0, 120
    for trial in range(trials):
        right = generator.random(80) < 0.7
        found = interval(Draws(range(80), 200, trial).ratios(column(right), np.ones((80, 1)))[:, 0])
        assert found is not None
        hits += found.low <= 0.7 <= found.high
    assert 0.88 <= hits / trials <= 0.99


def test_rows_of_one_picture_are_drawn_together() -> None:
    """Four times the same rows say no more than once: the interval stays. As single pictures they would halve it."""
    right = np.random.default_rng(1).random(50) < 0.6
    once = Draws(range(50), 500, 7).ratios(column(right), np.ones((50, 1)))
    often = Draws([k % 50 for k in range(200)], 500, 7).ratios(column(np.tile(right, 4)), np.ones((200, 1)))
    apart = Draws(range(200), 500, 7).ratios(column(np.tile(right, 4)), np.ones((200, 1)))
    np.testing.assert_allclose(once, often)
    assert np.ptp(np.quantile(apart, [0.025, 0.975])) < 0.65 * np.ptp(np.quantile(once, [0.025, 0.975]))


def test_draws_are_the_same_each_time_and_differ_by_seed() -> None:
    values, ones = column([0, 1, 0, 1, 1]), np.ones((5, 1))
    draws = Draws("abcde", 50, 3)
    np.testing.assert_array_equal(draws.ratios(values, ones), draws.ratios(values, ones))
    assert (Draws("abcde", 50, 4).ratios(values, ones) != draws.ratios(values, ones)).any()
    np.testing.assert_array_equal(draws.ratios(np.hstack([values, values]), np.ones((5, 2)))[:, 1:], draws.ratios(values, ones))


def test_many_pictures_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, ones = column(list(range(20))), np.ones((20, 1))
    whole = Draws(range(20), 33, 0).ratios(values, ones)
    monkeypatch.setattr("ray_pipeline.scoring.bootstrap._CHUNK_VALUES", 100)
    np.testing.assert_array_equal(Draws(range(20), 33, 0).ratios(values, ones), whole)


def test_no_interval_where_the_draws_cannot_tell() -> None:
    nan = float("nan")
    assert interval(np.array([1.0, 1.0, 1.0])) is None
    assert interval(np.array([nan, nan, nan])) is None
    assert interval(np.array([0.0, nan, nan, nan, 1.0])) is None
    found = interval(np.linspace(0, 1, 401))
    assert found is not None and (found.low, found.high) == pytest.approx((0.025, 0.975))
    with pytest.raises(ValueError, match="0 draws"):
        Draws("a", 0, 0)


@pytest.mark.parametrize(
    ("above", "below", "ties", "p"), [(99, 0, 0, 0.02), (0, 99, 0, 0.02), (50, 49, 0, 1), (0, 0, 99, 1), (94, 5, 0, 0.12)]
)
def test_p_value(above: int, below: int, ties: int, p: float) -> None:
    assert p_value(np.array([1.0] * above + [-1.0] * below + [0.0] * ties)) == pytest.approx(p)


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(0, 0, 1), (5, 0, 0.0625), (0, 6, 0.03125), (10, 2, 158 / 4096), (3, 3, 1), (700, 650, 0.18243), (3000, 0, 0)],
)
def test_mcnemar(won: int, lost: int, p: float) -> None:
    assert mcnemar(won, lost) == mcnemar(lost, won) == pytest.approx(p, abs=5e-4)


def test_mcnemar_counts() -> None:
    with pytest.raises(ValueError, match="-1 lost"):
        mcnemar(1, -1)


def test_reliability_by_hand() -> None:
    found = reliability([0.95, 0.95, 0.55, 0.55], [True, False, True, True])
    assert found is not None
    assert (found.rows, found.confidence, found.right, found.brier) == pytest.approx((4, 0.75, 0.75, 0.3275))
    assert (found.width_error, found.mass_error) == pytest.approx((0.45, 0.45))
    assert [(one.low, one.high, one.rows, one.right) for one in found.width_bins] == [
        (pytest.approx(0.5), pytest.approx(0.6), 2, 1.0),
        (pytest.approx(0.9), 1.0, 2, 0.5),
    ]


def test_reliability_of_the_edges() -> None:
    assert reliability([], []) is None
    one = reliability([1.0], [True])
    assert one is not None and one.width_error == one.mass_error == one.brier == 0
    same = reliability([0.5] * 30, [k < 12 for k in range(30)])
    assert same is not None and len(same.mass_bins) == len(same.width_bins) == 1 and same.mass_error == pytest.approx(0.1)
    with pytest.raises(ValueError, match="1 confidences and 2 outcomes"):
        reliability([0.1], [True, False])
    with pytest.raises(ValueError, match=r"0.2 to 1.5"):
        reliability([0.2, 1.5], [True, False])


def test_equal_masses_hold_equally_many() -> None:
    sure = np.random.default_rng(0).random(1000)
    found = reliability(sure.tolist(), [bool(one) for one in sure > 0.4])
    assert found is not None and [one.rows for one in found.mass_bins] == [100] * 10


def test_reliability_of_confidences_that_mean_what_they_say() -> None:
    generator = np.random.default_rng(2)
    sure = generator.random(20_000)
    honest = reliability(sure.tolist(), [bool(one) for one in generator.random(20_000) < sure])
    boastful = reliability(np.sqrt(sure).tolist(), [bool(one) for one in generator.random(20_000) < sure])
    assert honest is not None and honest.width_error < 0.02 and honest.mass_error < 0.02
    assert boastful is not None and boastful.width_error == pytest.approx(1 / 6, abs=0.02)  # mean of sqrt(u) - u


def test_differences_by_hand() -> None:
    mine = [
        {"exact_match": Share(1), "cer": Share(1, 10)},
        {"exact_match": Share(1), "cer": Share(0, 30)},
        {"exact_match": Share(0)},
    ]
    other = [{"exact_match": Share(0), "cer": Share(3, 10)}, {"exact_match": Share(1), "cer": Share(1, 30)}, {"cer": Share(9, 9)}]
    found = differences(mine, other, ("exact_match", "cer", "wer"), Draws("abc", 200, 0))
    assert list(found) == ["exact_match", "cer"]
    exact, cer = found["exact_match"], found["cer"]
    assert (exact.rows, exact.value, exact.other, exact.won, exact.lost, exact.mcnemar) == (2, 1, 0.5, 1, 0, 1)
    assert (cer.rows, cer.value, cer.other) == (2, 1 / 40, 4 / 40)
    assert cer.difference == pytest.approx(-3 / 40) and (cer.won, cer.lost, cer.mcnemar) == (2, 0, None)
    with pytest.raises(ValueError, match="1 and 0 rows"):
        differences(mine[:1], [], ("cer",), Draws("a", 10, 0))


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    generator = np.random.default_rng(9)
    hard = generator.random(300)
    mine = [{"anls": Share(float(one))} for one in hard]
    other = [{"anls": Share(float(one))} for one in hard - 0.03 + generator.normal(0, 0.02, 300)]
    one = differences(mine, other, ("anls",), Draws(range(300), 400, 0))["anls"]
    assert one.interval is not None and 0.02 < one.interval.low < 0.03 < one.interval.high < 0.04
    assert one.p == pytest.approx(2 / 401)
