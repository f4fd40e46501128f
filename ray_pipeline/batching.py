"""Many conversations side by side: their requests of one kind become one call, replies go back to their rows.

A failing call is halved until the failing row is alone; that row ends with a status, the others go on.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ray_pipeline.models.contract import (
    Encode,
    Family,
    Generate,
    ReadAttention,
    ReadGradient,
    ReadLines,
    ReadPixelGradient,
    Reply,
    Request,
    Sample,
)
from ray_pipeline.perceiver import Conversation, Seen
from schemas.status import RowFailure, Status

Ended = Seen | RowFailure


@dataclass
class _Open:
    """A conversation that waits for its reply."""

    key: Hashable
    conversation: Conversation
    request: Request


@dataclass
class RowLimit:
    """How many rows one call of the model may hold: halved when memory runs out, grown by one with every full call after that."""

    most: int
    rows: int = 0

    def __post_init__(self) -> None:
        self.rows = self.rows or self.most

    def halve(self, failed_rows: int) -> None:
        """A call of so many rows was too much."""
        self.rows = max(1, min(self.rows, failed_rows // 2))

    def grow(self, held_rows: int) -> None:
        """A call of so many rows went well."""
        if held_rows == self.rows < self.most:
            self.rows += 1


def converse(family: Family, conversations: Mapping[Any, Conversation]) -> dict[Any, Ended]:
    """Run all conversations to their ends; every key comes back once, with what it saw or how it failed."""
    return dict(end for end in ends(family, conversations, RowLimit(max(1, len(conversations)))) if end is not None)


def ends(family: Family, conversations: Mapping[Any, Conversation], limit: RowLimit) -> Iterator[tuple[Any, Ended] | None]:
    """Each conversation's end as it comes, every key once, and None after each call of the model: a sign of life.

    `limit` outlives the call: what one batch learned about memory, the next one knows.
    """
    ended: dict[Any, Ended] = {}
    waiting = [step for key, talk in conversations.items() if (step := _advance(key, talk, None, ended)) is not None]
    calls: dict[type, Callable[[Any], list[Any]]] = {
        Encode: family.encode, ReadAttention: family.read_attention, ReadGradient: family.read_gradient,
        ReadPixelGradient: family.read_pixel_gradient, Generate: family.generate, Sample: family.sample,
        ReadLines: family.read_lines,
    }  # fmt: skip
    while waiting or ended:
        yield from ended.items()
        ended.clear()
        if not waiting:
            return
        kind = _kind_furthest_behind(waiting)
        same = [step for step in waiting if type(step.request) is kind]
        group = same[: limit.rows]
        taken = {id(step) for step in group}
        waiting = [step for step in waiting if id(step) not in taken]
        replies = _call(calls[kind], [step.request for step in group], limit)
        yield None
        for step, reply in zip(group, replies, strict=True):
            following = _advance(step.key, step.conversation, reply, ended)
            if following is not None:
                waiting.append(following)


def _kind_furthest_behind(waiting: list[_Open]) -> type:
    """Encode before reading before writing, so that rows of one batch stay together; deterministic in the batch."""
    order = (Encode, ReadAttention, ReadGradient, ReadPixelGradient, Generate, Sample, ReadLines)
    return min((type(step.request) for step in waiting), key=order.index)


def _advance(key: Hashable, talk: Conversation, reply: Reply | RowFailure | None, ended: dict[Any, Ended]) -> _Open | None:
    try:
        if isinstance(reply, RowFailure):
            request = talk.throw(reply)
        else:
            request = next(talk) if reply is None else talk.send(reply)
    except StopIteration as stop:
        ended[key] = stop.value
        return None
    except RowFailure as failure:
        ended[key] = failure
        return None
    except Exception as error:  # the one place where a method's own failure becomes a row's
        ended[key] = RowFailure(Status.MODEL_CRASH, f"{type(error).__name__}: {error}")
        return None
    return _Open(key, talk, request)


def _call(call: Callable[[Any], list[Any]], requests: list[Any], limit: RowLimit) -> list[Any]:
    """The call's replies in order; what fails is tried again in halves, or in what memory has shown to hold; alone it becomes
    a failure."""
    try:
        replies = call(requests)
        limit.grow(len(requests))
        return replies
    except (torch.OutOfMemoryError, MemoryError) as error:
        status, reason = Status.MODEL_OOM, f"out of memory: {error}"
        limit.halve(len(requests))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except RowFailure as failure:  # a family's own word on a picture it cannot show
        status, reason = failure.status, failure.message
    except Exception as error:
        full = isinstance(error, RuntimeError) and "allocate memory" in str(error)  # how torch says it on a CPU
        status, reason = Status.MODEL_OOM if full else Status.MODEL_CRASH, f"{type(error).__name__}: {error}"
        if full:
            limit.halve(len(requests))
    if len(requests) == 1:
        return [RowFailure(status, reason)]
    half, replies = (len(requests) + 1) // 2, list[Any]()
    while left := requests[len(replies) :]:
        replies += _call(call, left[: min(half, limit.rows)], limit)  # what the first half learned, the second one heeds
    return replies
