"""auto: what a map is worth, how maps are mixed, and which requests that takes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_pipeline.methods.auto import confidence, mixed
from ray_pipeline.methods.focus import Question
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import (
    Attention,
    GradientAttention,
    PixelGradients,
    ReadAttention,
    ReadGradient,
    ReadPixelGradient,
    ViewGradient,
)  # fmt: skip
from schemas.picture import Box
from tests.stand_ins.focus_talk import DEFAULTS, GENERIC, drive, grid_tokens, holds, picture, refine, seen

WIDTH, HEIGHT, BASE = 1000, 800, 200.0
NAN = float("nan")


def blob(rows: int, columns: int, x: int, y: int, background: float = 0.0) -> torch.Tensor:
    cells = torch.full((rows, columns), background)
    cells[y : y + rows // 16, x : x + columns // 20] += 5.0
    return cells


def spikes(rows: int, columns: int, share: float, seed: int = 1) -> torch.Tensor:
    """Zeros with a few cells at random, as a mask over noise leaves them."""
    noise = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
    return torch.where(noise < share, noise / share, 0.0)


def test_one_compact_thing_is_worth_most_and_noise_little() -> None:
    noise = torch.rand(32, 40, generator=torch.Generator().manual_seed(1))
    assert confidence(blob(32, 40, 9, 11), WIDTH, HEIGHT, BASE) == pytest.approx(1)
    assert confidence(blob(32, 40, 9, 11, 3.0), WIDTH, HEIGHT, BASE) == pytest.approx(1)  # background does not matter
    assert confidence(noise, WIDTH, HEIGHT, BASE) < 0.1
    assert confidence(spikes(32, 40, 0.03), WIDTH, HEIGHT, BASE) < 0.2  # however concentrated its entropy is


def test_two_equal_things_are_worth_half() -> None:
    """Half of the mass in a window of 8 x 8 of 32 x 40 cells."""
    cells, area = torch.maximum(blob(32, 40, 2, 4), blob(32, 40, 30, 20)), 64 / 1280
    assert confidence(cells, WIDTH, HEIGHT, BASE) == pytest.approx((0.5 - area) / (1 - area))


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0, NAN, float("inf"), 1e-30])
def test_a_map_that_says_nothing_is_worth_nothing(value: float) -> None:
    assert confidence(torch.full((6, 9), value), 900, 600, 100) == 0
    assert confidence(0.3 * (1 + 1e-7 * torch.rand(8, 8)), 800, 800, 100) == 0


def test_a_window_over_everything_tells_nothing() -> None:
    assert confidence(blob(32, 40, 9, 11), 100, 80, 100) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-9, 0.3, 1e12]), st.floats(-3, 3))
def test_scale_and_background_change_nothing(seed: int, factor: float, background: float) -> None:
    cells = spikes(12, 15, 0.3, seed) + torch.rand(12, 15, generator=torch.Generator().manual_seed(seed)).double()
    worth = confidence(cells, WIDTH, HEIGHT, BASE)
    assert 0 <= worth <= 1
    assert confidence(factor * (cells + background), WIDTH, HEIGHT, BASE) == pytest.approx(worth, rel=1e-6)


def test_maps_count_by_their_worth_whatever_their_scale() -> None:
    true, noise = blob(32, 40, 9, 11), torch.rand(32, 40, generator=torch.Generator().manual_seed(1))
    mixture, worth = mixed([true, 1e6 * noise], WIDTH, HEIGHT, BASE)
    assert worth[0] == pytest.approx(1) and worth[1] < 0.1
    assert float(mixture.sum()) == pytest.approx(1) and int(mixture.argmax()) in (
        11 * 40 + 9,
        11 * 40 + 10,
        12 * 40 + 9,
        12 * 40 + 10,
    )
    assert float(mixture[11:13, 9:11].sum()) >= worth[0] / sum(worth)


def test_one_map_is_what_stands_out_of_it() -> None:
    mixture, _ = mixed([blob(32, 40, 9, 11, 2.0)], WIDTH, HEIGHT, BASE)
    assert torch.allclose(mixture, blob(32, 40, 9, 11).double() / 20)


def test_maps_of_different_rasters_meet_in_the_same_place() -> None:
    coarse, fine = torch.zeros(8, 10), torch.zeros(32, 40)
    coarse[2, 7], fine[8:12, 28:32] = 1, 3
    mixture, worth = mixed([coarse, fine], WIDTH, HEIGHT, BASE)
    assert mixture.shape == (32, 40) and torch.allclose(mixture, fine.double() / 48) and worth == pytest.approx((1, 1))


def test_holes_are_filled() -> None:
    cells = blob(32, 40, 9, 11)
    cells[11, 9], cells[0, :] = NAN, float("inf")
    mixture, _ = mixed([cells, blob(32, 40, 9, 11)], WIDTH, HEIGHT, BASE)
    assert mixture.isfinite().all() and divmod(int(mixture.argmax()), 40)[0] in (11, 12)


def test_nothing_mixed_is_nothing() -> None:
    mixture, worth = mixed([torch.ones(4, 4), torch.zeros(4, 4)], WIDTH, HEIGHT, BASE)
    assert not mixture.any() and worth == (0, 0)


def replies_for(tokens: object, weights: dict[type, torch.Tensor], pixels: torch.Tensor, frame: Box) -> object:
    def reply(request: object) -> object:
        if isinstance(request, ReadAttention):
            rows = [weights[ReadAttention] if text != GENERIC else torch.ones(144) for text in request.questions]
            return Attention(torch.stack(rows)[:, None])
        if isinstance(request, ReadGradient):
            return GradientAttention(weights[ReadGradient][None], 3, 0.5)
        side = weights[ReadPixelGradient].reshape(12, 12).repeat_interleave(8, 0).repeat_interleave(8, 1)
        return PixelGradients((ViewGradient(frame, pixels, torch.stack([side, torch.ones_like(side)]), 8),), (3, 4))

    return reply


@pytest.mark.parametrize("known", [True, False])
def test_one_round_of_requests_on_one_prefix(known: bool) -> None:
    thing, shown = (601.0, 201.0, 640.0, 240.0), picture(960, 480)
    tokens, frame = grid_tokens(shown, 12, 12), (0.0, 0.0, 960.0, 480.0)
    weights = seen(tokens.footprints, thing)
    noise = torch.rand(144, generator=torch.Generator().manual_seed(4))
    pixels = torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(5))
    looked = {ReadAttention: weights, ReadGradient: noise, ReadPixelGradient: weights}
    question = Question("q", weights[None] if known else None)
    talk = FOCUS["auto"](tokens, question, GENERIC, refine(base_window_px=100), DEFAULTS)
    focus, asked = drive(talk, replies_for(tokens, looked, pixels, frame))  # type: ignore[arg-type]
    assert asked == [
        ReadAttention(tokens, (GENERIC,) if known else ("q", GENERIC), 5),
        ReadGradient(tokens, "q", 5),
        ReadPixelGradient(tokens, ("q", GENERIC)),
    ]
    (box,) = focus.boxes_px
    assert holds(box, thing)
    assert "confidence rel_att " in focus.reason and "gradient of token 3, ahead by 0.5" in focus.reason


def test_auto_is_not_published() -> None:
    talk = FOCUS["auto"](grid_tokens(picture(900, 600), 12, 12), Question("q", None), GENERIC, refine(mode="official"), DEFAULTS)
    with pytest.raises(ValueError, match=r"official with 3 method\(s\) and 1 region\(s\), expected one of each"):
        next(talk)
