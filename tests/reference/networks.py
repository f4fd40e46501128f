"""One prompt, one whole forward pass, every attention matrix: the families the library holds.

Legend: B batch of one, H query heads, S sequence, V vocabulary; W pictures, Q queries, P places behind a class token.
Positions of Qwen come from the model's own `get_rope_index` on the whole sequence; deepstack features of Qwen3-VL go in
through the model's ordinary forward.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from tests.reference.pictures import PICTURES, Shown
from tests.reference.prompts import FRAMES, PROMPTS


@dataclass(frozen=True)
class Pass:
    """One forward pass with its graph. `columns` are the first picture's visual tokens, `last` the last prompt position.

    `attentions` has one (B, H, S, S) per decoder layer; `cross`, of a Q-Former, one (W, heads, Q, 1 + P) per connector layer.
    """

    logits_SV: Tensor
    attentions: tuple[Tensor, ...]
    columns: Tensor
    last: int
    pixels: Tensor
    shown: Shown
    cross: tuple[Tensor, ...] = ()


class PlainNetwork:
    """LLaVA-1.5, LLaVA-NeXT, Qwen2.5-VL, Qwen3-VL and InternVL from a folder, with eager attention throughout."""

    def __init__(self, folder: Path, fit: str = "pad", frame: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.folder, self.fit = folder, fit
        self.kind = json.loads((folder / "config.json").read_text())["model_type"]
        self.frame = frame or FRAMES[self.kind]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        disable_progress_bar()
        self.model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval()
        ends = self.model.generation_config.eos_token_id
        self.end_ids = set(ends) if isinstance(ends, list) else {ends}

    def run(self, pictures: Sequence[np.ndarray], question: str, answer: Sequence[int] = ()) -> Pass:
        """The prompt of all pictures, then the answer's tokens, in one pass with gradients."""
        shown = PICTURES[self.kind](self.folder, pictures, self.fit)
        pixels = shown.tensors["pixel_values"].to(self.model.dtype).requires_grad_()
        counts = self.counts(shown)
        prompt = self.prompt_ids(question, counts)
        ids = torch.tensor([[*prompt, *answer]])
        out = self.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, output_attentions=True,
            **shown.tensors | {"pixel_values": pixels}, **self._positions(ids, len(prompt), shown),
        )  # fmt: skip
        places = [k for k, token in enumerate(prompt) if token == self.model.config.image_token_id]
        return Pass(
            out.logits[0], tuple(out.attentions), torch.tensor(places[: counts[0]]), len(prompt) - 1, pixels, shown,
        )  # fmt: skip

    def prompt_ids(self, question: str, counts: Sequence[int]) -> list[int]:
        """Ids of the whole prompt, with what the tokenizer itself puts in front."""
        text = PROMPTS[self.kind](self.frame.replace("{question}", question), counts)
        return list(self.tokenizer(text).input_ids)

    def counts(self, shown: Shown) -> list[int]:
        """Visual tokens per picture, counted on the features themselves."""
        tensors = shown.tensors | {"pixel_values": shown.tensors["pixel_values"].to(self.model.dtype)}
        with torch.no_grad():
            features = self.model.model.get_image_features(**tensors, return_dict=True).pooler_output
        if self.kind == "internvl":  # one tensor over all tiles
            return [views * features.shape[1] for views in shown.views]
        return [len(one) for one in features]

    def _positions(self, ids: Tensor, prompt: int, shown: Shown) -> dict[str, Any]:
        if not self.kind.startswith("qwen"):
            return {}
        kinds = (ids == self.model.config.image_token_id).int()
        kinds[:, prompt:] = 0
        positions, _ = self.model.model.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=shown.tensors["image_grid_thw"], attention_mask=torch.ones_like(ids)
        )
        return {"position_ids": positions, "mm_token_type_ids": kinds}
