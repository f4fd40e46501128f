"""From written tokens to an answer: text, box, their likelihoods, and the attention rows that decided the box.

Shapes: L layers, H query heads, T visual tokens, C the four coordinates.
"""

import math
from collections.abc import Sequence

import torch

from ray_pipeline.models.box_text import BoxText
from ray_pipeline.models.contract import Generation
from ray_pipeline.models.decoding import Written
from schemas.picture import Box


def generation(answer: Written, raw: str, starts: Sequence[int], parsed: BoxText, box_px: Box | None) -> Generation:
    """The answer of one candidate. `starts` are the characters at which its tokens begin.

    The text's likelihood is the mean over all tokens that spell no coordinate, the end included: without text it says how
    sure the model was of the notation. A token that spells two coordinates makes the box unreadable for attention (ACS 4.1).
    """
    spelling = _spelling(parsed, starts, len(raw)) if box_px is not None else None
    digits = sorted({k for tokens in spelling for k in tokens}) if spelling else []
    text = [value for k, value in enumerate(answer.log_p) if k not in digits]
    if answer.end_log_p is not None:
        text.append(answer.end_log_p)
    weights = None
    if spelling and answer.rows_LHT and len(digits) == sum(len(tokens) for tokens in spelling):
        weights = torch.stack([torch.stack([answer.rows_LHT[k] for k in tokens]).mean(0) for tokens in spelling])
    return Generation(
        text=parsed.text,
        raw=raw,
        text_logprob=_mean(text, -math.inf),
        box_px=box_px,
        box_logprob=_mean([answer.log_p[k] for k in digits], -math.inf) if box_px is not None else None,
        tokens=len(answer.ids),
        finished=answer.finished,
        box_entropy=_mean([answer.entropies[k] for k in digits], math.inf) if box_px is not None else None,
        weights_CLHT=weights,
        ids=tuple(answer.ids),
    )


def _spelling(parsed: BoxText, starts: Sequence[int], length: int) -> list[list[int]] | None:
    """Per coordinate the tokens whose characters overlap its digits."""
    if parsed.spans is None:
        return None
    ends = [*starts[1:], length]
    return [
        [k for k, (start, end) in enumerate(zip(starts, ends, strict=True)) if start < last and end > first]
        for first, last in parsed.spans
    ]


def _mean(values: Sequence[float], empty: float) -> float:
    return sum(values) / len(values) if values else empty
