"""What is published about each family's pixels and boxes, written down apart from the product: the contract tests' yardstick.

Boxes are pixels of the upright picture. A frame is what the family's numbers are relative to: the picture, or a crop of it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from ray_pipeline.models.contract import Encode, VisualTokens
from ray_pipeline.models.decoder_family import DecoderFamily, View
from ray_pipeline.models.families import load_family
from ray_pipeline.models.instructblip import InstructBlip
from ray_pipeline.models.weights import EMBEDDED
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture
from tests.stand_ins.made_pictures import whole
from tests.stand_ins.tiny_models import TINY

# A box and its frame, whether that is a zoomed crop -> the answer's text, and how coarse its numbers are in pixels.
Write = Callable[[Box, Box, bool], tuple[str, float]]
TOWER_OUTPUTS = ("self_attn.out_proj", "attn.proj", "attention.projection_layer", "self_attn.projection")
QWEN_ZOOM_PX = 448


@dataclass(frozen=True)
class Facts:
    """`block_px`: what one visual token sees of the tower's input; `reach_px`: how far beyond that its stem looks.

    `tiled`: a picture is shown in several tiles. `zoom_frame`: boxes are relative to the zoomed crop once there is one.
    `unseen`: share of a picture's area that the family never sees.
    """

    block_px: int
    reach_px: int = 0
    tiled: bool = False
    write: Write | None = None
    zoom_frame: bool = True
    unseen: float = 0.0


def llava_box(box: Box, frame: Box, zoomed: bool) -> tuple[str, float]:
    """Fractions of the padded square, two decimals; odd paddings put the smaller half first."""
    x0, y0, x1, y1 = frame
    side = max(x1 - x0, y1 - y0)
    left, top = x0 - (side - (x1 - x0)) // 2, y0 - (side - (y1 - y0)) // 2
    values = [(edge - start) / side for edge, start in zip(box, (left, top) * 2, strict=True)]
    return f"the sign [{', '.join(f'{value:.2f}' for value in values)}]", side * 0.005


def qwen2_5_box(box: Box, frame: Box, zoomed: bool) -> tuple[str, float]:
    """Whole pixels of the resized view."""
    x0, y0, x1, y1 = frame
    grow = max(1.0, QWEN_ZOOM_PX / math.sqrt((x1 - x0) * (y1 - y0))) if zoomed else 1.0
    tall, wide = smart_resize((y1 - y0) * grow, (x1 - x0) * grow, 28, 56 * 56, 28 * 28 * 40)
    return _json_box(_relative(box, frame, wide, tall)), max((x1 - x0) / wide, (y1 - y0) / tall) / 2


def qwen3_box(box: Box, frame: Box, zoomed: bool) -> tuple[str, float]:
    """Thousandths of the view's sides."""
    return _json_box(_relative(box, frame, 1000, 1000)), _half_thousandth(frame)


def internvl_box(box: Box, frame: Box, zoomed: bool) -> tuple[str, float]:
    """Thousandths of the picture's sides."""
    return f"<ref>the sign</ref><box>[{_relative(box, frame, 1000, 1000)}]</box>", _half_thousandth(frame)


def location_box(box: Box, frame: Box, zoomed: bool) -> tuple[str, float]:
    """One of 1000 bins a side, read as the bin's middle."""
    x0, y0, x1, y1 = frame
    shares = [(edge - start) / side for edge, start, side in zip(box, (x0, y0) * 2, (x1 - x0, y1 - y0) * 2, strict=True)]
    return "RED<at>" + "".join(f"<loc{int(share * 1000):03d}>" for share in shares), _half_thousandth(frame)


def _relative(box: Box, frame: Box, wide: float, tall: float) -> list[int]:
    x0, y0, x1, y1 = frame
    scales = (wide / (x1 - x0), tall / (y1 - y0)) * 2
    return [round((edge - start) * scale) for edge, start, scale in zip(box, (x0, y0) * 2, scales, strict=True)]


def _json_box(values: list[int]) -> str:
    return f'```json\n[\n\t{{"bbox_2d": {values}, "label": "the sign"}}\n]\n```'


def _half_thousandth(frame: Box) -> float:
    return max(frame[2] - frame[0], frame[3] - frame[1]) / 2000


MARGIN = 1 - (84 / 90) ** 2 + (14 / 90) ** 2  # 6 of 90 px belong to no patch, and the first patch is dropped
FACTS = {
    "llava": Facts(14, write=llava_box),
    "llava_even": Facts(14, write=llava_box),
    "llava_next": Facts(14, tiled=True),
    "qwen2_5_vl": Facts(28, write=qwen2_5_box),
    "qwen3_vl": Facts(32, write=qwen3_box),
    "internvl": Facts(28, tiled=True, write=internvl_box, zoom_frame=False),
    "instructblip": Facts(14),
    "mc_llava": Facts(14, unseen=MARGIN),
    "mc_llava_native": Facts(14, unseen=MARGIN),
    "embedded": Facts(8, reach_px=16, write=location_box),
}


def saved(name: str, folder: Path) -> Path:
    """A folder of that family: the shipped one, or a tiny one written to `folder`."""
    return EMBEDDED if name == "embedded" else TINY[name](folder, 0)


class LoadedFamily:
    """A family on the CPU, from a folder, with what is known about it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.facts, self.folder = name, FACTS[name], saved(name, folder)
        self.family = self.again()

    def again(self, dtype: str = "float32", fit: str | None = None, **prompt: str) -> DecoderFamily:
        """The same weights under other settings."""
        family = load_family(
            ModelSettings.model_validate({"name": str(self.folder), "device": "cpu", "dtype": dtype}),
            ViewSettings.model_validate({"fit": fit}),
            PromptSettings.model_validate(prompt),
        )
        assert isinstance(family, DecoderFamily)
        return family

    def shown(self, picture: Picture, zoom: Box | None = None) -> VisualTokens:
        return shown(self.family, picture, zoom)


def shown(family: DecoderFamily, picture: Picture, zoom: Box | None = None) -> VisualTokens:
    """The whole picture's tokens, and those of a zoomed view behind them."""
    (tokens,) = family.encode([Encode(picture, (whole(picture),))])
    return tokens if zoom is None else family.encode([Encode(picture, (zoom,), tokens)])[0]


def network_of(family: DecoderFamily) -> Any:
    """Everything a family has loaded."""
    return getattr(family, "network", None) or getattr(family, "model", None)


@contextmanager
def patches_alone(family: DecoderFamily) -> Iterator[None]:
    """Patches do not see each other in the tower meanwhile: what attention would add is zero."""
    modules: list[Any] = [module for name, module in network_of(family).named_modules() if name.endswith(TOWER_OUTPUTS)]
    if not modules:
        raise ValueError(f"no attention in the tower of {type(family).__name__}, expected modules named like {TOWER_OUTPUTS}")
    kept = [(parameter, parameter.detach().clone()) for module in modules for parameter in module.parameters()]
    try:
        for parameter, _ in kept:
            parameter.data.zero_()
        yield
    finally:
        for parameter, value in kept:
            parameter.data.copy_(value)


def seen(family: DecoderFamily, request: Encode, first_number: int = 0) -> tuple[list[View], Tensor]:
    """The request's views, and all that the model learns of each visual token, (T, features), in order.

    Of a Q-Former's family that is what the tower says of each patch.
    """
    views = family.views(request, first_number)
    with torch.no_grad():
        parts = [torch.cat([one.embeds_QW, *one.deepstack], -1) for one in family.embed(views)]
    first = int(isinstance(family, InstructBlip))  # the class token has no place
    return views, torch.cat([part[first:] for part in parts])
