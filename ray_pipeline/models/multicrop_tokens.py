"""MC-LLaVA: where a view is (coordinates for the embedding) and how many of its features are kept."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from schemas.picture import Box


def coordinates(boxes_px: Sequence[Box], width: int, height: int, size: int) -> Tensor:
    """(V, size) shares of the picture: centre x, centre y as published (section 2 step 8); with size 4 also width, height.

    Raises:
        ValueError: `size` is neither 2 nor 4.
    """
    if size not in (2, 4):
        raise ValueError(f"{size} coordinates a view, expected 2 (centre) or 4 (centre and sides)")
    places = [
        ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height) for x0, y0, x1, y1 in boxes_px
    ]
    return torch.tensor(places, dtype=torch.float32)[:, :size]


def split_tokens(views: int, num_tokens: int, per_view: int, split: Literal["official", "even"] = "official") -> list[int]:
    """How many of its `per_view` features each view keeps, its last ones in raster order (section 3.1).

    Every view gets num_tokens // views. `official` gives what is left over to the last view, `even` one by one from the
    first. No view gives more than it has: the total may be smaller than asked.

    Raises:
        ValueError: fewer tokens than views (published code would then keep every feature), or an unknown split.
    """
    if views < 1 or num_tokens < views:
        raise ValueError(f"{num_tokens} visual tokens for {views} views, expected at least one each: fewer crops or more tokens")
    if split not in ("official", "even"):
        raise ValueError(f"token split {split!r}, expected official or even")
    each, left = divmod(num_tokens, views)
    if split == "even":
        shares = [each + (view < left) for view in range(views)]
    else:
        shares = [each] * (views - 1) + [each + left]
    return [min(share, per_view) for share in shares]
