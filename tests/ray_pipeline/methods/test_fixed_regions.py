"""Regions that a person chose: in the picture's own pixels, without a word to the model; and refused where they make no sense."""

import numpy as np
import pytest
from pydantic import ValidationError

from ray_pipeline.batching import converse
from ray_pipeline.perceiver import Plan, Seen, perceive
from schemas.methods import RefineSettings
from schemas.model import PromptSettings, ViewSettings
from schemas.picture import Picture
from tests.stand_ins.planted_model import PlantedModel

LEFT, LOW = (0.0, 0.1, 0.25, 0.9), (0.4, 0.75, 1.0, 1.0)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (301, 977)])
def test_every_picture_is_zoomed_at_its_own_size(width: int, height: int) -> None:
    picture = Picture(np.full((height, width, 3), 90, np.uint8), "0" * 64)
    refine = RefineSettings(method="fixed", regions_unit=(LEFT, LOW), keep="refined")
    seen = converse(
        PlantedModel(), {0: perceive(picture, "q", Plan(ViewSettings(), refine, PromptSettings(), PlantedModel.defaults))}
    )[0]
    assert isinstance(seen, Seen) and seen.map_YX is None
    said = seen.perception
    assert said.refinement.crops_px == (
        (0.0, 0.1 * height, 0.25 * width, 0.9 * height),
        (0.4 * width, 0.75 * height, width, height),
    )
    assert said.refinement.used and said.refinement.reason.startswith("2 fixed regions") and said.views == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"method": "fixed"}, "expected `fixed` with one region or more"),
        ({"method": "rel_att", "regions_unit": [LEFT]}, "'rel_att' with 1 refine.regions_unit"),
        ({"method": "fixed", "regions_unit": [LEFT], "mode": "official"}, "nothing of it is published"),
        ({"method": "fixed", "regions_unit": [(0.5, 0, 0.5, 1)]}, "0 <= x0 < x1 <= 1"),
        ({"method": "fixed", "regions_unit": [(0, 0.2, 1, 1.01)]}, "0 <= y0 < y1 <= 1"),
        ({"method": "fixed", "regions_unit": [(0, float("nan"), 1, 1)]}, "0 <= y0 < y1 <= 1"),
    ],
)
def test_regions_that_make_no_sense(given: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RefineSettings.model_validate(given)
    assert expected in str(refused.value)
