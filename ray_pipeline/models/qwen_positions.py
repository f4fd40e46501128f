"""Rotary positions of Qwen-VL prompts: text counts on in time, rows and columns alike; a picture spans a grid.

A picture's tokens all stand at the same time, at their row's and column's offset from it, and the text behind goes on
after the picture's longer side, not after its number of tokens. Shapes: S sequence; 3 is time, row, column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenGrid:
    """A picture in a prompt: rows x columns of tokens in raster order."""

    rows: int
    columns: int


def prompt_positions(parts: Sequence[int | TokenGrid], start: int) -> tuple[Tensor, int]:
    """Positions (3, S) of texts (their numbers of tokens) and pictures in prompt order, and the position that follows.

    Raises:
        ValueError: a negative length, or a picture without tokens.
    """
    pieces = []
    for part in parts:
        if isinstance(part, TokenGrid):
            if part.rows < 1 or part.columns < 1:
                raise ValueError(f"picture of {part.rows} x {part.columns} tokens, expected at least 1 x 1")
            row = torch.arange(part.rows).repeat_interleave(part.columns)
            column = torch.arange(part.columns).repeat(part.rows)
            pieces.append(torch.stack([torch.zeros_like(row), row, column]) + start)
            start += max(part.rows, part.columns)
        else:
            if part < 0:
                raise ValueError(f"text of {part} tokens, expected 0 or more")
            pieces.append(torch.arange(start, start + part).expand(3, -1))
            start += part
    return torch.cat(pieces, 1) if pieces else torch.zeros(3, 0, dtype=torch.long), start
