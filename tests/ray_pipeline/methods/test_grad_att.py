"""grad-att: one question, heads averaged after the product, blocks and defects as in rel-att."""

import pytest
import torch

from ray_pipeline.methods.focus import Focus, Question
from ray_pipeline.methods.grad_att import grad_att_map
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import Attention, GradientAttention, ReadGradient, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Box
from tests.stand_ins.focus_talk import (
    DEFAULTS,
    GENERIC,
    PLANTED,
    SHOWN,
    close_around,
    drive,
    grid_tokens,
    picture,
    refine,
    seen,
    shown_tokens,
)


def focus_on(tokens: VisualTokens, weights_HT: torch.Tensor, settings: RefineSettings = RefineSettings()) -> Focus:
    talk = FOCUS["grad_att"](tokens, Question("q", torch.ones(2, 3)), GENERIC, settings, DEFAULTS)
    focus, asked = drive(talk, lambda _: GradientAttention(weights_HT, 17, 0.25))
    assert asked == [ReadGradient(tokens, "q", 5)] and isinstance(focus, Focus)
    return focus


def test_the_map_is_the_mean_over_heads() -> None:
    tokens = grid_tokens(picture(600, 400), 6, 8)
    weights_HT = torch.rand(3, 48, generator=torch.Generator().manual_seed(1))
    focus = focus_on(tokens, weights_HT)
    plain = weights_HT.mean(0).reshape(6, 8).double()
    assert focus.map_YX is not None
    assert torch.allclose(focus.map_YX, plain.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert focus.reason.endswith("gradient of token 17, ahead by 0.25")
    official = focus_on(tokens, weights_HT, refine(mode="official"))
    assert official.map_YX is not None and torch.allclose(official.map_YX, plain)


@pytest.mark.parametrize(("width", "height", "thing"), PLANTED)
@pytest.mark.parametrize("shown", SHOWN)
def test_planted_attention_gets_the_crop(width: int, height: int, thing: Box, shown: str) -> None:
    tokens = shown_tokens(width, height, shown)
    (box,) = focus_on(tokens, seen(tokens.footprints, thing, 0.0)[None]).boxes_px
    assert close_around(box, thing, max(width, height))


def test_an_answer_that_depends_on_no_place_gives_no_crop() -> None:
    tokens = grid_tokens(picture(600, 400), 6, 8)
    focus = focus_on(tokens, torch.zeros(2, 48))
    assert focus.boxes_px == () and focus.reason.startswith("no region stands out")


def test_cells_without_tokens_are_no_numbers() -> None:
    tokens = grid_tokens(picture(200, 100), 4, 4, (50.0, 0.0, 150.0, 100.0))
    cells = grad_att_map(torch.zeros(16), tokens.footprints, (0, 0, 200, 100))
    assert cells[:, :4].isnan().all() and (cells[:, 4:-4] == 0).all()


def test_another_reply_is_refused() -> None:
    tokens = grid_tokens(picture(600, 400), 6, 8)
    with pytest.raises(TypeError, match="asked for GradientAttention, got Attention"):
        drive(
            FOCUS["grad_att"](tokens, Question("q", None), GENERIC, refine(), DEFAULTS), lambda _: Attention(torch.ones(1, 1, 48))
        )
