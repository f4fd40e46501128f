"""The model of read lines: made anew for a training, written as a folder afterwards."""

from pathlib import Path

import torch

from ray_pipeline.models.line_llava_network import LineLlavaConfig, LineLlavaForConditionalGeneration
from ray_pipeline.models.line_llava_tokenizer import build_line_tokenizer
from ray_pipeline.models.line_tokens import OCTAVES
from ray_pipeline.models.locations import LOCATIONS

SIZES = {
    "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 6,
    "head_dim": 32, "max_position_embeddings": 16384, "tie_word_embeddings": True, "initializer_range": 0.07,
}  # fmt: skip
COPY_GAIN = 3.0  # about what makes a character that is looked at the likeliest


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
    start_copying(network)
    start_locating(network)
    network.language_model.set_attn_implementation("fovea_rows")
    return network


@torch.no_grad()
def start_copying(network: LineLlavaForConditionalGeneration) -> None:
    """Let every layer begin by adding nothing, and the last one by handing on what it looks at.

    An answer's characters stand on the page: what they are must reach the end undrowned, and attention is what is to be learned.
    """
    layers = network.language_model.model.layers
    for layer in layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    for projection in (layers[-1].self_attn.v_proj, layers[-1].self_attn.o_proj):
        torch.nn.init.eye_(projection.weight)
    layers[-1].self_attn.o_proj.weight.mul_(COPY_GAIN)


@torch.no_grad()
def start_locating(network: LineLlavaForConditionalGeneration) -> None:
    """Let neighbouring locations begin with nearly the same embedding: waves of their place, projected at random.

    Those of a character's edges are waves too, so that one matrix turns what is looked at into where it stands.
    """
    table = network.language_model.get_input_embeddings().weight
    first = build_line_tokenizer().get_vocab()["<loc000>"]
    octaves = torch.pi * 2.0 ** torch.arange(OCTAVES)
    angles = (torch.arange(LOCATIONS)[:, None] + 0.5) / LOCATIONS * octaves
    waves = torch.cat([angles.sin(), angles.cos()], -1)
    projection = torch.randn(waves.shape[1], table.shape[1]) * (SIZES["initializer_range"] / OCTAVES**0.5)
    table[first : first + LOCATIONS] = waves @ projection


def export(network: LineLlavaForConditionalGeneration, folder: Path) -> None:
    """Config, fp16 safetensors and tokenizer; what reads lines is put beside them by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    network.half().save_pretrained(folder)
    build_line_tokenizer().save_pretrained(folder)
