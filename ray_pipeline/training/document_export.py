"""The model of read lines: made anew for a training, written as a folder afterwards."""

from pathlib import Path

import torch

from ray_pipeline.models.line_llava_network import LineLlavaConfig, LineLlavaForConditionalGeneration
from ray_pipeline.models.line_llava_tokenizer import build_line_tokenizer

SIZES = {
    "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 6,
    "head_dim": 32, "max_position_embeddings": 16384, "tie_word_embeddings": True, "initializer_range": 0.07,
}  # fmt: skip


def new_network(seed: int = 1, **sizes: int) -> LineLlavaForConditionalGeneration:
    """Random weights, from a seed."""
    tokenizer = build_line_tokenizer()
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LineLlavaConfig(
        {"model_type": "llama", "vocab_size": len(tokenizer)} | SIZES | special | sizes, tie_word_embeddings=True
    )
    torch.manual_seed(seed)
    network = LineLlavaForConditionalGeneration(config)
    network.language_model.set_attn_implementation("fovea_rows")
    return network


def export(network: LineLlavaForConditionalGeneration, folder: Path) -> None:
    """Config, fp16 safetensors and tokenizer; what reads lines is put beside them by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    network.half().save_pretrained(folder)
    build_line_tokenizer().save_pretrained(folder)
