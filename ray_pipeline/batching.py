"""Many conversations side by side: their requests of one kind become one call, replies go back to their rows.

A failing call is halved until the failing row is alone; that row ends with a status, the others go on.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ray_pipeline.models.contract import (
    Encode,
    Family,
    Generate,
    ReadAttention,
    ReadGradient,
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


def converse(family: Family, conversations: Mapping[Any, Conversation]) -> dict[Any, Ended]:
    """Run all conversations to their ends; every key comes back once, with what it saw or how it failed."""
    ended: dict[Any, Ended] = {}
    waiting = [step for key, talk in conversations.items() if (step := _advance(key, talk, None, ended)) is not None]
    calls: dict[type, Callable[[Any], list[Any]]] = {
        Encode: family.encode, ReadAttention: family.read_attention, ReadGradient: family.read_gradient,
        ReadPixelGradient: family.read_pixel_gradient, Generate: family.generate, Sample: family.sample,
    }  # fmt: skip
    while waiting:
        kind = _kind_furthest_behind(waiting)
        group = [step for step in waiting if type(step.request) is kind]
        waiting = [step for step in waiting if type(step.request) is not kind]
        for step, reply in zip(group, _call(calls[kind], [step.request for step in group]), strict=True):
            following = _advance(step.key, step.conversation, reply, ended)
            if following is not None:
                waiting.append(following)
    return ended


def _kind_furthest_behind(waiting: list[_Open]) -> type:
    """Encode before reading before writing, so that rows of one batch stay together; deterministic in the batch."""
    order = (Encode, ReadAttention, ReadGradient, ReadPixelGradient, Generate, Sample)
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


def _call(call: Callable[[Any], list[Any]], requests: list[Any]) -> list[Any]:
    """The call's replies in order; what fails is halved, and alone becomes a failure."""
    try:
        return call(requests)
    except (torch.OutOfMemoryError, MemoryError) as error:
        status, reason = Status.MODEL_OOM, f"out of memory: {error}"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except RowFailure as failure:  # a family's own word on a picture it cannot show
        status, reason = failure.status, failure.message
    except Exception as error:
        status, reason = Status.MODEL_CRASH, f"{type(error).__name__}: {error}"
    if len(requests) == 1:
        return [RowFailure(status, reason)]
    half = len(requests) // 2
    return _call(call, requests[:half]) + _call(call, requests[half:])
