"""Samples -> tensors: views, dense targets, and question turns packed behind one shared prefix.

Shapes: B samples, V views a sample, P prefix length, S sequence, R answer rows a sample (padded), T patches a view.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ray_pipeline.training.samples import Sample, Turn
from ray_pipeline.training.views import COLOUR_CLASS, IGNORE, KIND_CLASS, PATCHES, LabelledView

NO_TARGET, THING_TARGET, CHARACTER_TARGET = 0, 1, 2
TOKENS_PER_VIEW = PATCHES * PATCHES


@dataclass(frozen=True)
class DenseTargets:
    """Per patch, (N, T) or (N, T, 2): the classes of `views.LabelledView`, N = B x V in sample-major order."""

    character: Tensor
    index: Tensor
    colour: Tensor
    kind: Tensor
    boxes: Tensor  # (N, T, 8): thing box, line box, 0..1 of the view, NaN where there is none
    thing_label: Tensor  # (N, T)
    character_label: Tensor  # (N, T, 2)


@dataclass(frozen=True)
class Rows:
    """Where the decoder is supervised: (B, R) query positions in the sequence and what each must predict and look at."""

    position: Tensor
    target: Tensor  # token id, IGNORE in padding
    location: Tensor  # 0..1, NaN where the target is no location
    weight: Tensor
    look_at: Tensor  # NO_TARGET, THING_TARGET or CHARACTER_TARGET
    look_label: Tensor
    first: Tensor  # True for the row of a turn's last prompt token
    thing: Tensor  # label of the thing the turn asks about, 0 = none
    named_colour: Tensor  # class of the colour the question's words name, 0 = none
    named_kind: Tensor


@dataclass(frozen=True)
class Batch:
    """One training batch; `turn_ids` (B, S - P) are the packed turns' tokens, `mask` (B, 1, S, S) True = may attend."""

    pixels: Tensor  # (B * V, 3, R, R), -1..1
    coordinates: Tensor  # (B * V, 4)
    views: int
    zoomed: bool
    dense: DenseTargets
    turn_ids: Tensor
    position_ids: Tensor
    mask: Tensor
    rows: Rows

    @property
    def prefix(self) -> int:
        return 1 + self.views * TOKENS_PER_VIEW + self.zoomed


def view_tensors(views: list[LabelledView]) -> tuple[Tensor, Tensor, DenseTargets]:
    """Pixels in -1..1, coordinates and dense targets of a flat list of views."""
    pixels = torch.from_numpy(np.stack([view.pixels_YX3 for view in views])).permute(0, 3, 1, 2).float() / 127.5 - 1
    boxes = np.stack([np.concatenate([view.thing_box_PP4, view.line_box_PP4], -1) for view in views])

    def stacked(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(np.stack([getattr(view, name) for view in views])).reshape(len(views), TOKENS_PER_VIEW, *shape)

    dense = DenseTargets(
        stacked("character_P2P", 2), stacked("index_P2P", 2), stacked("colour_PP"), stacked("kind_PP"),
        torch.from_numpy(boxes).reshape(len(views), TOKENS_PER_VIEW, 8), stacked("thing_PP"), stacked("label_P2P", 2),
    )  # fmt: skip
    return (
        pixels.contiguous(memory_format=torch.channels_last),
        torch.tensor([v.coordinates for v in views], dtype=torch.float32),
        dense,
    )


@dataclass
class _Packed:
    ids: list[int]
    positions: list[int]
    turn: list[int]
    rows: list[tuple[int, int, float, float, int, int, bool, int, int, int]]


def question_batch(samples: list[Sample], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Collate samples of equal view counts."""
    views, zoomed = len(samples[0].views), samples[0].zoomed
    prefix = 1 + views * TOKENS_PER_VIEW + zoomed
    packed = [_pack(sample.turns, prefix, tokenizer) for sample in samples]
    length, most = max(len(p.ids) for p in packed), max(len(p.rows) for p in packed)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([p.ids + [pad] * (length - len(p.ids)) for p in packed])
    positions = torch.tensor([list(range(prefix)) + p.positions + [0] * (length - len(p.ids)) for p in packed])
    turn = torch.tensor([[-1] * prefix + p.turn + [-2] * (length - len(p.ids)) for p in packed])
    causal = torch.ones(prefix + length, prefix + length, dtype=torch.bool).tril()
    mask = causal & ((turn[:, None, :] == -1) | (turn[:, None, :] == turn[:, :, None]))
    empty = (0, IGNORE, float("nan"), 0.0, NO_TARGET, 0, False, 0, 0, 0)
    columns = list(zip(*[row for p in packed for row in p.rows + [empty] * (most - len(p.rows))], strict=True))
    shaped = [torch.tensor(column).reshape(len(samples), most) for column in columns]
    pixels, coordinates, dense = view_tensors([view for sample in samples for view in sample.views])
    return Batch(pixels, coordinates, views, zoomed, dense, ids, positions, mask[:, None], Rows(*shaped))


def _pack(turns: tuple[Turn, ...], prefix: int, tokenizer: PreTrainedTokenizerFast) -> _Packed:
    packed = _Packed([], [], [], [])
    for number, turn in enumerate(turns):
        question = tokenizer(turn.question + "<answer>", add_special_tokens=False).input_ids
        answer, looks = _answer(turn, tokenizer)
        start = prefix + len(packed.ids) + len(question) - 1
        named = _named(turn.question)
        for step, (token, location, look, label) in enumerate(looks):
            row = (start + step, token, location, turn.weight, look, label, step == 0, turn.thing_label, *named)
            packed.rows.append(row)
        tokens = question + answer[:-1]
        packed.ids += tokens
        packed.positions += range(prefix, prefix + len(tokens))
        packed.turn += [number] * len(tokens)
    return packed


def _named(question: str) -> tuple[int, int]:
    """Classes of the colour and the kind in a question such as "Find the red tag."; 0 where it names none."""
    words = re.findall(r"[a-z]+", re.sub(r'".*"', "", question))
    colour = next((COLOUR_CLASS[word] for word in words if word in COLOUR_CLASS), 0)
    return colour, next((KIND_CLASS[word] for word in words if word in KIND_CLASS), 0)


def _answer(turn: Turn, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[tuple[int, float, int, int]]]:
    """Answer ids, and per id: the id, its location or NaN, what the row predicting it should look at, and the label."""
    vocabulary = tokenizer.get_vocab()
    nan = float("nan")
    spelt = any(turn.character_labels)
    ids = [vocabulary[c] for c in turn.answer] if spelt else tokenizer(turn.answer, add_special_tokens=False).input_ids
    thing = (THING_TARGET if turn.thing_label else NO_TARGET, turn.thing_label)
    looks = []
    for k, token in enumerate(ids):
        label = turn.character_labels[k] if spelt else 0
        looks.append((token, nan, *((CHARACTER_TARGET, label) if label else thing)))
    if turn.location is not None:
        looks.append((vocabulary["<at>"], nan, *thing))
        for share in turn.location:
            value = min(999, int(share * 1000))
            looks.append((vocabulary[f"<loc{value:03d}>"], share, *thing))
    looks.append((vocabulary["<eos>"], nan, NO_TARGET, 0))
    return [look[0] for look in looks], looks
