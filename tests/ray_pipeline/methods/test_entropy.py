"""Entropy of attention: the published table, the tokens that count, invalid heads, bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.geometry.footprints import Footprints, grid_footprints, join
from ray_pipeline.methods.entropy import kept_tokens, read_entropies, renormalised

UNIFORM_391 = [1 / 391] * 391
TWO_OF_391 = [0.5, 0.5] + [0.0] * 389


@pytest.mark.parametrize(
    ("weights", "nats", "normalised"),
    [  # acs.md section 11
        ([1.0] + [0.0] * 15, 0.0, 0.0),
        ([0.5, 0.5], 0.693147, 1.0),
        ([0.75, 0.25], 0.562335, 0.562335 / math.log(2)),
        ([0.7, 0.1, 0.1, 0.1], 0.940448, 0.940448 / math.log(4)),
        ([1 / 16] * 16, 2.772589, 1.0),
        ([0.5] + [0.5 / 15] * 15, 2.047172, 0.738361),
        (UNIFORM_391, 5.968708, 1.0),
        (TWO_OF_391, 0.693147, 0.116130),
        ([0.02, 0.02, 0.04, 0.0], 1.039721, 1.039721 / math.log(4)),  # a raw row, renormalised
        ([0.3], 0.0, 0.0),  # nothing to spread over
    ],
)
def test_published_entropies(weights: list[float], nats: float, normalised: float) -> None:
    read = read_entropies(torch.tensor(weights), torch.ones(len(weights), dtype=torch.bool))
    assert read.nats.item() == pytest.approx(nats, abs=1e-6)
    assert read.normalised.item() == pytest.approx(normalised, abs=1e-6)
    assert read.mass.item() == pytest.approx(sum(weights)) and read.valid.item()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.floats(0.1, 1))
def test_entropy_is_bounded_and_knows_no_scale(values: list[float], scale: float) -> None:
    row = torch.tensor(values, dtype=torch.float64) + 1e-6
    every = torch.ones(len(row), dtype=torch.bool)
    read, scaled = read_entropies(row, every), read_entropies(scale * row, every)
    assert -1e-9 <= read.nats.item() <= math.log(len(row)) + 1e-9
    assert -1e-9 <= read.normalised.item() <= 1 + 1e-9
    assert read.nats.item() == pytest.approx(scaled.nats.item(), abs=1e-9)


def test_tokens_that_do_not_count_change_nothing() -> None:
    kept = torch.tensor([True, False, True, True, False])
    row = torch.tensor([0.02, 0.5, 0.02, 0.04, 0.3])
    read = read_entropies(row, kept)
    assert read.nats.item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    assert read.mass.item() == pytest.approx(0.08)


def test_a_head_that_looks_past_the_picture_is_invalid() -> None:
    rows = torch.tensor([[1e-9, 0.0, 0.0, 0.0], [1e-7, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    read = read_entropies(rows, torch.ones(4, dtype=torch.bool))
    assert read.valid.tolist() == [False, True, False]
    assert read.nats.tolist() == pytest.approx([math.log(4), 0.0, math.log(4)])


def test_nan_stays_nan() -> None:
    read = read_entropies(torch.tensor([[0.5, math.nan], [0.5, 0.5]]), torch.ones(2, dtype=torch.bool))
    assert read.nats.isnan().tolist() == [True, False] and read.valid.tolist() == [False, True]


def test_the_gradient_at_no_attention_is_finite() -> None:
    row = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    read_entropies(row, torch.ones(4, dtype=torch.bool)).nats.backward()
    assert row.grad is not None and row.grad.isfinite().all()


def views(*numbers: int, unplaced: int = 0) -> Footprints:
    parts = [grid_footprints((0, 0, 60, 40), 1, 2, number) for number in numbers]
    nothing = Footprints(
        torch.zeros(unplaced, 4), torch.full((unplaced,), -1), torch.zeros(unplaced, dtype=torch.bool)
    )  # newlines
    return join([*parts, nothing])


@pytest.mark.parametrize(
    ("footprints", "tokens", "kept"),
    [
        (views(0), "finest_view", [True, True]),
        (views(0, unplaced=1), "finest_view", [True, True, False]),
        (views(0, 1, unplaced=2), "finest_view", [False, False, True, True, False, False]),
        (views(1, 2, 0), "finest_view", [True, True, True, True, False, False]),  # the thumbnail may come last
        (views(0, 1, unplaced=1), "all", [True, True, True, True, False]),
        (views(unplaced=2), "finest_view", [False, False]),
    ],
)
def test_which_tokens_count(footprints: Footprints, tokens: str, kept: list[bool]) -> None:
    assert kept_tokens(footprints, tokens).tolist() == kept


def test_crops_without_a_place_leave_the_whole_picture() -> None:
    whole, crop = views(0), views(1)
    footprints = join([whole, Footprints(crop.boxes_T4_px, crop.view_T, torch.zeros(2, dtype=torch.bool))])
    assert kept_tokens(footprints, "finest_view").tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("row", "kept", "message"),
    [([0.1, 0.2, 0.3], 2, "3 weights for 2 tokens"), ([0.1, -0.2], 2, "attention weight -0.2")],
)
def test_refused(row: list[float], kept: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        renormalised(torch.tensor(row), torch.ones(kept, dtype=torch.bool))
