"""auto behind a gate: no further method is read once a map is as clear as the gate asks."""

from dataclasses import replace

import pytest
import torch

from ray_pipeline.methods.focus import Question, zoom_gate
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import Attention, GradientAttention, PixelGradients, ReadAttention, ReadGradient, ViewGradient
from schemas.picture import Box
from tests.stand_ins.focus_talk import DEFAULTS, GENERIC, drive, grid_tokens, holds, picture, refine, seen

THING, FRAME = (601.0, 201.0, 640.0, 240.0), (0.0, 0.0, 960.0, 480.0)
SHOWN = picture(960, 480)
TOKENS = grid_tokens(SHOWN, 12, 12)
CLEAR = seen(TOKENS.footprints, THING)
NOISE = torch.rand(144, generator=torch.Generator().manual_seed(4))


def asked_by(
    attention: torch.Tensor, gradient: torch.Tensor, gate: float | None, default: float = 1.0
) -> tuple[str, list[str], Box]:
    """The reason, the kinds of requests, the crop."""

    def reply(request: object) -> object:
        if isinstance(request, ReadAttention):
            return Attention(
                torch.stack([torch.ones(144) if text == GENERIC else attention for text in request.questions])[:, None]
            )
        if isinstance(request, ReadGradient):
            return GradientAttention(gradient[None], 3, 0.5)
        side = CLEAR.reshape(12, 12).repeat_interleave(8, 0).repeat_interleave(8, 1)
        pixels = torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(5))
        return PixelGradients((ViewGradient(FRAME, pixels, torch.stack([side, torch.ones_like(side)]), 8),), (3, 4))

    defaults = replace(DEFAULTS, gate=default)
    talk = FOCUS["auto"](TOKENS, Question("q", attention[None]), GENERIC, refine(base_window_px=100, gate=gate), defaults)
    focus, asked = drive(talk, reply)  # type: ignore[arg-type]
    return focus.reason, [type(one).__name__ for one in asked], focus.boxes_px[0]


ALL = ["ReadAttention", "ReadGradient", "ReadPixelGradient"]


@pytest.mark.parametrize(
    ("attention", "gradient", "gate", "default", "requests"),
    [
        (CLEAR, NOISE, 0.9, 1.0, ALL[:1]),
        (CLEAR, NOISE, None, 0.9, ALL[:1]),  # the family's
        (NOISE, CLEAR, 0.9, 1.0, ALL[:2]),
        (NOISE, NOISE, 0.9, 1.0, ALL),
        (CLEAR, CLEAR, 1.0, 0.5, ALL),  # 1 reads all, however clear
    ],
)
def test_methods_are_read_until_one_is_clear(
    attention: torch.Tensor, gradient: torch.Tensor, gate: float | None, default: float, requests: list[str]
) -> None:
    reason, asked, box = asked_by(attention, gradient, gate, default)
    assert asked == requests and holds(box, THING)
    assert reason.count("rel_att") == 1 and ("grad_att" in reason) == (len(requests) > 1)
    assert ("rel_att alone, confidence 1.00" in reason) == (len(requests) == 1)


@pytest.mark.parametrize(("gate", "default", "used"), [(None, 0.7, 0.7), (0.2, 0.7, 0.2), (0.0, 1.0, 0.0), (1.0, 0.5, 1.0)])
def test_the_gate_is_the_settings_else_the_familys(gate: float | None, default: float, used: float) -> None:
    assert zoom_gate(refine(gate=gate), replace(DEFAULTS, gate=default)) == used


def test_one_method_alone_has_no_stages() -> None:
    talk = FOCUS["rel_att"](TOKENS, Question("q", CLEAR[None]), GENERIC, refine(base_window_px=100, gate=0.1), DEFAULTS)
    focus, asked = drive(talk, lambda request: Attention(torch.ones(1, 1, 144)))
    assert len(asked) == 1 and "alone" not in focus.reason
