"""Many subjects of a study side by side, each to its end: what it came to, or how it failed."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from ray_pipeline.batching import converse
from ray_pipeline.models.contract import Family
from ray_pipeline.perceiver import Plan
from ray_pipeline.studies.subject import Studied, Study, Subject
from schemas.status import RowFailure

Key = TypeVar("Key", bound=Hashable)


def studied(family: Family, study: Study, subjects: Mapping[Key, Subject], plan: Plan) -> dict[Key, Studied | RowFailure]:
    """Every key once. Requests of one kind share calls of the model."""
    talks: dict[Any, Any] = {key: study(subject, plan) for key, subject in subjects.items()}
    ended: dict[Any, Any] = converse(family, talks)
    return ended
