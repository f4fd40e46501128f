"""Small random weights under which a model behaves like a trained one: it looks somewhere, and answers in plain text.

They are scaled so that attention is far from uniform in tower and decoder (standard deviation 1.4 / sqrt(width)): default
initialisation attends almost evenly, and tests on it pass vacuously. Output rows of tokens that no answer may hold
(pictures, padding, lone bytes) are shrunk, so greedy answers are plain text; the end token's row is enlarged, so some
answers end early.
"""

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests.stand_ins import tiny_tokenizers as tokenizers

GAIN = 1.4


def randomise(model: nn.Module, seed: int, tied: bool = False) -> None:
    """Draw every parameter anew: matrices 1.4 / sqrt(fan in), embeddings and free tokens 1, norms near 1, biases 0.1."""
    generator = torch.Generator().manual_seed(seed)
    done: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in done:
                continue
            done.add(id(parameter))
            mean, std = _spread(path, module, name, parameter, tied)
            with torch.no_grad():
                parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))


def _spread(path: str, module: nn.Module, name: str, parameter: nn.Parameter, tied: bool) -> tuple[float, float]:
    if name.endswith("bias"):
        return 0.0, 0.1
    if "Norm" in type(module).__name__:
        return (GAIN if path.endswith(("q_norm", "k_norm")) else 1.0), 0.1
    if name.startswith("lambda"):  # InternVL's layer scale
        return 1.0, 0.1
    if isinstance(module, nn.Embedding):
        return 0.0, GAIN / parameter.shape[1] ** 0.5 if tied and "embed_tokens" in path else 1.0
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d | nn.MultiheadAttention):
        return 0.0, GAIN / parameter[0].numel() ** 0.5
    return 0.0, 1.0


def keep_answers_plain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Shrink the output rows of what no answer may hold; enlarge the end token's."""
    plain = {tokenizer.convert_tokens_to_ids(token) for token in ("▁", "Ġ", *tokenizers.PRINTABLE)}
    with torch.no_grad():
        rows = model.get_output_embeddings().weight
        rows[[k for k in range(len(rows)) if k not in plain and k != tokenizer.eos_token_id]] *= 0.2
        rows[tokenizer.eos_token_id] *= 1.15
