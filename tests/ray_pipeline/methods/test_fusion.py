"""Several scales: which crops they show, and what their answers come to."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.methods.fusion import OVERLAP, Fused, fuse, scale_views, sureness
from ray_pipeline.models.contract import Generation
from schemas.picture import Box


@pytest.mark.parametrize(
    ("width", "height", "scale", "overlap", "columns", "rows"),
    [
        (640, 480, 1.0, 0.25, [(0, 640)], [(0, 480)]),
        (700, 350, 2.0, 0.25, [(0, 400), (300, 700)], [(0, 200), (150, 350)]),  # 1.75 times, a quarter shared
        (640, 480, 2.0, 0.0, [(0, 320), (320, 640)], [(0, 240), (240, 480)]),
        (600, 300, 2.0, 0.5, [(0, 400), (200, 600)], [(0, 200), (100, 300)]),
        (1000, 500, 3.0, 0.25, [(0, 400), (300, 700), (600, 1000)], [(0, 200), (150, 350), (300, 500)]),
        (500, 250, 2.5, 0.0, [(0, 200), (150, 350), (300, 500)], [(0, 100), (75, 175), (150, 250)]),  # 3 of 1 / 2.5
    ],
)
def test_crops_of_a_scale(
    width: int, height: int, scale: float, overlap: float, columns: list[tuple[int, int]], rows: list[tuple[int, int]]
) -> None:
    (views,) = scale_views(width, height, (scale,), overlap)
    expected = [(x0, y0, x1, y1) for (x0, x1), (y0, y1) in itertools.product(columns, rows)]
    assert len(views) == len(expected)
    for view, box in zip(views, expected, strict=True):
        assert view == pytest.approx(box)


def test_scales_keep_their_order_and_none_is_none() -> None:
    assert scale_views(640, 480, ()) == ()
    one, three = scale_views(641, 479, (1, 3))
    assert one == ((0.0, 0.0, 641.0, 479.0),) and len(three) == 9


@settings(deadline=None)
@given(
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.integers(1000, 8000).map(lambda k: k / 1000),
    st.floats(0, 0.9),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_crops_cover_the_picture_and_hold_what_is_small_whole(
    width: int, height: int, scale: float, overlap: float, place: float, share: float
) -> None:
    (views,) = scale_views(width, height, (scale,), overlap)
    count = math.ceil(scale)
    assert len(views) == count**2 == len(set(views))
    for length, low, high in ((width, 0, 2), (height, 1, 3)):
        spans = sorted({(view[low], view[high]) for view in views})
        assert len(spans) == count and spans[0][0] == 0 and spans[-1][1] == length
        side = length / (1 + (scale - 1) * (1 - overlap))
        assert all(end - start == pytest.approx(side) and start >= 0 and end <= length for start, end in spans)
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end - start >= overlap * side - 1e-6 * length
        thing = share * overlap * side
        start = place * (length - thing)
        slack = 1e-6 * length
        assert any(low <= start + slack and start + thing <= high + slack for low, high in spans)


@pytest.mark.parametrize(
    ("width", "height", "scale", "overlap", "message"),
    [
        (0, 10, 2.0, 0.2, "picture 0 x 10 px"),
        (10, 10, 0.5, 0.2, "scale 0.5, expected at least 1"),
        (10, 10, math.nan, 0.2, "scale nan"),
        (10, 10, math.inf, 0.2, "scale inf"),
        (10, 10, 2.0, 1.0, "overlap 1.0; expected"),
        (10, 10, 2.0, -0.1, "overlap -0.1; expected"),
    ],
)
def test_views_refused(width: int, height: int, scale: float, overlap: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scale_views(width, height, (1.0, scale), overlap)


def test_a_quarter_of_a_crop_is_shared_by_default() -> None:
    assert OVERLAP == 0.25 and scale_views(70, 70, (2.0,))[0][0] == pytest.approx((0, 0, 40, 40))


def said(text: str, text_logprob: float, box_px: Box | None = None, box_logprob: float | None = None) -> Generation:
    return Generation(text, text, text_logprob, box_px, box_logprob, 1, True)


SIGN, NEAR, OTHER = (10.0, 10.0, 30.0, 20.0), (11.0, 10.0, 31.0, 20.0), (70.0, 40.0, 90.0, 60.0)
FLAT, BROKEN = (10.0, 10.0, 30.0, 10.0), (10.0, math.nan, 30.0, 20.0)
NOTHING = said("", -math.inf)


@pytest.mark.parametrize(
    ("answers", "surest"),
    [
        ([], None),
        ([NOTHING], None),
        ([said("KX7", -0.4), said("KX1", -0.1), said("K", -0.9)], 1),
        ([said("KX7", -0.4), said("KX1", -0.4)], 0),
        ([NOTHING, said("KX7", -9.0)], 1),
        ([said(" \n", -0.01), said("KX7", -2.0)], 1),  # white space says nothing, however surely
        ([said("", -0.01), said("KX7", -2.0)], 1),
        ([said("KX7", math.nan), said("KX1", -3.0)], 1),
        ([said("", -math.inf, SIGN, -0.2), said("", -math.inf, OTHER, -0.1)], 1),
        ([said("", -math.inf, SIGN, -0.2), said("red", -0.5)], 0),
        ([said("", -math.inf, FLAT, -0.1), said("red", -0.5)], 1),  # a box without area is none
        ([said("", -math.inf, None, -0.1), said("", -math.inf, SIGN, None)], None),
    ],
)
def test_the_surest_answer(answers: list[Generation], surest: int | None) -> None:
    assert fuse(answers, 0.5).surest == surest


def test_sureness_is_of_what_is_said() -> None:
    assert sureness(said("KX7", -0.25, SIGN, -4.0)) == -0.25
    assert sureness(said("", -math.inf, SIGN, -4.0)) == -4.0
    assert sureness(NOTHING) == -math.inf


def test_boxes_of_one_thing_become_one() -> None:
    answers = [
        said("", -1.0, SIGN, math.log(0.5)),
        NOTHING,
        said("", -1.0, OTHER, math.log(0.6)),
        said("KX7", -0.1, NEAR, math.log(0.75)),
        said("", -1.0, FLAT, 0.0),
        said("", -1.0, BROKEN, 0.0),
    ]
    fused = fuse(answers, 0.5)
    assert fused.boxes_px == (NEAR, OTHER) and fused.members == ((0, 3), (2,))
    assert fused.scores == pytest.approx((0.75, 0.6)) and fused.surest == 3
    mean = fuse(answers, 0.5, weighted=True)
    assert mean.boxes_px[0] == pytest.approx((10.6, 10, 30.6, 20)) and mean.boxes_px[1] == pytest.approx(OTHER)
    assert fuse(answers, 0.95).boxes_px == (NEAR, OTHER, SIGN), "19 of 21 is not above 0.95"


def test_probabilities_stay_within_bounds() -> None:
    fused = fuse([said("", -1.0, SIGN, 1e-3), said("", -1.0, OTHER, math.nan)], 0.5)
    assert fused.scores == (1.0, 0.0) and fused.surest == 0


def test_nothing_fuses_to_nothing() -> None:
    assert fuse([], 0.5) == Fused(None, (), (), ())
    with pytest.raises(ValueError, match="overlap 1.5"):
        fuse([said("a", -1.0)], 1.5)
