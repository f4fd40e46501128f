"""The pool: all that a selector may look at when it chooses among candidates, and the choice it makes.

Legend: K candidates, C coordinates, L layers read, H heads, T visual tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from ray_pipeline.geometry.footprints import Footprints
from ray_pipeline.methods.candidates import Candidate
from schemas.methods import SelectSettings
from schemas.picture import Box
from schemas.profile import COORDINATES, HeadProfile

TokenView = Literal["finest_view", "all"]


class IouRegressor(Protocol):
    """Predicts how good a box is from the attention that wrote it (ACS section 5); foreign checkpoints fit in here.

    `layers` are the decoder layers it reads, 0-based and in its own order, `heads` the query heads of each.
    """

    @property
    def layers(self) -> tuple[int, ...]: ...

    @property
    def heads(self) -> int: ...

    def rate(self, candidates: Sequence[Candidate], footprints: Footprints, width: int, height: int) -> Tensor:
        """Expected IoU with what was asked for, (K,) in 0..1, of all candidates of one question.

        Their attention (C, L, H, T) is at its own layers. NaN where a candidate's attention cannot be read.
        """
        ...


@dataclass(frozen=True)
class Choice:
    """What a selector decided. `index` is the chosen answer's number as drawn, None where the box is nobody's own.

    `entropies_nats` and `predicted_ious` stand beside the pool's candidates, None where nothing was counted: mean attention
    entropy on the profile's heads, or of the digits for `least_entropy`. A reason that begins with "fallback" says that the
    method asked for could not decide.
    """

    box_px: Box | None
    index: int | None
    reason: str
    entropies_nats: tuple[float | None, ...] = ()
    predicted_ious: tuple[float | None, ...] = ()

    @property
    def fell_back(self) -> bool:
        """The method asked for could not decide."""
        return self.reason.startswith("fallback")


@dataclass(frozen=True)
class Pool:
    """Candidates of one question on one picture of width x height px, and what is known about their model.

    `layers` are those of the candidates' attention, in order. `seed` belongs to this row.

    Raises:
        ValueError: no candidates, or attention that is not (4, layers, heads, tokens).
    """

    candidates: tuple[Candidate, ...]
    footprints: Footprints
    width: int
    height: int
    settings: SelectSettings
    layers: tuple[int, ...] = ()
    profile: HeadProfile | None = None
    regressor: IouRegressor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ValueError("0 candidates, expected at least 1")
        for candidate in self.candidates:
            if candidate.weights_CLHT is not None:
                self._check_shape(candidate.weights_CLHT)

    def pick(
        self, place: int, reason: str, entropies: Sequence[float | None] = (), predicted: Sequence[float | None] = ()
    ) -> Choice:
        """The candidate at a place of the pool, and what was counted on the way, beside each candidate."""
        nothing = [None] * len(self.candidates)
        chosen = self.candidates[place]
        return Choice(chosen.box_px, chosen.index, reason, tuple(entropies or nothing), tuple(predicted or nothing))

    def _check_shape(self, weights_CLHT: Tensor) -> None:
        shape, expected = tuple(weights_CLHT.shape), (len(COORDINATES), len(self.layers), "heads", len(self.footprints))
        if len(shape) != 4 or (shape[0], shape[1], shape[3]) != (expected[0], expected[1], expected[3]):
            raise ValueError(f"attention of shape {shape}, expected {expected}: weights would fall on the wrong layers or tokens")


def told(values_K: Tensor) -> tuple[float | None, ...]:
    """Numbers beside the candidates as plain ones, None where one is not finite: nothing was counted there."""
    return tuple(value if math.isfinite(value) else None for value in values_K.tolist())
