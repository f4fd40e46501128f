"""Answers to candidates: boxes cut to the picture, degenerate ones dropped, identical ones counted."""

import math

import pytest
import torch

from ray_pipeline.methods.candidates import gather
from ray_pipeline.models.contract import Generation
from schemas.picture import Box


def answer(raw: str, box: Box | None, logprob: float | None = -0.5, entropy: float | None = 0.25) -> Generation:
    return Generation("spoon", raw, -0.1, box, logprob, 9, True, box_entropy=entropy)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10.0, 20.0, 30.0, 45.0), (10, 20, 30, 45)),
        ((-5.0, -1.0, 30.0, 45.0), (0, 0, 30, 45)),
        ((600.0, 400.0, 700.0, 500.0), (600, 400, 640, 480)),
        ((30.0, 20.0, 10.0, 45.0), None),  # turned round
        ((10.0, 20.0, 30.0, 20.0), None),  # no height
        ((650.0, 20.0, 700.0, 45.0), None),  # beside the picture
        ((math.nan, 20.0, 30.0, 45.0), None),
        ((10.0, 20.0, math.inf, 45.0), None),
        ((10.0, 20.0, 10.0 + 1e-9, 45.0), None),  # no width as float32
        (None, None),
    ],
)
def test_boxes_are_cut_or_dropped(box: Box | None, expected: Box | None) -> None:
    candidates, dropped = gather([answer("raw", box)], 640, 480)
    assert [one.box_px for one in candidates] == ([expected] if expected else [])
    assert [one.index for one in dropped] == ([] if expected else [0])
    if not expected:
        assert ("no readable box" if box is None else "no area inside 640 x 480 px") in dropped[0].reason


def test_identical_answers_are_one_candidate() -> None:
    box = (1.0, 2.0, 30.0, 40.0)
    answers = [answer("a", box, -0.3), answer("b", None), answer("c", box), answer("a", box, -0.4), answer("b", None)]
    candidates, dropped = gather(answers, 640, 480)
    assert [(one.index, one.multiplicity, one.digit_logprob) for one in candidates] == [(0, 2, -0.3), (2, 1, -0.5)]
    assert [one.index for one in dropped] == [1, 4]


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_what_is_not_told_loses_every_comparison(unknown: float | None) -> None:
    (one,), _ = gather([answer("a", (1.0, 2.0, 3.0, 4.0), unknown, unknown)], 640, 480)
    assert (one.digit_logprob, one.digit_entropy) == (-math.inf, math.inf)


@pytest.mark.parametrize(("value", "readable"), [(0.1, True), (math.nan, False), (math.inf, False)])
def test_attention_with_one_overflow_is_not_readable(value: float, readable: bool) -> None:
    weights = torch.full((4, 2, 3, 5), 0.1)
    weights[3, 1, 2, 4] = value
    generation = Generation("", "a", -0.1, (1.0, 2.0, 3.0, 4.0), -0.1, 9, True, weights_CLHT=weights)
    (one,), _ = gather([generation], 640, 480)
    assert one.readable is readable
    (bare,), _ = gather([answer("a", (1.0, 2.0, 3.0, 4.0))], 640, 480)
    assert not bare.readable
