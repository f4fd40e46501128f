"""Asked pages -> tensors: read characters as a shared prefix, question turns packed behind it.

Shapes: B pages, P prefix length (padded at its right), S sequence, R answer rows a page (padded), F place features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ray_pipeline.models.line_tokens import FEATURES, LineTokens, token_features
from ray_pipeline.training.asked_pages import PLACES, AskedPage, PageTurn
from schemas.picture import Box

Boxes = NDArray[np.float64]

IGNORE = -100
LONGEST_ANSWER = 64
EDGE = 0.2  # of a text's width: what is looked at for where it begins or ends


@dataclass(frozen=True)
class _Row:
    """One supervised position: what follows it, a token or a share of the page's side, and which of the prefix it looks at."""

    position: int
    turn: int
    target: int = IGNORE
    location: float = math.nan
    first: bool = False
    look: Sequence[int] = ()
    copy: Sequence[int] = ()
    match: Sequence[int] = ()


@dataclass(frozen=True)
class _Packed:
    """A page's turns one behind the other: tokens with their positions and turns, supervised rows, and (first, length) of each
    question."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    questions: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class LineBatch:
    """`view_*` are the pages' views, first sights and zoomed ones, one a row, padded; `slot_of_view` (views, 3) says of each its
    page, its first place in the prefix and its length, and `slot_of_question` the same of each question among the turns. Rows are
    where the decoder is supervised.

    `mask` (B, 1, S - P, S): True where a token of a turn may look; `position_BR` counts from the first turn's start.
    `look_BRP`: which characters the last prompt position should look at (the answer as a whole), `copy_BRP`: which a
    written character or location is copied from, `match_BRP`: which one a character of a phrase in the question is; all False
    where none is known. `turn_BR` numbers a page's turns, -1 in padding.
    """

    prefix_ids: Tensor
    view_ids_VT: Tensor
    view_features_VTF: Tensor
    view_valid_VT: Tensor
    slot_of_view: tuple[tuple[int, int, int], ...]
    turn_ids: Tensor
    slot_of_question: tuple[tuple[int, int, int], ...]
    position_ids: Tensor
    mask: Tensor
    position_BR: Tensor
    target_BR: Tensor
    location_BR: Tensor
    first_BR: Tensor
    turn_BR: Tensor
    look_BRP: Tensor
    copy_BRP: Tensor
    match_BRP: Tensor
    roles: tuple[tuple[str, ...], ...]


class LineBatcher:
    """Makes batches with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer, self.vocabulary = tokenizer, tokenizer.get_vocab()

    def batch(self, pages: Sequence[AskedPage]) -> LineBatch:
        """Pages of about the same length waste least."""
        prefixes = [self._prefix(page) for page in pages]
        longest = max(len(ids) for ids, _ in prefixes)
        packed = [self._pack(page.turns, len(own[0]), own[1], page) for page, own in zip(pages, prefixes, strict=True)]
        questions = tuple((k, first, count) for k, own in enumerate(packed) for first, count in own.questions)
        length, most = max(len(own.ids) for own in packed), max(len(own.rows) for own in packed)
        count, pad = len(pages), self.vocabulary["<pad>"]
        prefix_ids = torch.full((count, longest), pad)
        turn_ids, positions = torch.full((count, length), pad), torch.zeros(count, longest + length, dtype=torch.long)
        turn = torch.full((count, longest + length), -2)
        position, target = torch.zeros(count, most, dtype=torch.long), torch.full((count, most), IGNORE)
        location = torch.full((count, most), math.nan)
        first, number = torch.zeros(count, most, dtype=torch.bool), torch.full((count, most), -1)
        look, copy, match = (torch.zeros(count, most, longest, dtype=torch.bool) for _ in range(3))
        for k, ((ids, _), own) in enumerate(zip(prefixes, packed, strict=True)):
            prefix_ids[k, : len(ids)] = torch.tensor(ids)
            turn_ids[k, : len(own.ids)] = torch.tensor(own.ids)
            positions[k, : len(ids)] = torch.arange(len(ids))
            positions[k, longest : longest + len(own.ids)] = torch.tensor(own.positions)
            turn[k, : len(ids)], turn[k, longest : longest + len(own.ids)] = -1, torch.tensor(own.turns)
            for r, row in enumerate(own.rows):
                position[k, r], target[k, r], location[k, r] = row.position, row.target, row.location
                first[k, r], number[k, r] = row.first, row.turn
                look[k, r, row.look], copy[k, r, row.copy], match[k, r, row.match] = True, True, True
        asking = turn[:, longest:]
        causal = torch.ones(length, longest + length, dtype=torch.bool).tril(longest)
        mask = causal & ((turn[:, None, :] == -1) | (turn[:, None, :] == asking[:, :, None]))
        roles = tuple(tuple(one.role for one in page.turns) for page in pages)
        return LineBatch(
            prefix_ids, *self._views(pages), turn_ids, questions, positions, mask[:, None], position, target, location, first,
            number, look, copy, match, roles,
        )  # fmt: skip

    def _views(self, pages: Sequence[AskedPage]) -> tuple[Tensor, Tensor, Tensor, tuple[tuple[int, int, int], ...]]:
        views, slots = [], []
        for k, page in enumerate(pages):
            views.append((page.base, False))
            slots.append((k, 1, len(page.base)))
            if page.zoom is not None:
                views.append((page.zoom, True))
                slots.append((k, 2 + len(page.base), len(page.zoom)))
        longest = max(len(tokens) for tokens, _ in views)
        ids = torch.full((len(views), longest), self.vocabulary["<pad>"])
        features, valid = torch.zeros(len(views), longest, FEATURES), torch.zeros(len(views), longest, dtype=torch.bool)
        for v, (tokens, zoomed) in enumerate(views):
            ids[v, : len(tokens)], valid[v, : len(tokens)] = torch.tensor(self.character_ids(tokens)), True
            features[v, : len(tokens)] = torch.from_numpy(token_features(tokens, zoomed))
        return ids, features, valid, tuple(slots)

    def _prefix(self, page: AskedPage) -> tuple[list[int], Boxes]:
        """Ids, and boxes in page pixels for each of them (NaN for markers)."""
        ids, boxes = [self.vocabulary["<bos>"]], [np.full((1, 4), np.nan)]
        size = np.asarray((*page.size_px, *page.size_px))
        for tokens in (page.base, page.zoom):
            if tokens is None:
                continue
            if tokens is page.zoom:
                ids.append(self.vocabulary["<zoom>"])
                boxes.append(np.full((1, 4), np.nan))
            ids += self.character_ids(tokens)
            boxes.append(tokens.boxes_unit * size)
        return ids, np.concatenate(boxes)

    def character_ids(self, tokens: LineTokens) -> list[int]:
        """One id a character; what the vocabulary does not have is unknown."""
        unknown = self.vocabulary["<unk>"]
        return [self.vocabulary.get(sign, unknown) for sign in tokens.characters]

    def _pack(self, turns: Sequence[PageTurn], prefix: int, boxes: Boxes, page: AskedPage) -> _Packed:
        packed, start_of_zoom = _Packed(), 1 + len(page.base)
        for number, turn in enumerate(turns):
            asked = self.tokenizer(turn.question + "<answer>", add_special_tokens=False, return_offsets_mapping=True)
            question: list[int] = asked.input_ids
            packed.rows.extend(_matched(boxes, turn, number, len(packed.ids), asked.offset_mapping, start_of_zoom))
            answer, where = self._answer(turn, page)
            start = len(packed.ids) + len(question) - 1
            inside = _inside(boxes, turn.places_px, start_of_zoom) if len(turn.places_px) <= PLACES else []
            for step, (token, unit) in enumerate(zip(answer, where, strict=True)):
                copied = _beside(boxes, turn, step, start_of_zoom)
                packed.rows.append(_Row(start + step, number, token, unit, step == 0, inside if step == 0 else (), copied))
            packed.questions.append((len(packed.ids), len(question)))
            tokens = question + answer[:-1]
            packed.ids.extend(tokens)
            packed.positions.extend(range(prefix, prefix + len(tokens)))
            packed.turns.extend([number] * len(tokens))
        return packed

    def _answer(self, turn: PageTurn, page: AskedPage) -> tuple[list[int], list[float]]:
        ids = [self.vocabulary.get(sign, self.vocabulary["<unk>"]) for sign in turn.answer[:LONGEST_ANSWER]]
        where = [math.nan] * len(ids)
        if turn.box_px is not None:
            units = [
                min(max(value / size, 0.0), 0.9999)
                for value, size in zip(turn.box_px, (*page.size_px, *page.size_px), strict=True)
            ]
            ids += [self.vocabulary["<at>"], *(self.vocabulary[f"<loc{int(unit * 1000):03d}>"] for unit in units)]
            where += [math.nan, *units]
        return [*ids, self.vocabulary["<eos>"]], [*where, math.nan]


def _inside(boxes: Boxes, places: Sequence[Box], start_of_zoom: int) -> list[int]:
    """Tokens whose middles lie in one of the boxes; in the zoomed view alone where it shows any."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    found = np.zeros(len(boxes), bool)
    for x0, y0, x1, y1 in places:
        with np.errstate(invalid="ignore"):
            found |= (middles[:, 0] > x0) & (middles[:, 0] < x1) & (middles[:, 1] > y0) & (middles[:, 1] < y1)
    found[1] = False  # the whole view's own token
    return _finest(found, start_of_zoom)


def _beside(boxes: Boxes, turn: PageTurn, step: int, start_of_zoom: int) -> list[int]:
    """Tokens that one step of the answer is taken from, where it stands on one line.

    Those at a character's own place; for the locations x0, y0, x1, y1, steps 1 to 4, those along the edge that is told.
    """
    if turn.box_px is not None:
        return _inside(boxes, [_edge(turn.box_px, step - 1)], start_of_zoom) if 1 <= step <= 4 else []
    if not turn.spelt or step >= len(turn.answer):
        return []
    x0, y0, x1, y1 = turn.places_px[0]
    wide = (x1 - x0) / len(turn.answer)
    return _inside(boxes, [(x0 + wide * (step - 0.4), y0, x0 + wide * (step + 1.4), y1)], start_of_zoom)


def _edge(box_px: Box, coordinate: int) -> Box:
    """The left or right end of a line of print; all of it for its top and bottom."""
    x0, y0, x1, y1 = box_px
    wide = EDGE * (x1 - x0)
    if coordinate == 0:
        return x0, y0, x0 + wide, y1
    return (x1 - wide, y0, x1, y1) if coordinate == 2 else box_px


def _matched(
    boxes: Boxes, turn: PageTurn, number: int, start: int, offsets: Sequence[tuple[int, int]], start_of_zoom: int
) -> list[_Row]:
    """Each token of a phrase that is to be located looks for itself on the page."""
    if turn.phrase is None or turn.box_px is None:
        return []
    begin, end = turn.phrase
    x0, y0, x1, y1 = turn.box_px
    wide = (x1 - x0) / (end - begin)
    rows = []
    for k, (first, last) in enumerate(offsets):
        if begin <= first and last <= end and first < last:
            place = x0 + wide * (first - begin - 0.4), y0, x0 + wide * (last - begin + 0.4), y1
            rows.append(_Row(start + k, number, match=_inside(boxes, [place], start_of_zoom)))
    return rows


def _finest(found: NDArray[np.bool_], start_of_zoom: int) -> list[int]:
    places = np.flatnonzero(found)
    zoomed = places[places > start_of_zoom]
    return [int(place) for place in (zoomed if len(zoomed) else places)]
