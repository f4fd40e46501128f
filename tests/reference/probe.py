"""Plain attention in the precision of its input, under a test's control."""

from typing import Any

from torch import Tensor, nn


class Probe:
    """An attention function to register: notes in `peaks` how unevenly each module attends (largest weight of the last row,
    mean over heads, in multiples of an even share) and adds `nudge` to one probability: module, index, amount."""

    def __init__(self) -> None:
        self.peaks: dict[nn.Module, float] = {}
        self.nudge: tuple[nn.Module, tuple[int, ...], float] | None = None

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ key.transpose(2, 3) * scaling
        if attention_mask is not None:
            scores = scores + attention_mask[..., : key.shape[2]]
        weights = scores.softmax(-1)
        last = weights[:, :, -1]  # sees every key
        peak = float(last.detach().amax(-1).mean()) * last.shape[-1]
        self.peaks[module] = max(peak, self.peaks.get(module, 0.0))
        if self.nudge and self.nudge[0] is module:
            weights = weights.clone()
            weights[self.nudge[1]] += self.nudge[2]
        return (weights @ value).transpose(1, 2).contiguous(), weights
