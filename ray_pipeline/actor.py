"""What one model process holds: the model, loaded once. Questions about pictures in, the same questions answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ray_pipeline.batching import Ended, converse
from ray_pipeline.methods.acs_learned import AirS
from ray_pipeline.models.contract import Family
from ray_pipeline.models.families import load_family
from ray_pipeline.models.profiles import find_profile, regressor_bytes
from ray_pipeline.models.weights import model_folder
from ray_pipeline.perceiver import Plan, perceive
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture

Load = Callable[[ModelSettings, ViewSettings, PromptSettings], Family]


@dataclass(frozen=True)
class Asked:
    """One row's question about its decoded picture."""

    picture: Picture
    question: str


def planned(settings: JobSettings, family: Family) -> Plan:
    """How this family perceives under a run's settings, with what calibration learned about it, where the run needs that."""
    profile = regressor = None
    if settings.select.method != "greedy":
        folder = model_folder(settings.model.name, settings.model.revision)
        profile, stored = find_profile(folder, settings.select), regressor_bytes(folder, settings.select)
        regressor = AirS.from_bytes(stored) if stored else None
    return Plan(
        settings.views, settings.refine, settings.prompt, family.defaults, settings.select, settings.fusion, profile, regressor,
        settings.run.seed,
    )  # fmt: skip


class Actor:
    """A loaded model with the run's plan."""

    def __init__(self, settings: JobSettings, load: Load = load_family) -> None:
        torch.set_num_threads(settings.model.threads)
        torch.manual_seed(settings.run.seed)
        self.family = load(settings.model, settings.views, settings.prompt)
        self.plan = planned(settings, self.family)

    def answer(self, rows: Mapping[int, Asked]) -> dict[int, Ended]:
        """Answer all rows side by side; every key comes back once, with what was seen or how it failed."""
        return converse(self.family, {key: perceive(row.picture, row.question, self.plan) for key, row in rows.items()})
