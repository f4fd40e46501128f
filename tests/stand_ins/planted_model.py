"""A family that looks at magenta and answers with the box of what it sees of it, view by view.

All it knows went through views, footprints and box frames, so a mistake in any of them moves its boxes.
"""

import math
import os
import signal
from collections.abc import Sequence

import numpy as np
import torch

from ray_pipeline.geometry.footprints import join, view_footprints
from ray_pipeline.models.contract import Attention, Encode, FamilyDefaults, Generate, Generation, ReadAttention, VisualTokens
from ray_pipeline.models.mc_llava import view_pixels
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box

INPUT_PX, SIDE = 96, 12


class PlantedModel:
    """Implements `contract.Family`. Questions steer it: "raise", "out of memory" and "kill" do what they say."""

    defaults = FamilyDefaults(INPUT_PX, 0, None, 0.2, 1.0)

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        return [self._encode(request) for request in requests]

    def _encode(self, request: Encode) -> VisualTokens:
        behind = request.behind
        known = behind.boxes_px if behind else ()
        views = [view_pixels(request.picture, box, INPUT_PX) for box in request.boxes_px]
        marks = [magenta(view) for view in views]
        weights = torch.cat([torch.from_numpy(mark.reshape(SIDE, 8, SIDE, 8).mean((1, 3)).ravel()) for mark in marks])
        prints = [view_footprints(box, SIDE, SIDE, 1.0, 0, len(known) + k, "patch") for k, box in enumerate(request.boxes_px)]
        state = (torch.cat([behind.state[0], weights]) if behind else weights, marks[-1])
        footprints = join(([behind.footprints] if behind else []) + prints)
        return VisualTokens(request.picture, known + request.boxes_px, footprints, state)

    def read_attention(self, requests: Sequence[ReadAttention]) -> list[Attention]:
        return [Attention(torch.stack([self._row(r.tokens, q)[None] for q in r.questions])) for r in requests]

    def _row(self, tokens: VisualTokens, question: str) -> torch.Tensor:
        weights = tokens.state[0].float()
        looked = torch.full_like(weights, 1.0) if question.startswith("Write") else weights + 1e-3
        return 0.5 * looked / looked.sum()

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        questions = " ".join(request.question for request in requests)
        if "kill" in questions:
            os.kill(os.getpid(), signal.SIGKILL)
        if "out of memory" in questions and len(requests) > 1:
            raise torch.OutOfMemoryError("planted")
        if "raise" in questions:
            raise RuntimeError("planted failure")
        return [self._generate(request) for request in requests]

    def _generate(self, request: Generate) -> Generation:
        box = seen_box(request.tokens.state[1], request.tokens.boxes_px[-1])
        text = "found" if box else "nothing"
        zoomed = len(request.tokens.boxes_px) > 1
        attention = self._row(request.tokens, request.question)[None]
        return Generation(text, text, math.log(0.9 if zoomed else 0.5), box, -0.1 if box else None, 2, True, attention)


def magenta(view_YX3: np.ndarray) -> np.ndarray:
    """Share of magenta per pixel, 0..1."""
    r, g, b = (view_YX3[..., k].astype(float) for k in range(3))
    return np.clip((np.minimum(r, b) - g - 60) / 140, 0, 1)


def seen_box(mark_YX: np.ndarray, view_px: Box) -> Box | None:
    """Bounding box of the marked pixels at half strength, to a fraction of a pixel, in the picture's frame."""
    columns, rows = mark_YX.max(0), mark_YX.max(1)
    if columns.max() < 0.3:
        return None
    (left, right), (top, bottom) = _edges(columns), _edges(rows)
    w, h = (view_px[2] - view_px[0]) / INPUT_PX, (view_px[3] - view_px[1]) / INPUT_PX
    return view_px[0] + left * w, view_px[1] + top * h, view_px[0] + right * w, view_px[1] + bottom * h


def _edges(profile: np.ndarray) -> tuple[float, float]:
    inside = np.flatnonzero(profile >= 0.5 * profile.max())
    return float(inside[0]), float(inside[-1] + 1)


def load_planted(model: ModelSettings, views: ViewSettings, prompt: PromptSettings) -> PlantedModel:
    """Takes the place of `load_family`."""
    return PlantedModel()
