"""The embedded model's tokenizer: single characters, the words of its questions, and 1000 locations per axis.

Texts in pictures must be spelt, so letters and digits are never merged; only the words of question templates and of
the closed answers (colours, kinds) are single tokens.
"""

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<zoom>", "<answer>", "<at>")
LOCATIONS = 1000
WORDS = (
    "What", "Where", "Which", "Read", "Write", "Answer", "Describe", "How", "Look", "Zoom",
    "is", "are", "the", "a", "an", "of", "on", "in", "to", "and", "it", "does", "do", "says", "say", "thing", "text", "line",
    "colour", "color", "shape", "kind", "image", "picture", "general", "description", "written", "question", "using",
    "single", "word", "or", "phrase", "that", "with", "this", "object", "find", "small", "closely", "at", "first", "second",
    "third", "fourth", "price", "label", "sign", "plate", "tag", "badge", "slip",
    "red", "orange", "yellow", "green", "blue", "purple", "white", "black",
)  # fmt: skip


def location_token(value: int) -> str:
    """The token of one coordinate, 0..999 of a view's width or height."""
    if not 0 <= value < LOCATIONS:
        raise ValueError(f"location {value}, expected 0..{LOCATIONS - 1}")
    return f"<loc{value:03d}>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, built from the tables above; identical on every machine."""
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = [*SPECIAL, *(location_token(k) for k in range(LOCATIONS)), *characters]
    vocabulary += [
        form for word in WORDS for form in ((word,) if len(word) == 1 else (word, f" {word}")) if form not in characters
    ]
    vocabulary.append(" a")
    return spelling_tokenizer(SPECIAL, vocabulary, WORDS)


def spelling_tokenizer(special: Sequence[str], vocabulary: Sequence[str], words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Characters one by one, except `words` where they stand alone, with the space before them or without.

    `vocabulary` in the order of ids, `special` (pad, begin, end, unknown, then others) and locations among it.
    """
    tokens = {token: k for k, token in enumerate(dict.fromkeys(vocabulary))}
    backend = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    known = "|".join(sorted(words, key=len, reverse=True))
    backend.pre_tokenizer = pre_tokenizers.Split(
        Regex(rf"(?: (?:{known})|(?<![A-Za-z0-9])(?:{known}))(?![A-Za-z0-9])|[\s\S]"), "isolated"
    )
    backend.decoder = decoders.Fuse()
    roles = dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **roles, clean_up_tokenization_spaces=False)
    extra = [*special[4:], *(location_token(k) for k in range(LOCATIONS))]
    tokenizer.add_special_tokens({"additional_special_tokens": extra})
    return tokenizer
