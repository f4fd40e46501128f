"""What one model process holds: the model, loaded once. Pictures in, each answered about or read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ray_pipeline.batching import Ended, RowLimit, ends
from ray_pipeline.methods.box_regressor import read_regressor
from ray_pipeline.models.contract import Family
from ray_pipeline.models.families import load_family, ways
from ray_pipeline.models.profiles import confidence_maps, find_profile, regressor_bytes, resolved
from ray_pipeline.models.weights import model_folder
from ray_pipeline.page_labeller import label_picture
from ray_pipeline.page_reader import read_page
from ray_pipeline.perceiver import Conversation, Plan, Ways, perceive
from schemas.job import JobSettings
from schemas.model import ModelSettings, PromptSettings, ViewSettings
from schemas.picture import Picture
from schemas.profile import ConfidenceMap, Sure
from schemas.reading import Task

Load = Callable[[ModelSettings, ViewSettings, PromptSettings], Family]


@dataclass(frozen=True)
class Asked:
    """One row's decoded picture, and what is asked about it: a question, phrases, or nothing where a page is read."""

    picture: Picture
    question: str = ""
    phrases: tuple[str, ...] = ()


TASKS: dict[Task, Callable[[Asked, Plan], Conversation]] = {
    "answer": lambda row, plan: perceive(row.picture, row.question, plan),
    "ocr": lambda row, plan: read_page(row.picture, plan),
    "label": lambda row, plan: label_picture(row.picture, row.phrases or plan.label.phrases, plan),
}
READING_PROMPT = PromptSettings(template="plain")  # what is asked for is the family's own, and nothing is added to it


def planned(settings: JobSettings, family: Family) -> Plan:
    """How this family perceives under a run's resolved settings, with what calibration learned about it, as far as needed."""
    profile = regressor = None
    if settings.select.method != "greedy":
        folder = model_folder(settings.model.name, settings.model.revision)
        profile, stored = find_profile(folder, settings.select), regressor_bytes(folder, settings.select)
        regressor = read_regressor(stored) if stored else None
    return Plan(
        settings.views, settings.refine, settings.prompt, family.defaults, settings.select, settings.fusion, profile, regressor,
        settings.run.seed, settings.ocr, settings.label, _ways(settings, family),
    )  # fmt: skip


def calibrated(settings: JobSettings) -> tuple[JobSettings, dict[Sure, ConfidenceMap]]:
    """Settings with all that their profile sets, and its confidence maps, as far as they hold under these settings."""
    if settings.profile is None:
        return settings, {}
    settings, found = resolved(settings, model_folder(settings.model.name, settings.model.revision))
    return settings, confidence_maps(settings, found.profile)[0] if found else {}


def _ways(settings: JobSettings, family: Family) -> Ways:
    """How a run of `label` finds phrases with this model; of no matter to others."""
    if settings.task != "label":
        return Ways()
    return Ways(*ways(settings), settings.prompt.question or family.defaults.locate)


class Actor:
    """A loaded model with the run's plan."""

    def __init__(self, settings: JobSettings, load: Load = load_family) -> None:
        torch.set_num_threads(settings.model.threads)
        torch.manual_seed(settings.run.seed)
        settings, confidences = calibrated(settings)
        prompt = settings.prompt if settings.task == "answer" else READING_PROMPT
        self.family = load(settings.model, settings.views, prompt)
        self.plan = replace(planned(settings, self.family), confidences=confidences)
        self.talk = TASKS[settings.task]
        self.limit = RowLimit(settings.run.batch)
        self.strict = settings.run.strict

    def answers(self, rows: Mapping[int, Asked]) -> Iterator[tuple[int, Ended] | None]:
        """What was seen of each row, or how it failed, as it comes; every key once, and None after each call of the model.

        Rows go side by side, or one after the other where the run is strict: then no row's numbers depend, in their last
        digits, on what shared a call with it.
        """
        talks = {key: self.talk(row, self.plan) for key, row in rows.items()}
        groups = [{key: talk} for key, talk in talks.items()] if self.strict else [talks]
        for group in groups:
            yield from ends(self.family, group, self.limit)

    def answer(self, rows: Mapping[int, Asked]) -> dict[int, Ended]:
        """All rows' ends at once."""
        return dict(end for end in self.answers(rows) if end is not None)
