"""FOCUS where a person has already said where to look: the same regions of every picture, such as the edge of a part in a jig."""

from collections.abc import Generator

from ray_pipeline.methods.focus import Focus, Question
from ray_pipeline.models.contract import FamilyDefaults, Reply, Request, VisualTokens
from schemas.methods import RefineSettings


def fixed_regions(
    tokens: VisualTokens, question: Question, generic: str, settings: RefineSettings, defaults: FamilyDefaults
) -> Generator[Request, Reply, Focus]:
    """The regions of the settings in pixels of this picture, in the order given; nothing is asked of the model."""
    width, height = tokens.picture.width, tokens.picture.height
    boxes_px = tuple((x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in settings.regions_unit)
    yield from ()
    return Focus(boxes_px, f"{len(boxes_px)} fixed region{'s' * (len(boxes_px) > 1)}", None)
