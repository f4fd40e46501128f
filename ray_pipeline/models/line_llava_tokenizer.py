"""The tokenizer of the model of read lines: single characters, the words of common questions, 1000 locations per axis.

What is printed is spelt, so that it can be copied letter by letter; words that only questions hold are single tokens.
"""

from transformers import PreTrainedTokenizerFast

from ray_pipeline.models.embedded_tokenizer import LOCATIONS, location_token, spelling_tokenizer
from ray_pipeline.models.line_reader import ALPHABET
from ray_pipeline.models.line_tokens import GAP, ROW

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<zoom>", "<answer>", "<at>", "<none>")
WORDS = (
    "What", "Where", "Which", "Read", "Write", "Answer", "Describe", "How", "Find", "Give", "When", "Who", "Tell", "Is",
    "is", "are", "was", "the", "an", "of", "on", "in", "to", "and", "it", "does", "do", "say", "this", "that", "for", "from",
    "written", "printed", "shown", "next", "below", "above", "first", "last", "line", "text", "field", "value", "number",
    "total", "amount", "date", "name", "company", "shop", "store", "document", "receipt", "invoice", "price", "quantity",
    "much", "many", "paid", "pay", "due", "question", "using", "single", "word", "phrase", "general", "description",
    "image", "picture", "or", "with", "at", "issued",
)  # fmt: skip


def build_line_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, built from the tables above; identical on every machine."""
    characters = list(dict.fromkeys([*ALPHABET, *map(chr, range(32, 127)), ROW, GAP]))
    vocabulary = [*SPECIAL, *(location_token(k) for k in range(LOCATIONS)), *characters]
    vocabulary += [form for word in WORDS for form in (word, f" {word}")]
    return spelling_tokenizer(SPECIAL, vocabulary, WORDS)
