"""rel-att: published arithmetic, requests as few as possible, planted attention found, published defects reproduced."""

import math

import pytest
import torch

from ray_pipeline.geometry.footprints import Footprints, grid_footprints
from ray_pipeline.methods.focus import Focus, Question
from ray_pipeline.methods.rel_att import published_rel_att_map, rel_att_map
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import Attention, FamilyDefaults, GradientAttention, ReadAttention, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Box
from tests.stand_ins.focus_talk import (
    DEFAULTS,
    GENERIC,
    PLANTED,
    SHOWN,
    close_around,
    crops_tokens,
    drive,
    grid_tokens,
    holds,
    picture,
    refine,
    seen,
    shown_tokens,
    tokens_of,
)

Q, G = torch.tensor([2.0, 4, 1, 8]), torch.tensor([1.0, 4, 2, 2])
RATIO = torch.tensor([[2.0, 1], [0.5, 4]]).double()


def focus_on(tokens: VisualTokens, thing: Box, settings: RefineSettings = RefineSettings()) -> Focus:
    """rel-att where the question's heads look at a thing and the general prompt looks everywhere alike."""
    weights = seen(tokens.footprints, thing)
    even = torch.ones_like(weights)
    reply = Attention(torch.stack([torch.stack([0.5 * weights, 1.5 * weights]), torch.stack([even, even])]) * 1e-3)
    found, _ = drive(FOCUS["rel_att"](tokens, Question("q", None), GENERIC, settings, DEFAULTS), lambda _: reply)
    assert isinstance(found, Focus)
    return found


def test_published_arithmetic() -> None:
    tokens = grid_tokens(picture(100, 60), 2, 2)
    assert torch.equal(published_rel_att_map(Q, G, tokens), RATIO)
    fine = rel_att_map(Q, G, tokens.footprints, (0, 0, 100, 60))
    assert torch.allclose(fine, RATIO.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_what_a_general_prompt_overlooks_is_floored_or_as_published_infinite() -> None:
    tokens = grid_tokens(picture(100, 60), 2, 2)
    nowhere = torch.tensor([1.0, 0.0, 2.0, 0.0])
    published = published_rel_att_map(torch.tensor([2.0, 4.0, 1.0, 0.0]), nowhere, tokens)
    assert published[0].tolist() == [2.0, math.inf] and published[1, 0] == 0.5 and published[1, 1].isnan()
    mended = rel_att_map(Q, nowhere, tokens.footprints, (0, 0, 100, 60))
    assert mended[0, -1] == pytest.approx(4 / (0.1 * 0.75)) and mended.isfinite().all()


def test_overlapping_views_cancel() -> None:
    boxes = [(0.0, 0.0, 120.0, 80.0), (0.0, 0.0, 80.0, 80.0), (40.0, 0.0, 120.0, 80.0)]
    tokens = crops_tokens(picture(120, 80), 4, boxes)
    weights = torch.rand(48, generator=torch.Generator().manual_seed(1)) + 0.5
    assert torch.allclose(rel_att_map(3 * weights, weights, tokens.footprints, boxes[0]), torch.tensor(3.0).double())


def test_cells_without_tokens_are_no_numbers() -> None:
    prints = grid_footprints((50.0, 0.0, 150.0, 100.0), 4, 4, 0)
    cells = rel_att_map(torch.ones(16), torch.ones(16), prints, (0, 0, 200, 100))
    assert cells[:, :4].isnan().all() and cells[:, -4:].isnan().all() and (cells[:, 4:-4] == 1).all()


@pytest.mark.parametrize("known", [True, False])
def test_an_answered_question_is_not_read_again(known: bool) -> None:
    tokens = grid_tokens(picture(300, 200), 6, 6)
    weights_HT = torch.rand(2, 36, generator=torch.Generator().manual_seed(2)) + 0.1
    question = Question("where?", weights_HT if known else None)
    rows = torch.ones(1, 2, 36) if known else torch.stack([weights_HT, torch.ones(2, 36)])
    focus, asked = drive(FOCUS["rel_att"](tokens, question, GENERIC, RefineSettings(), DEFAULTS), lambda _: Attention(rows))
    assert asked == [ReadAttention(tokens, (GENERIC,) if known else ("where?", GENERIC), 5)]
    plain = weights_HT.mean(0).reshape(6, 6).double()
    assert torch.allclose(focus.map_YX, plain.repeat_interleave(2, 0).repeat_interleave(2, 1))


def centre_cropped(width: int, height: int, cells: int) -> Footprints:
    side = min(width, height)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return grid_footprints((x0, y0, x0 + side, y0 + side), cells, cells, 0)


@pytest.mark.parametrize(("width", "height", "thing"), PLANTED)
@pytest.mark.parametrize("shown", SHOWN)
def test_planted_attention_gets_the_crop(width: int, height: int, thing: Box, shown: str) -> None:
    (box,) = focus_on(shown_tokens(width, height, shown), thing).boxes_px
    assert close_around(box, thing, max(width, height))


def test_ends_that_a_centre_crop_hides_do_not_stand_out() -> None:
    tokens = tokens_of(picture(1000, 400), centre_cropped(1000, 400, 24))
    even = focus_on(tokens, (0, 0, 1000, 400))
    assert even.boxes_px == () and "no region stands out" in even.reason
    (box,) = focus_on(tokens, (310, 150, 350, 180)).boxes_px  # beside the hidden left end, which ends at 300
    assert holds(box, (310, 150, 350, 180)) and (box[0] + box[2]) / 2 == pytest.approx(330, abs=9)


def test_published_map_of_a_centre_crop_is_stretched_to_the_ends() -> None:
    """Section 5: what lies 130 px right of the middle counts as 130 * 1000 / 400 px right of it, give or take half a window."""
    prints, thing = centre_cropped(1000, 400, 24), (620.0, 180.0, 640.0, 200.0)
    tokens = VisualTokens(picture(1000, 400), ((0, 0, 1000, 400),), prints, None, (24, 24))
    (mended,) = focus_on(tokens, thing).boxes_px
    (published,) = focus_on(tokens, thing, refine(mode="official")).boxes_px
    assert (mended[0] + mended[2]) / 2 == pytest.approx(630, abs=10)
    assert not holds(published, thing) and (published[0] + published[2]) / 2 == pytest.approx(500 + 130 * 2.5, abs=126 / 2)


def test_published_selection_lets_an_unseen_cell_win() -> None:
    tokens = grid_tokens(picture(600, 600), 6, 6)
    question, generic = torch.ones(36), torch.ones(36)
    question[8:10], generic[35] = 10, 0
    reply = Attention(torch.stack([question, generic])[:, None])
    boxes = {}
    for mode in ("official", "corrected"):
        talk = FOCUS["rel_att"](tokens, Question("q", None), GENERIC, refine(mode=mode, base_window_px=200), DEFAULTS)
        focus, _ = drive(talk, lambda _: reply)
        boxes[mode] = focus.boxes_px[0]
    assert boxes == {"official": (400, 400, 600, 600), "corrected": (200, 50, 400, 250)}


def test_a_picture_no_larger_than_the_window_is_not_read() -> None:
    tokens = grid_tokens(picture(120, 90), 6, 6)
    settings = refine(base_window_px=120)
    even = Attention(torch.ones(2, 1, 36))
    focus, asked = drive(FOCUS["rel_att"](tokens, Question("q", None), GENERIC, settings, DEFAULTS), lambda _: even)
    assert asked == [] and focus == Focus((), "the picture, 120 x 90 px, is no larger than the smallest window, 120 px", None)
    assert focus_on(tokens, (0, 0, 20, 20), refine(base_window_px=120, mode="official")).boxes_px == ((0, 0, 120, 90),)


def torn() -> VisualTokens:
    """Tokens that are fewer than their grid has cells."""
    return tokens_of(picture(300, 200), grid_footprints((0, 0, 300, 200), 6, 6, 0), (6, 7))


@pytest.mark.parametrize(
    ("tokens", "settings", "defaults", "message"),
    [
        (grid_tokens(picture(300, 200), 6, 6), refine(), FamilyDefaults(96, None, None, 0.2, 1.0), "refine.layer is null"),
        (crops_tokens(picture(300, 200), 6, [(0, 0, 300, 200)]), refine(mode="official"), DEFAULTS, "one plain grid"),
        (torn(), refine(mode="official"), DEFAULTS, "36 tokens of the first view for a grid of 6 x 7"),
        (grid_tokens(picture(300, 200), 6, 6), refine(mode="official", regions=2), DEFAULTS, "2 region(s), expected one of each"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    tokens: VisualTokens, settings: RefineSettings, defaults: FamilyDefaults, message: str
) -> None:
    rows = torch.ones(2, 1, len(tokens.footprints))
    with pytest.raises(ValueError) as refused:
        drive(FOCUS["rel_att"](tokens, Question("q", None), GENERIC, settings, defaults), lambda _: Attention(rows))
    assert message in str(refused.value)


def test_another_reply_is_refused() -> None:
    talk = FOCUS["rel_att"](grid_tokens(picture(300, 200), 6, 6), Question("q", None), GENERIC, RefineSettings(), DEFAULTS)
    with pytest.raises(TypeError, match="asked for Attention, got GradientAttention"):
        drive(talk, lambda _: GradientAttention(torch.ones(1, 36), 0, 1.0))
