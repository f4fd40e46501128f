"""The turn around pictures and question, cut out of the chat template that came with the weights.

    before <picture> behind  [ between <picture> behind ]  ask <question> after

What stands before the brackets is one prefix for every question and every zoomed view: a template that writes it
otherwise with two pictures than with one is refused. Templates run in the library's sandbox.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ray_pipeline.models.weights import ModelRefused

PICTURE, OPENING, CLOSING = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"
_QUESTION = "the question stands here"


@dataclass(frozen=True)
class Turn:
    """Texts of one user turn; `after` ends where the answer begins."""

    before: str
    behind: str
    between: str
    ask: str
    after: str


def published_turn(system: str | None) -> Turn:
    """The turn of Qwen's own templates: Qwen2.5-VL's has a system turn, Qwen3-VL's none."""
    opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return Turn(f"{opening}<|im_start|>user\n{OPENING}", CLOSING, OPENING, "", "<|im_end|>\n<|im_start|>assistant\n")


def template_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> Turn:
    """The turn that a chat template writes, rendered with one and with two pictures.

    Raises:
        ModelRefused: it fails, does not put pictures before the question, changes what comes before a second picture, or
            makes the model think aloud before it answers.
    """
    before, behind_and_ask, after = _rendered(tokenizer, template, pictures=1)
    again, behind_and_between, second, end = _rendered(tokenizer, template, pictures=2)
    if (again, second, end) != (before, behind_and_ask, after) or not behind_and_between.startswith(CLOSING):
        found = f"{again!r}, {behind_and_between!r}, {second!r} with two pictures, {before!r}, {behind_and_ask!r} with one"
        raise ModelRefused(f"chat template writes {found}; expected one prefix for both, each picture closed by {CLOSING}")
    if not behind_and_ask.startswith(CLOSING):
        raise ModelRefused(f"chat template writes {behind_and_ask!r} behind a picture; expected {CLOSING} first")
    if "<think>" in after and "</think>" not in after:
        raise ModelRefused(f"chat template begins the answer with {after!r}: a thinking model; expected one that answers at once")
    closed = len(CLOSING)
    return Turn(before, CLOSING, behind_and_between[closed:], behind_and_ask[closed:], after)


def _rendered(tokenizer: PreTrainedTokenizerBase, template: str, pictures: int) -> list[str]:
    """The texts before, between and behind the pictures and the question, in that order."""
    content: list[dict[str, str]] = [{"type": "image"}] * pictures + [{"type": "text", "text": _QUESTION}]
    turn: list[Any] = [{"role": "user", "content": content}]
    try:
        text = tokenizer.apply_chat_template(turn, chat_template=template, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever a program that came with the weights may raise
        raise ModelRefused(f"chat template fails with a picture and a question: {error}") from None
    *shown, last = str(text).split(PICTURE)
    asked = last.split(_QUESTION)
    if len(shown) != pictures or len(asked) != 2:
        raise ModelRefused(f"chat template writes {text!r}; expected {pictures} x {PICTURE}, then the question once")
    return [*shown, *asked]
