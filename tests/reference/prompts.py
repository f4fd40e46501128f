"""Prompts word for word, with one placeholder token per visual token (ViCrop section 3, MC-LLaVA section 5).

The question's frame ({question}) is separate from the turn around it: methods put another question, never another turn.
Two pictures stand in the order original, crop. Conventions where the published code has none: LLaVA-NeXT uses LLaVA-1.5's
prompt; InternVL uses Qwen's frame, its pictures each with a line break behind them, as its chat template writes them.
"""

from collections.abc import Callable, Sequence

GENERIC = "Write a general description of the image."
SHORT = "{question} Answer the question using a single word or phrase."

FRAMES = {
    "llava": SHORT,
    "llava_next": SHORT,
    "qwen2_5_vl": SHORT,
    "qwen3_vl": SHORT,
    "internvl": SHORT,
    "instructblip": "Question: {question} Short answer:",
    "mc-llava": "{question}",
}


def llava(asked: str, counts: Sequence[int]) -> str:
    """No separator between pictures; the tokenizer puts <s> in front."""
    return "".join("<image>" * count for count in counts) + f"\nUSER: {asked}\nASSISTANT:"


def qwen(asked: str, counts: Sequence[int]) -> str:
    """One user turn, pictures before the text; no system turn (Qwen3-VL)."""
    pictures = "".join("<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>" for count in counts)
    return f"<|im_start|>user\n{pictures}{asked}<|im_end|>\n<|im_start|>assistant\n"


def qwen2_5(asked: str, counts: Sequence[int]) -> str:
    """Qwen2.5-VL's template adds its system turn."""
    return "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + qwen(asked, counts)


def internvl(asked: str, counts: Sequence[int]) -> str:
    """Tiles and thumbnail of a picture are one run between <img> and </img>."""
    pictures = "".join("<img>" + "<IMG_CONTEXT>" * count + "</img>\n" for count in counts)
    return f"<|im_start|>user\n{pictures}{asked}<|im_end|>\n<|im_start|>assistant\n"


def mc_llava(asked: str, counts: Sequence[int]) -> str:
    """ChatML as on the model card; a second picture's tokens follow the first's at once."""
    return f"<|im_start|>user\n{'<image>' * sum(counts)}\n{asked}<|im_end|>\n<|im_start|>assistant\n"


PROMPTS: dict[str, Callable[[str, Sequence[int]], str]] = {
    "llava": llava,
    "llava_next": llava,
    "qwen2_5_vl": qwen2_5,
    "qwen3_vl": qwen,
    "internvl": internvl,
    "mc-llava": mc_llava,
}
