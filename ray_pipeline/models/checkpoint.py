"""A checkpoint as the library reads it: network, tokenizer, and the tokens that end an answer.

Folders have passed the gate of `weights` before. What is loaded here is whole, in the configured precision and on the
configured device; families freeze it when they take it over.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ray_pipeline.models.weights import ModelRefused, refuse_partial_weights
from schemas.model import ModelSettings

Network = TypeVar("Network", bound=PreTrainedModel)


def load_network(network_class: type[Network], folder: Path, model: ModelSettings) -> Network:
    """From safetensors alone, with the library's fast attention.

    Raises:
        ModelRefused: weights are missing or have another shape.
    """
    loaded: Any = network_class.from_pretrained(
        folder, dtype=precision(model), use_safetensors=True, attn_implementation="sdpa", output_loading_info=True
    )
    network: Network = loaded[0]
    refuse_partial_weights(folder, loaded[1])
    return on_device(network, model)


def precision(model: ModelSettings) -> torch.dtype:
    """Of weights and activations."""
    dtype: torch.dtype = getattr(torch, model.dtype)
    return dtype


def on_device(network: Network, model: ModelSettings) -> Network:
    """The network itself, moved; `auto` is the GPU where there is one."""
    device = model.device if model.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.Module.to(network, device)
    return network


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A class of the library's own, whatever the folder names."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer


def all_end_ids(settings: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What the generation settings (None where a folder has none) name, and the tokenizer's own end as well.

    Raises:
        ModelRefused: neither names a token.
    """
    ends = getattr(settings, "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    found = frozenset(int(token) for token in [*listed, tokenizer.eos_token_id] if token is not None)
    if not found:
        raise ModelRefused("neither the generation config nor the tokenizer names a token that ends an answer")
    return found


def settled_end_ids(settings: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What the generation settings name, and the tokenizer's own end only where they name none."""
    ends = settings.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset(ends if isinstance(ends, list) else [ends])
