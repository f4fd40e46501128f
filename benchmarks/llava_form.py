"""A LLaVA of random weights in the published form (336 px, 576 image tokens), and the routes as published, for timing.

The published routes are written as the research code runs them: eager attention, every layer's full matrices returned,
one sequence at a time. Sizes are the caller's; answers are as long as asked, since random weights end nowhere sensible.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

QUESTION = "What is the name of the shop on the small green sign above the door?"
GENERIC = "Write a general description of the image."
TEMPLATE = "\nUSER: {question} Answer the question using a single word or phrase.\nASSISTANT:"
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
IMAGE_TOKENS, INPUT_PX = 576, 336
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def save_folder(folder: Path, width: int, layers: int, seed: int = 0) -> Path:
    """A model folder as the real loading code expects it; one token a word or mark, as real tokenisers come near to."""
    words = sorted(set(re.findall(r"\w+|[^\w\s]|\n", QUESTION + GENERIC + TEMPLATE)))
    vocabulary = {token: k for k, token in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Punctuation()]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    vision = CLIPVisionConfig(
        hidden_size=width // 4,
        intermediate_size=width,
        num_hidden_layers=12,
        num_attention_heads=4,
        image_size=INPUT_PX,
        patch_size=14,
    )
    text = LlamaConfig(
        hidden_size=width,
        intermediate_size=11 * width // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=32064,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        initializer_range=1.0 / width**0.5,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=vocabulary["<image>"], image_seq_length=IMAGE_TOKENS
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processing = {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": INPUT_PX, "width": INPUT_PX},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": INPUT_PX},
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processing))
    return folder


@dataclass
class Published:
    """The routes of the research code on one model. Pictures come as normalised pixels (pictures, 3, 336, 336)."""

    model: Any  # a LlavaForConditionalGeneration, to whose type the library denies `generate`
    tokenizer: PreTrainedTokenizerFast
    layer: int

    @classmethod
    def load(cls, folder: Path, attention: str, layer: int) -> "Published":
        model = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32)
        return cls(model.eval(), PreTrainedTokenizerFast.from_pretrained(folder), layer)  # weights keep requiring gradients

    def ids(self, question: str, pictures: int) -> Tensor:
        text = "<image>" * IMAGE_TOKENS * pictures + TEMPLATE.format(question=question)
        return torch.tensor([[1, *self.tokenizer(text, add_special_tokens=False).input_ids]])

    def answer(self, pixels: Tensor, question: str, tokens: int) -> Tensor:
        """A plain query through the library's `generate`, of exactly so many tokens."""
        ids = self.ids(question, len(pixels))
        drawn: Tensor = self.model.generate(  # without gradients, as the library does it
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, do_sample=False,
            min_new_tokens=tokens, max_new_tokens=tokens,
        )  # fmt: skip
        return drawn[:, ids.shape[1] :]

    def row(self, pixels: Tensor, question: str) -> Tensor:
        """rel-att's row as published: with autograd on, all layers' matrices returned, one row of one layer used."""
        out = self.model(input_ids=self.ids(question, 1), pixel_values=pixels, output_attentions=True)
        row: Tensor = out.attentions[self.layer][0, :, -1, 1 : 1 + IMAGE_TOKENS].mean(0)
        return row

    def rel_att(self, pixels: Tensor) -> Tensor:
        """The quotient map, (576,)."""
        return self.row(pixels, QUESTION) / self.row(pixels, GENERIC)

    def grad_att(self, pixels: Tensor) -> Tensor:
        """Attention times the positive part of its gradient, through the whole matrix of the layer, (576,)."""
        out = self.model(input_ids=self.ids(QUESTION, 1), pixel_values=pixels, output_attentions=True)
        matrix, logits = out.attentions[self.layer], out.logits[:, -1]
        loss = torch.nn.functional.cross_entropy(logits, logits.argmax(-1))
        (gradient,) = torch.autograd.grad(-loss, matrix)
        map_T: Tensor = (matrix * gradient.clamp(min=0)).mean(1)[0, -1, 1 : 1 + IMAGE_TOKENS].detach()
        return map_T

    def pure_grad(self, pixels: Tensor) -> Tensor:
        """Quotient of pixel gradient norms for both prompts, two forward and two backward passes, (336, 336)."""
        norms: list[Tensor] = []
        for question in (QUESTION, GENERIC):
            leaf = pixels.clone().requires_grad_()
            logits = self.model(input_ids=self.ids(question, 1), pixel_values=leaf, output_attentions=True).logits[:, -1]
            (gradient,) = torch.autograd.grad(-torch.nn.functional.cross_entropy(logits, logits.argmax(-1)), leaf)
            norms.append(gradient[0].norm(dim=0))
        return norms[0] / norms[1]

    def candidates(self, pixels: Tensor, count: int, tokens: int, layers: tuple[int, ...]) -> Tensor:
        """ACS as written down: `count` returned sequences, then one eager teacher-forced pass over each."""
        ids = self.ids(QUESTION, 1)
        self.model.set_attn_implementation("sdpa")
        drawn = self.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, do_sample=True, temperature=0.8, top_p=0.95,
            top_k=0, num_return_sequences=count, min_new_tokens=tokens, max_new_tokens=tokens,
        )  # fmt: skip
        self.model.set_attn_implementation("eager")
        rows = []
        with torch.no_grad():
            for sequence in drawn:
                out = self.model(input_ids=sequence[None], pixel_values=pixels, output_attentions=True)
                kept = [out.attentions[layer][0, :, ids.shape[1] - 1 : -1, 1 : 1 + IMAGE_TOKENS] for layer in layers]
                rows.append(torch.stack(kept))
        return torch.stack(rows)
