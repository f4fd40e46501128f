"""The running mean of a network's weights, which is what a training hands on."""

import torch
from torch import nn


@torch.no_grad()
def follow(mean: nn.Module, network: nn.Module, step: int, most: float = 0.998, warmup: int = 19) -> None:
    """Mix in the weights after `step` steps, 1 or more; `most` of the mean stays, in the beginning less. Counters are copied."""
    share = 1 - min(most, step / (step + warmup))
    for old, new in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, share)
        else:
            old.copy_(new)
