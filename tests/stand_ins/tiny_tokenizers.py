"""Tokenizers of tiny stand-in models: one token per character, and each family's own special tokens and chat template.

Digits are single tokens, as in the real vocabularies. The classes are those named by the real checkpoints, so that the
quirks come along: Llama's prefix space and byte fallback, Qwen's byte level, BERT's [CLS] and [SEP].
"""

from tokenizers import AddedToken
from transformers import BertTokenizer, LlamaTokenizer, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

PRINTABLE = [chr(code) for code in range(33, 127)]

LLAVA_CHAT = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_QWEN_TURNS = (
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN2_5_CHAT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}" + _QWEN_TURNS
)
QWEN3_CHAT = "{% for message in messages %}" + _QWEN_TURNS
INTERNVL_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def llama_tokenizer(chat_template: str | None = None, **named: str) -> LlamaTokenizer:
    """<unk> 0, <s> 1, </s> 2, 256 bytes, characters, then <image> and <pad>; every text starts with <s>.

    `named` tokens become attributes, as processors expect them (`image_token`).
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *PRINTABLE]
    tokenizer = LlamaTokenizer(
        vocab={token: k for k, token in enumerate(tokens)},
        merges=[],
        add_bos_token=True,
        legacy=False,
        model_max_length=4096,
        extra_special_tokens=dict(named),
        chat_template=chat_template,
    )
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer


def byte_tokenizer(special: tuple[str, ...], chat_template: str | None = None, **named: str) -> Qwen2Tokenizer:
    """256 byte-level tokens, <|endoftext|>, then `special` in order; an answer ends with <|im_end|>, no token starts a text.

    `named` tokens become attributes, as processors expect them (`start_image_token`, ...).
    """
    tokens = [*bytes_to_unicode().values(), "<|endoftext|>", *special]
    tokenizer = Qwen2Tokenizer(
        vocab={token: k for k, token in enumerate(tokens)},
        merges=[],
        model_max_length=4096,
        chat_template=chat_template,
        eos_token="<|im_end|>",
        extra_special_tokens=dict(named),
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special], special_tokens=True)
    return tokenizer


QWEN_VISION = (
    "<|im_start|>", "<|im_end|>",
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
INTERNVL_VISION = (
    "<|im_start|>", "<|im_end|>",
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>",
)  # fmt: skip
INTERNVL_NAMED = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def bert_tokenizer() -> BertTokenizer:
    """The Q-Former's: lower case, a word is its first character and ##-continuations, between [CLS] and [SEP]."""
    characters = sorted({character.lower() for character in PRINTABLE})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{character}" for character in characters), "[DEC]"]
    tokenizer = BertTokenizer(vocab={token: k for k, token in enumerate(tokens)}, model_max_length=512, truncation_side="left")
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


MC_LLAVA_ADDED = ("<|im_end|>", "<|im_start|>", "<image>", "<pad>")
