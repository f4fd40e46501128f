"""Gated feed-forward layers that keep two tensors for their backward pass instead of three.

down(silu(gate(x)) * up(x)) makes the library keep gate, silu(gate) and up: the largest activations of a decoder. The
middle one costs next to nothing to compute again. For gradients towards the input only; weights get none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class GatedProduct(torch.autograd.Function):
    """silu(gate) * up, elementwise."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """The product; both factors are kept."""
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor]:
        """Gradients for gate and up."""
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), nn.functional.silu(gate).mul_(gradient)


@contextmanager
def lean_gates(decoder: nn.Module) -> Iterator[None]:
    """Inside, every gated layer of the decoder with a SiLU goes through `GatedProduct`; other layers stay as they are."""
    found = [module for module in decoder.modules() if _gated(module)]
    for module in found:
        module.forward = partial(_forward, module)  # on the instance, over the class's own
    try:
        yield
    finally:
        for module in found:
            del module.forward


def _gated(module: nn.Module) -> bool:
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    return all(isinstance(part, nn.Linear) for part in parts) and type(getattr(module, "act_fn", None)).__name__ in (
        "SiLU",
        "SiLUActivation",
    )


def _forward(module: Any, states: Tensor) -> Tensor:
    product: Tensor = GatedProduct.apply(module.gate_proj(states), module.up_proj(states))
    projected: Tensor = module.down_proj(product)
    return projected
