"""What is put behind a prefix: runs of embeddings with their positions and whatever else the decoder wants of them.

Shapes: Q tokens of a segment, W width of the decoder, A position axes (1, or 3 for time, height and width).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens of one prompt. `positions_AQ` count from the segment's start; None is 0, 1, 2, ... on every axis.

    `advance` is how far the next token's position lies behind the segment's start, None for its length: behind a picture
    with positions on three axes it is not the number of tokens. `deepstack` are features that early layers add to the
    tokens marked in `visual_Q`: one (visual tokens, W) a layer.

    Raises:
        ValueError: features or marks that do not fit the tokens.
    """

    embeds_QW: Tensor
    positions_AQ: Tensor | None = None
    advance: int | None = None
    visual_Q: Tensor | None = None
    deepstack: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        tokens = len(self.embeds_QW)
        if self.visual_Q is not None and self.visual_Q.shape != (tokens,):
            raise ValueError(f"marks of shape {tuple(self.visual_Q.shape)} for {tokens} tokens")
        if self.positions_AQ is not None and self.positions_AQ.shape[-1] != tokens:
            raise ValueError(f"positions for {self.positions_AQ.shape[-1]} of {tokens} tokens")
        marked = 0 if self.visual_Q is None else int(self.visual_Q.sum())
        if any(len(features) != marked for features in self.deepstack):
            raise ValueError(f"deepstack of {[len(features) for features in self.deepstack]} features for {marked} visual tokens")

    def __len__(self) -> int:
        return len(self.embeds_QW)

    @property
    def step(self) -> int:
        return len(self) if self.advance is None else self.advance

    def positions(self, start: int, axes: int) -> Tensor:
        """Absolute positions (A, Q) of the segment behind position `start`."""
        if self.positions_AQ is None:
            return torch.arange(len(self), device=self.embeds_QW.device).expand(axes, -1) + start
        return self.positions_AQ.to(self.embeds_QW.device).expand(axes, -1) + start


def joined(segments: Sequence[Segment]) -> Segment:
    """One segment of several in a row."""
    if len(segments) == 1:
        return segments[0]
    embeds = torch.cat([segment.embeds_QW for segment in segments])
    plain = all(segment.positions_AQ is None and segment.advance is None for segment in segments)
    axes = max((1 if segment.positions_AQ is None else segment.positions_AQ.shape[0]) for segment in segments)
    positions, start = [], 0
    for segment in segments:
        positions.append(segment.positions(start, axes))
        start += segment.step
    marks = [_marks(segment) for segment in segments]
    depth = max(len(segment.deepstack) for segment in segments)
    stacked = tuple(torch.cat([segment.deepstack[k] for segment in segments if segment.deepstack]) for k in range(depth))
    return Segment(
        embeds, None if plain else torch.cat(positions, 1), None if plain else start,
        torch.cat(marks) if depth else None, stacked,
    )  # fmt: skip


def _marks(segment: Segment) -> Tensor:
    if segment.visual_Q is not None:
        return segment.visual_Q
    return torch.zeros(len(segment), dtype=torch.bool, device=segment.embeds_QW.device)
