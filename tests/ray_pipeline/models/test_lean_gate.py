"""Gated layers that keep what their backward passes multiply by."""

import pytest
import torch
from torch import Tensor, nn

from ray_pipeline.models.lean_gate import GatedProduct, lean_gates


class Gated(nn.Module):
    """A decoder's feed-forward layer as the library writes it."""

    def __init__(self, activation: nn.Module, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(6, 10, bias=bias), nn.Linear(6, 10, bias=bias)
        self.down_proj, self.act_fn = nn.Linear(10, 6, bias=bias), activation

    def forward(self, states: Tensor) -> Tensor:
        product: Tensor = self.act_fn(self.gate_proj(states)) * self.up_proj(states)
        projected: Tensor = self.down_proj(product)
        return projected


def layer(activation: nn.Module, bias: bool = False) -> Gated:
    torch.manual_seed(3)
    return Gated(activation, bias).double().requires_grad_(False)


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_every_backward_pass_is_the_plain_layer_s(passes: int, bias: bool) -> None:
    gated = layer(nn.SiLU(), bias)
    states = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
    inward = [torch.randn(2, 7, 6, dtype=torch.float64) for _ in range(passes)]
    plain = gated(states)
    expected = [torch.autograd.grad(plain, states, one, retain_graph=True)[0] for one in inward]
    with lean_gates(gated):
        lean = gated(states)
    torch.testing.assert_close(lean, plain)
    for k, (one, want) in enumerate(zip(inward, expected, strict=True)):
        (got,) = torch.autograd.grad(lean, states, one, retain_graph=k + 1 < passes)
        torch.testing.assert_close(got, want)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(lean, states, inward[0])


def test_gradients_are_those_of_differences() -> None:
    gate, up = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: GatedProduct.apply(a.clone(), b.clone()), (gate, up))


def test_two_tensors_are_kept() -> None:
    gated, kept = layer(nn.SiLU()), []
    states = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    with lean_gates(gated), torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
        gated(states)
    assert kept.count((7, 10)) == 2


def test_other_layers_stay_as_they_are_and_gates_come_back() -> None:
    swish, other = layer(nn.SiLU()), layer(nn.GELU())
    with lean_gates(nn.ModuleList([swish, other])):
        assert "forward" in vars(swish) and "forward" not in vars(other)
    with pytest.raises(ZeroDivisionError), lean_gates(swish):
        raise ZeroDivisionError
    assert "forward" not in vars(swish)
