"""InstructBLIP's two stages (ViCrop section 4.2): patches -> queries by the Q-Former, queries -> answer by the decoder.

The Q-Former reads the whole prompt text, once per picture, so its attention depends on the question. The decoder sees the
queries of the first picture, those of the crop, then <s> and the prompt: the repair of the published code, whose slice of
256 columns cannot be multiplied with 32 queries.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from tests.reference.networks import Pass, PlainNetwork
from tests.reference.pictures import PICTURES


class InstructBlipNetwork(PlainNetwork):
    """Steps 1 to 3 of the library's forward, taken one by one so that both stages' attention comes out with its graph."""

    def __init__(self, folder: Path, fit: str = "squash", frame: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(folder, fit, frame, dtype)
        self.reader = AutoTokenizer.from_pretrained(folder / "qformer_tokenizer")

    def run(self, pictures: Sequence[np.ndarray], question: str, answer: Sequence[int] = ()) -> Pass:
        shown = PICTURES[self.kind](self.folder, pictures, self.fit)
        pixels = shown.tensors["pixel_values"].to(self.model.dtype).requires_grad_()
        text = self.frame.replace("{question}", question)
        read = torch.tensor([self.reader(text).input_ids] * len(pictures))
        patches = self.model.vision_model(pixel_values=pixels).last_hidden_state
        queries = self.model.query_tokens.expand(len(pictures), -1, -1)
        formed = self.model.qformer(
            input_ids=read, attention_mask=torch.ones(len(pictures), queries.shape[1] + read.shape[1], dtype=torch.long),
            query_embeds=queries, encoder_hidden_states=patches,
            encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long), output_attentions=True,
        )  # fmt: skip
        seen = self.model.language_projection(formed.last_hidden_state[:, : queries.shape[1]])
        prompt = list(self.tokenizer(text).input_ids)
        words = self.model.get_input_embeddings()(torch.tensor([[*prompt, *answer]]))
        embeds = torch.cat([seen.flatten(0, 1)[None], words], dim=1)
        out = self.model.language_model(
            inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long), use_cache=False,
            output_attentions=True,
        )  # fmt: skip
        shown_queries = len(pictures) * queries.shape[1]
        return Pass(
            out.logits[0], tuple(out.attentions), torch.arange(queries.shape[1]),
            shown_queries + len(prompt) - 1, pixels, shown, tuple(formed.cross_attentions),
        )  # fmt: skip
