"""Gated feed-forward layers that keep two tensors for their backward passes instead of three.

down(silu(gate(x)) * up(x)) makes the library keep gate, silu(gate) and up: the largest activations of a decoder. A gradient
is multiplied by silu(gate) and by up * silu'(gate), and by nothing else: these two are made on the way forward and kept,
so that every backward pass, and there is one a question, is two multiplications. For gradients towards the input only;
weights get none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class GatedProduct(torch.autograd.Function):
    """silu(gate) * up, elementwise. `up` is used up: its memory then holds what a gradient for the gate is multiplied by.

    Nobody else may read `up` afterwards. In `_forward` nobody can: it is a linear layer's output, which no linear layer
    keeps, and no one else is given it.
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """The product; both factors of the backward pass are kept."""
        open_gate = nn.functional.silu(gate)
        product = open_gate * up
        torch.ops.aten.silu_backward.grad_input(up, gate, grad_input=up)
        ctx.save_for_backward(open_gate, up.detach())
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor]:
        """Gradients for gate and up."""
        open_gate, up_slope = ctx.saved_tensors
        return gradients[0] * up_slope, gradients[0] * open_gate


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
