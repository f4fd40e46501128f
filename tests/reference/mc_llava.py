"""MC-LLaVA as published (sections 2 to 5 of its specification), from a folder with the published names.

Conventions: crops are cut at whole pixels of the original, squashed with Pillow's bicubic filter, x / 127.5 - 1. The tower
is stepped layer by layer; its last layer's output is taken before the final norm, the first feature dropped, the last K of
each view kept. Grid, budget and projection are those of `mc_llava_formulas`; tower and decoder are the library's, because
their attention is wanted with its graph. A zoomed view follows the picture's views, with the centre of its box as
coordinates and its own budget.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast, SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from tests.reference.mc_llava_formulas import TOWER, Box, crop_boxes, projected, shares
from tests.reference.networks import Pass
from tests.reference.pictures import Shown
from tests.reference.prompts import FRAMES, PROMPTS


class McLlavaNetwork:
    """Tower, coordinate MLP, projector and Phi, built from the shards. `max_crops`, `num_tokens`: the two knobs."""

    def __init__(
        self,
        folder: Path,
        max_crops: int = 0,
        num_tokens: int | None = None,
        strict: bool = True,
        zoom_px: Box | None = None,
        base_px: int = 384,
        step_px: int = 10,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.state = {k: v.to(dtype) for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
        self.tower = SiglipVisionModel(SiglipVisionConfig(**config["vision_config"]))
        self.tower.load_state_dict(self._part(TOWER))
        text = config["text_config"]
        self.decoder = PhiForCausalLM(PhiConfig(**text))
        self.decoder.load_state_dict(self._part("language_model."))
        for part in (self.tower, self.decoder):
            part.set_attn_implementation("eager")
            part.to(dtype).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.end_ids = {self.tokenizer.convert_tokens_to_ids("<|im_end|>")}
        self.side_px = config["vision_config"]["image_size"]
        self.num_tokens = num_tokens or config["num_tokens"]
        self.max_crops, self.strict, self.zoom_px, self.grid_px = max_crops, strict, zoom_px, (base_px, step_px)

    def run(self, pictures: Sequence[np.ndarray], question: str, answer: Sequence[int] = ()) -> Pass:
        """The prompt, with as many placeholders as tokens kept, then the answer, in one pass."""
        (picture,) = pictures
        height, width = picture.shape[:2]
        boxes = crop_boxes(width, height, self.max_crops, self.strict, *self.grid_px)
        shown = boxes + ([self.zoom_px] if self.zoom_px else [])
        pixels = torch.stack([self._pixels(picture, box) for box in shown]).to(self.decoder.dtype).requires_grad_()
        features = self._features(pixels)
        if self.num_tokens < len(boxes):
            raise ValueError(f"{self.num_tokens} tokens for {len(boxes)} views: none would be left for a view")
        kept = shares(self.num_tokens, len(boxes)) + [self.num_tokens] * bool(self.zoom_px)
        tokens = [
            projected(features[k, -count:], (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, self.state)
            for k, (count, (x0, y0, x1, y1)) in enumerate(zip(kept, shown, strict=True))
        ]
        counts = [sum(map(len, tokens[: len(boxes)])), sum(map(len, tokens[len(boxes) :]))]
        text = PROMPTS["mc-llava"](FRAMES["mc-llava"].replace("{question}", question), counts)
        prompt = list(self.tokenizer(text).input_ids)
        placeholder = self.tokenizer.convert_tokens_to_ids("<image>")
        places = [k for k, token in enumerate(prompt) if token == placeholder]
        embeds = self.decoder.get_input_embeddings()(torch.tensor([[*prompt, *answer]])).clone()
        embeds[0, places] = torch.cat(tokens)
        out = self.decoder(inputs_embeds=embeds, use_cache=False, output_attentions=True)
        frames = Shown({}, (len(boxes),), lambda values: values[: len(boxes)])
        return Pass(
            out.logits[0], tuple(out.attentions), torch.tensor(places[: counts[0]]), len(prompt) - 1, pixels, frames
        )  # fmt: skip

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}

    def _pixels(self, picture: np.ndarray, box: Box) -> Tensor:
        cut = Image.fromarray(picture).crop(box).resize((self.side_px, self.side_px), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1).double() / 127.5 - 1

    def _features(self, pixels: Tensor) -> Tensor:
        hidden = self.tower.embeddings(pixels)
        for layer in self.tower.encoder.layers:
            hidden = layer(hidden, attention_mask=None)
        return hidden[:, 1:]
