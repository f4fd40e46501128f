"""Which settings serve best for what a row may cost: a small grid, answered on some labelled rows one after the other.

A strategy is a few settings by dotted name, laid over those of the run; settings that somebody has set stay as they are.
"""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ray_pipeline.actor import planned
from ray_pipeline.batching import Ended, converse
from ray_pipeline.calibration.labelled_rows import LabelledRow
from ray_pipeline.delivery.rows import PictureFacts, failed_row, ok_row
from ray_pipeline.methods.pool import IouRegressor
from ray_pipeline.models.contract import Abilities, Family
from ray_pipeline.models.profiles import SELECTS_BY_PROFILE
from ray_pipeline.perceiver import Plan, Seen, perceive
from ray_pipeline.scoring.answers import score_answer
from ray_pipeline.scoring.bootstrap import Draws, interval
from ray_pipeline.scoring.scored_row import ScoredRow, Sureness
from schemas.job import JobSettings
from schemas.picture import Picture
from schemas.profile import HeadProfile, Strategy

Keys = Mapping[str, Any]
DRAWS = 2000
CROPS = 8  # besides the whole picture, for families that show crops of their own choosing


@dataclass(frozen=True)
class Knowledge:
    """What has been learned about the model so far."""

    heads: HeadProfile | None = None
    regressor: IouRegressor | None = None


@dataclass
class Measured:
    """One strategy's rows so far: what each was worth (0 or 1), its picture, and the time all of them took."""

    keys: Keys
    worths: list[float] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        return sum(self.worths) / len(self.worths) if self.worths else 0.0

    @property
    def row_s(self) -> float:
        return self.seconds / len(self.worths) if self.worths else 0.0

    def bracket(self, seed: int) -> tuple[float, float]:
        """95 % around the accuracy, from drawing pictures again; the accuracy itself where draws cannot tell."""
        worths_N1 = np.array(self.worths)[:, None]
        found = interval(Draws(self.images, DRAWS, seed).ratios(worths_N1, np.ones_like(worths_N1))[:, 0])
        return (found.low, found.high) if found else (self.accuracy, self.accuracy)


def grid(
    settings: JobSettings, given: Set[str], able: Abilities, layer_known: bool, boxes: bool, knowledge: Knowledge
) -> list[dict[str, Any]]:
    """The strategies worth trying with this model, each once; the first is the settings as they are.

    `given` keys stay as they are. `boxes`: some rows are judged by their box, so that a choice among candidates can matter.
    """
    methods = [one for one in ("rel_att", "grad_att", "pure_grad", "auto") if one in able.focus]
    zooms: list[dict[str, Any]] = [{"refine.method": one} for one in methods if layer_known or one == "pure_grad"]
    if layer_known and "rel_att" in methods:
        zooms += [{"refine.method": "rel_att", "refine.gate": 1.0}, {"refine.method": "rel_att", "refine.regions": 2}]
        zooms += [{"refine.method": "rel_att", "refine.looks": 2}] if able.boxes else []
    looks = [{"refine.method": "none"}, *zooms]
    crops = [{"views.max_crops": CROPS, **one} for one in looks[:2]] if able.crops else []
    selects = ["medoid"] if able.boxes and boxes else []
    selects += [
        name
        for name, there in (("acs_free", knowledge.heads and knowledge.heads.heads), ("acs_learned", knowledge.regressor))
        if selects and there
    ]
    chosen = [{"select.method": name, **one} for name in selects for one in looks[:2]]
    found: list[dict[str, Any]] = []
    known: list[dict[str, Any]] = []
    for keys in ({}, *looks, *crops, *chosen):
        left = {key: value for key, value in keys.items() if key not in given}
        try:
            whole = laid_over(settings, left).model_dump()
        except ValueError:  # what contradicts a setting given is none of the choices
            continue
        if whole not in known:
            known.append(whole)
            found.append(left)
    return found


def laid_over(settings: JobSettings, keys: Keys) -> JobSettings:
    """The settings with others in their place, checked together.

    Raises:
        ValueError: settings that contradict each other.
    """
    tree = settings.model_dump()
    for key, value in keys.items():
        group, name = key.split(".")
        tree[group][name] = value
    return JobSettings.model_validate(tree)


def plan_of(settings: JobSettings, family: Family, knowledge: Knowledge) -> Plan:
    """How rows are answered under settings, with heads and regressor just learned in the place of those on disk."""
    if settings.select.method not in SELECTS_BY_PROFILE or knowledge.heads is None:
        return planned(settings, family)
    bare = planned(settings.model_copy(update={"select": settings.select.model_copy(update={"method": "medoid"})}), family)
    fields = {name: getattr(bare, name) for name in bare.__dataclass_fields__}
    return Plan(**fields | {"select": settings.select, "profile": knowledge.heads, "regressor": knowledge.regressor})


def answered(family: Family, plan: Plan, shown: Sequence[tuple[LabelledRow, Picture]]) -> list[ScoredRow]:
    """Rows answered side by side and scored as `evaluate` scores them, in order."""
    ended = converse(family, {k: perceive(picture, one.row.question or "", plan) for k, (one, picture) in enumerate(shown)})
    return [scored(one, picture, ended[k], plan) for k, (one, picture) in enumerate(shown)]


def scored(one: LabelledRow, picture: Picture, end: Ended, plan: Plan) -> ScoredRow:
    """One row's end against its truth; the first answer's sureness beside those of the last, as `baseline`."""
    facts = PictureFacts(picture.width, picture.height, picture.sha256)
    row = ok_row(one.row, facts, end.perception) if isinstance(end, Seen) else failed_row(one.row, end, facts)
    found = score_answer(row, one.truth, plan.prompt.template == "locate")
    if row["baseline_confidence"] is None or "exact_match" not in found.before:
        return found
    first = Sureness("baseline", row["baseline_confidence"], bool(found.before["exact_match"].part))
    return ScoredRow(**{**found.__dict__, "sureness": (*found.sureness, first)})


def worth(row: ScoredRow) -> float | None:
    """1 where the row is right, 0 where it is wrong: by its box where a box was asked for, else by its text."""
    names = ("acc_50", "box_given") if "box_given" in row.scores else ("exact_match", "acc_50")
    return next((row.scores[name].part for name in names if name in row.scores), None)


def measure(family: Family, plans: Sequence[tuple[Measured, Plan]], shown: Sequence[tuple[LabelledRow, Picture]]) -> None:
    """Every strategy on the same rows in turn: what the machine does meanwhile falls on all alike."""
    for into, plan in plans:
        started = time.perf_counter()
        rows = answered(family, plan, shown)
        seconds = time.perf_counter() - started
        worths = [(one.image, value) for (one, _), row in zip(shown, rows, strict=True) if (value := worth(row)) is not None]
        into.seconds += seconds * len(worths) / len(rows)
        into.images += [image for image, _ in worths]
        into.worths += [value for _, value in worths]


def pareto(found: Sequence[Measured]) -> list[bool]:
    """Of each strategy, whether none is better without taking longer, or faster without being worse."""
    points = [(one.accuracy, one.row_s) for one in found]
    return [not any(a >= b and s <= t and (a, s) != (b, t) for a, s in points) for b, t in points]


def best(found: Sequence[Measured], cost_per_row_s: float | None, seed: int) -> Strategy:
    """The fastest of those within the cost that are as accurate as the best of them, as far as these rows can tell.

    That is by the one-standard-error rule: the mean difference to the best, row by row, is no more than its own standard
    error. The most accurate of many would owe a part of its lead to chance, and cost more for nothing.

    Raises:
        ValueError: nothing was measured, or all of it costs more.
    """
    affordable = [one for one in found if one.worths and (cost_per_row_s is None or one.row_s <= cost_per_row_s)]
    if not affordable:
        least = min((one.row_s for one in found if one.worths), default=None)
        raise ValueError(
            "no row could be judged, expected some with references or boxes"
            if least is None
            else f"the fastest of {len(found)} takes {least:.3g} s a row, expected at most {cost_per_row_s:g} s"
        )
    leader = max(affordable, key=lambda one: (one.accuracy, -one.row_s))
    one = min((one for one in affordable if _as_good(one, leader)), key=lambda one: (one.row_s, -one.accuracy))
    low, high = one.bracket(seed)
    return Strategy(
        settings=dict(one.keys), rows=len(one.worths), accuracy=one.accuracy, low=min(low, one.accuracy),
        high=max(high, one.accuracy), row_s=one.row_s, cost_per_row_s=cost_per_row_s,
    )  # fmt: skip


def _as_good(one: Measured, leader: Measured) -> bool:
    behind_N = np.array(leader.worths) - np.array(one.worths)
    error = behind_N.std(ddof=min(1, len(behind_N) - 1)) / np.sqrt(len(behind_N))
    return bool(behind_N.mean() <= error + 1e-12)  # one row of difference is exactly its own error
