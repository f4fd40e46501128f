"""A family that looks at magenta and answers with the box of what it sees of it, view by view.

All it knows went through views, footprints and box frames, so a mistake in any of them moves its boxes.
"""

import math
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from ray_pipeline.geometry.boxes import clip
from ray_pipeline.geometry.footprints import join, view_footprints
from ray_pipeline.models.contract import (
    Attention,
    Encode,
    FamilyDefaults,
    Generate,
    Generation,
    GradientAttention,
    PixelGradients,
    ReadAttention,
    ReadGradient,
    ReadLines,
    ReadPixelGradient,
    Sample,
    Samples,
    TextLines,
    ViewGradient,
    VisualTokens,
)  # fmt: skip
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Box, Picture

INPUT_PX, SIDE = 96, 12
PATCH_PX = INPUT_PX // SIDE


@dataclass(frozen=True)
class PlantedState:
    """Magenta per token of all views, every view's pixels and marks, and how many views were shown before any zoom."""

    weights_T: torch.Tensor
    views: tuple[np.ndarray, ...]
    marks: tuple[np.ndarray, ...]
    shown: int
    until_layer: int | None


class PlantedModel:
    """Implements `contract.Family`. Questions steer it: "raise", "out of memory", "kill",
    "crash" and "hang" do what they say.

    It attends to magenta, its answers depend on nothing else, and its candidates are worse the farther they are from it.
    """

    defaults = FamilyDefaults(INPUT_PX, 0, None, 0.2, 1.0)

    def encode(self, requests: Sequence[Encode]) -> list[VisualTokens]:
        return [self._encode(request) for request in requests]

    def _encode(self, request: Encode) -> VisualTokens:
        behind = request.behind
        known = behind.boxes_px if behind else ()
        views = tuple(view_pixels(request.picture, box, INPUT_PX) for box in request.boxes_px)
        marks = tuple(magenta(view) for view in views)
        weights = torch.cat([patch_means(mark) for mark in marks])
        prints = [view_footprints(box, SIDE, SIDE, 1.0, 0, len(known) + k, "patch") for k, box in enumerate(request.boxes_px)]
        footprints = join(([behind.footprints] if behind else []) + prints)
        old: PlantedState | None = behind.state if behind else None
        if old:
            weights, views, marks = torch.cat([old.weights_T, weights]), old.views + views, old.marks + marks
        state = PlantedState(weights, views, marks, old.shown if old else len(views), request.until_layer)
        grid = (SIDE, SIDE) if len(views) == 1 else None
        return VisualTokens(request.picture, known + request.boxes_px, footprints, state, grid)

    def read_attention(self, requests: Sequence[ReadAttention]) -> list[Attention]:
        return [Attention(torch.stack([row(r.tokens, q)[None] for q in r.questions])) for r in requests]

    def read_gradient(self, requests: Sequence[ReadGradient]) -> list[GradientAttention]:
        return [GradientAttention(whole(r.tokens).weights_T[None].float(), 7, 1.5) for r in requests]

    def read_pixel_gradient(self, requests: Sequence[ReadPixelGradient]) -> list[PixelGradients]:
        return [self._pixel_gradient(request) for request in requests]

    def _pixel_gradient(self, request: ReadPixelGradient) -> PixelGradients:
        state, frames = whole(request.tokens), []
        for view, mark, box in zip(state.views, state.marks, request.tokens.boxes_px, strict=True):
            plain, marked = torch.ones(INPUT_PX, INPUT_PX), torch.from_numpy(mark).float() + 1e-3
            norms = torch.stack([plain if is_generic(question) else marked for question in request.questions])
            frames.append(ViewGradient(box, torch.from_numpy(view / np.float32(255)), norms, PATCH_PX))
        return PixelGradients(tuple(frames), (7,) * len(request.questions))

    def generate(self, requests: Sequence[Generate]) -> list[Generation]:
        questions = " ".join(request.question for request in requests)
        if "kill" in questions:
            os.kill(os.getpid(), signal.SIGKILL)
        if "crash" in questions:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in questions:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # nothing but its killing ends it
            signal.pause()
        if "out of memory" in questions and len(requests) > 1:
            raise torch.OutOfMemoryError("planted")
        if "raise" in questions:
            raise RuntimeError("planted failure")
        return [replace(answered(r.tokens), attention_HT=row(r.tokens, r.question)[None]) for r in requests]

    def sample(self, requests: Sequence[Sample]) -> list[Samples]:
        return [Samples(tuple(candidate(request, k) for k in range(request.sampling.count))) for request in requests]

    def read_lines(self, requests: Sequence[ReadLines]) -> list[TextLines]:
        raise ValueError("magenta is no text; expected questions")


def whole(tokens: VisualTokens) -> PlantedState:
    """The state of a prefix through the whole decoder, without which there is no answer to differentiate."""
    state: PlantedState = tokens.state
    if state.until_layer is not None:
        raise ValueError(f"a prefix up to layer {state.until_layer} has no answers")
    return state


def is_generic(question: str) -> bool:
    return question.startswith("Write")


def row(tokens: VisualTokens, question: str) -> torch.Tensor:
    """Attention of the last prompt position, (T,). What finds nothing to look at stays with the text, as a softmax does."""
    weights = tokens.state.weights_T.float()
    looked = torch.full_like(weights, 1.0) if is_generic(question) else weights + 1e-3
    return looked / (looked.sum() + 0.05 * len(looked))


def answered(tokens: VisualTokens) -> Generation:
    """The box of what the last view shows of the mark; of several zoomed views, of what the last one with a mark shows."""
    state = whole(tokens)
    views = list(zip(state.marks, tokens.boxes_px, strict=True))
    looked = views[state.shown :] or views[-1:]
    boxes = [box for mark, view in looked if (box := seen_box(mark, view))]
    box, text = (boxes[-1], "found") if boxes else (None, "nothing")
    zoomed = len(views) > 1
    return Generation(text, text, math.log(0.9 if zoomed else 0.5), box, -0.1 if box else None, 2, True)


def candidate(request: Sample, k: int) -> Generation:
    """The planted answer with its box moved by up to a third of its sides; number 0 is exact where greedy comes first.

    The farther a box is moved, the less likely and the less certain it is, and the less its rows look at the mark.
    """
    exact, sampling = answered(request.tokens), request.sampling
    if exact.box_px is None:
        return exact
    shift = np.zeros(4)
    if k or not sampling.greedy_first:
        shift = np.random.default_rng((sampling.seed, k)).uniform(-1, 1, 4) / 3
    off = float(np.abs(shift).mean())
    x0, y0, x1, y1 = exact.box_px
    moved = torch.from_numpy(np.array(exact.box_px) + shift * [x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    box: Box = tuple(clip(moved, request.tokens.picture.width, request.tokens.picture.height).tolist())
    rows = (1 - off) * row(request.tokens, request.question) + off * row(request.tokens, "Write")
    weights = rows.expand(4, len(request.layers), 1, -1) if request.layers else None
    text = replace(exact, raw=f"{exact.text} {box}", text_logprob=exact.text_logprob - off, box_px=box)
    return replace(text, box_logprob=-0.1 - off, box_entropy=0.1 + off, weights_CLHT=weights)


def view_pixels(picture: Picture, box: Box, side_px: int) -> np.ndarray:
    """The whole pixels under a box, as a square."""
    x0, y0, x1, y1 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    cut = Image.fromarray(picture.pixels_YX3[max(0, y0) : max(y0 + 1, y1), max(0, x0) : max(x0 + 1, x1)])
    return np.array(cut.resize((side_px, side_px), Image.Resampling.BICUBIC))


def patch_means(mark_YX: np.ndarray) -> torch.Tensor:
    """Mean mark of each patch, (T,)."""
    return torch.from_numpy(mark_YX.reshape(SIDE, PATCH_PX, SIDE, PATCH_PX).mean((1, 3)).ravel())


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
