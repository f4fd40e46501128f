"""Text to token ids and back, so that a prompt's pieces are exactly what the whole prompt would have been.

Tokenisers may treat the start of a text differently from its middle, so a piece is tokenised with what stands before it
and cut off behind that. A user's text that spells a special token stays text: it cannot end a turn or show a picture.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

BLOCK, CONTEXT = 64, 8  # tokens whose lengths are found together, and tokens before them that may change how they are spelt


class PromptText:
    """A tokeniser as prompts need it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.special = tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)

    def ids(self, text: str, begin: bool = False) -> list[int]:
        """Ids of our own text; special tokens in it count. `begin` adds what the tokeniser puts in front of a sequence."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=begin).input_ids
        if begin and self.tokenizer.eos_token_id is not None and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # some add an end as well
        return ids

    def token(self, text: str) -> int:
        """The id of one token.

        Raises:
            ValueError: this tokeniser has no such token.
        """
        token = self.tokenizer.convert_tokens_to_ids(text)
        if not isinstance(token, int) or (token == self.tokenizer.unk_token_id and text != self.tokenizer.unk_token):
            raise ValueError(f"{text!r} is {token!r} to this tokenizer; expected one token")
        return token

    def behind(self, lead: str, template: str, question: str) -> list[int]:
        """Ids of a template with {question} filled in, as they stand behind `lead`, a special token or nothing.

        Raises:
            ValueError: no {question} in the template, or `lead` does not stay what it is in front of the text.
        """
        if "{question}" not in template:
            raise ValueError(f"template {template!r}, expected a text that holds {{question}}")
        before, after = template.split("{question}", 1)
        if any(token in question for token in self.special):
            plain: list[int] = self.tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids
            return self._cut(lead, before) + plain + self.ids(after)
        return self._cut(lead, before + question + after)

    def _cut(self, lead: str, text: str) -> list[int]:
        first, whole = self.ids(lead) if lead else [], self.ids(lead + text)
        if whole[: len(first)] != first:
            raise ValueError(f"{lead!r} is {first} alone and {whole[: len(first)]} before {text[:20]!r}: no shared prefix")
        return whole[len(first) :]

    def spelled(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text of ids, special tokens included, and where in it each token begins."""
        text, lengths = self._decoded(ids), [0]
        for start in range(0, len(ids), BLOCK):
            lengths += self._lengths(ids, start, min(start + BLOCK, len(ids)), lengths[-1])
        return text, [min(length, len(text)) for length in lengths[:-1]]

    def _lengths(self, ids: Sequence[int], start: int, stop: int, known: int) -> list[int]:
        """Lengths of the texts of ids[:k] for start < k <= stop; `known` is that of ids[:start].

        Only a few tokens are decoded for each, or a page's text would take the square of its length. Where that does not
        come to the length of the whole, all are.
        """
        first = max(0, start - CONTEXT)
        before = known - len(self._decoded(ids[first:start]))
        lengths = [before + len(self._decoded(ids[first:k])) for k in range(start + 1, stop + 1)]
        if first and lengths[-1] != len(self._decoded(ids[:stop])):
            return [len(self._decoded(ids[:k])) for k in range(start + 1, stop + 1)]
        return lengths

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
