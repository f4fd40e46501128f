"""Turns cut out of chat templates."""

import pytest
from transformers import PreTrainedTokenizerBase

from ray_pipeline.models.qwen_prompt import Turn, published_turn, template_turn
from ray_pipeline.models.weights import ModelRefused
from tests.stand_ins import tiny_tokenizers

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tiny_tokenizers.byte_tokenizer(tiny_tokenizers.QWEN_VISION)


def written(
    picture: str = PICTURE, text: str = "{{ c['text'] }}", before: str = "", after: str = "<|im_start|>assistant\n"
) -> str:
    """A chat template of one turn."""
    return (
        f"{before}{{% set n = namespace(count=0) %}}<|im_start|>user\n{{% for c in messages[0]['content'] %}}"
        f"{{% if c['type'] == 'image' %}}{{% set n.count = n.count + 1 %}}{picture}{{% else %}}{text}{{% endif %}}{{% endfor %}}"
        f"<|im_end|>\n{{% if add_generation_prompt %}}{after}{{% endif %}}"
    )


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        (tiny_tokenizers.QWEN2_5_CHAT, published_turn("You are a helpful assistant.")),
        (tiny_tokenizers.QWEN3_CHAT, published_turn(None)),
        (written(), published_turn(None)),
        (
            written(picture=PICTURE + "\n", before="System: be brief.\n"),
            Turn(
                "System: be brief.\n<|im_start|>user\n<|vision_start|>", "<|vision_end|>", "\n<|vision_start|>", "\n",
                "<|im_end|>\n<|im_start|>assistant\n",
            ),
        ),
        (
            written(after="<|im_start|>assistant\n<think>\n\n</think>\n\n"),  # thinking switched off
            Turn(
                "<|im_start|>user\n<|vision_start|>", "<|vision_end|>", "<|vision_start|>", "",
                "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            ),
        ),
    ],
)  # fmt: skip
def test_turns_of_templates(tokenizer: PreTrainedTokenizerBase, template: str, turn: Turn) -> None:
    assert template_turn(tokenizer, template) == turn


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (written(after="<|im_start|>assistant\n<think>\n"), "a thinking model"),
        (written(picture="<|vision_start|><|image_pad|>"), "<|vision_end|>"),
        (
            written(picture="Picture {{ n.count }} of {{ messages[0]['content'] | length - 1 }}: " + PICTURE),
            "one prefix for both",
        ),
        (written(text=""), "then the question once"),
        (written(text="{{ c['text'] }} {{ c['text'] }}"), "then the question once"),
        (written(picture=""), "then the question once"),
        ("{{ raise_exception('no pictures here') }}", "no pictures here"),
        ("{{ messages[0]['content'] + 1 }}", "fails"),
        ("{% for %}", "fails"),
    ],
)
def test_templates_that_cannot_be_cut_are_refused(tokenizer: PreTrainedTokenizerBase, template: str, message: str) -> None:
    with pytest.raises(ModelRefused, match="chat template") as refused:
        template_turn(tokenizer, template)
    assert message in str(refused.value)
