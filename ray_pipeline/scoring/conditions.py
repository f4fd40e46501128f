"""Studies that ask a model the same questions under several conditions: tables by size, conditions compared pair by pair.

Every question is asked under all conditions of a study, so that each comparison is paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ray_pipeline.scoring.anls import exact_match
from ray_pipeline.scoring.bootstrap import Draws
from ray_pipeline.scoring.differences import Difference
from ray_pipeline.scoring.evaluation import by_size, study_groups
from ray_pipeline.scoring.markdown import contrasts_text, differences_text, groups_text, meanings
from ray_pipeline.scoring.matching import SAME_BOX
from ray_pipeline.scoring.measures import MEASURES
from ray_pipeline.scoring.overlap import overlaps
from ray_pipeline.scoring.scored_row import Groups, ScoredRow
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.sizes import SHOWN, SIZES, UNKNOWN
from ray_pipeline.scoring.tables import Contrast, Group, contrasts, scores_of
from schemas.picture import Box

RIGHT = "exact_match"  # the measure that two conditions are compared by


@dataclass(frozen=True)
class Layout:
    """How a study is told. `pairs`: the first condition of each is compared with the second.

    `split`: conditions whose right and wrong answers get tables of their own, and a contrast.
    """

    title: str
    pairs: tuple[tuple[str, str], ...] = ()
    split: str | None = None


LAYOUTS = {
    "zooming": Layout("Size sensitivity, and what zooming recovers of it", (("zoomed", "whole"), ("true_crop", "zoomed"))),
    "attention": Layout("Where the model looks, from the whole picture", split="whole"),
    "occlusion": Layout(
        "What the answer depends on",
        (("random_hidden", "whole"), ("top_hidden", "random_hidden"), ("thing_hidden", "whole")),
    ),
    "several": Layout(
        "Questions about several things",
        (("one_crop", "whole"), ("crop_each", "one_crop"), ("true_crop", "crop_each")),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """One question: whose picture it is about, how large what it is about is, whether the answer was right under each
    condition, and other figures of it."""

    picture: str
    size: str
    right: Mapping[str, bool]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyTables:
    """`tables` by title; `pairs` by both conditions' titles, then by size (`all` first).

    `contrasts`: figures of right minus those of wrong answers, size by size: over all sizes, that difference would be one of
    sizes, as large things are read more often, and small boxes leave more room above chance.
    """

    rows: int
    pictures: int
    tables: Mapping[str, Sequence[Group]]
    pairs: Mapping[tuple[str, str], Mapping[str, Mapping[str, Difference]]]
    contrasts: Mapping[str, Mapping[str, Contrast]]


def is_right(text: str, box_px: Box | None, references: Sequence[str], true_px: Sequence[Box]) -> bool:
    """The text is one of the references, case and white space aside; without references, the box overlaps a true one by half."""
    if texts := [reference for reference in references if reference.strip()]:
        return exact_match(text, texts) == 1
    return bool(box_px and true_px and float(overlaps([box_px], true_px).max()) >= SAME_BOX)


def study_tables(outcomes: Sequence[Outcome], layout: Layout, count: int, seed: int) -> StudyTables:
    """All tables of a study, with intervals from `count` draws of pictures."""
    rows = [_row(place, outcome) for place, outcome in enumerate(outcomes)]
    names = [name for name in MEASURES if any(name in row.scores for row in rows)]
    draws = Draws([row.groups.picture for row in rows], count, seed)
    tables = {layout.title: study_groups(rows, names, draws, scores_of)}
    apart: dict[str, Mapping[str, Contrast]] = {}
    if layout.split is not None:
        split = layout.split
        figures = [name for name in names if name not in outcomes[0].right]
        for answer, wanted in (("Right answers", 1.0), ("Wrong answers", 0.0)):
            some = [row for row in rows if row.scores[split].part == wanted]
            own = Draws([row.groups.picture for row in some], count, seed)
            tables[answer] = study_groups(some, figures, own, scores_of) if some else []
        for size in (*SIZES, UNKNOWN):
            one = contrasts(rows, figures, draws, _answered(split, 1.0, size), _answered(split, 0.0, size))
            apart |= {size: one} if one else {}
    pairs = {
        (MEASURES[one].title, MEASURES[other].title): by_size(
            rows, [_only(row, one) for row in rows], [_only(row, other) for row in rows], [RIGHT], count, seed
        )
        for one, other in layout.pairs
    }
    return StudyTables(len(rows), draws.pictures, tables, pairs, apart)


def study_text(found: StudyTables, shown: Mapping[str, str] = SHOWN) -> str:
    """The tables as Markdown, sizes by the names `shown`, and what their columns mean."""
    sections = [groups_text(title, members, shown) for title, members in found.tables.items() if members]
    for size, one in found.contrasts.items():
        sections.append(contrasts_text(f"Right minus wrong answers: {shown.get(size, size)}", one))
    for sides, sizes in found.pairs.items():
        sections.append(differences_text(f"{sides[0]} against {sides[1]}", sides, sizes, shown))
    groups = [group for members in found.tables.values() for group in members]
    sections.append(meanings([name for name in MEASURES if any(name in group.scores for group in groups)]))
    return "\n\n".join(section for section in sections if section)


def _row(place: int, outcome: Outcome) -> ScoredRow:
    """Zooming's share of the gap is a sum over a sum like any other score; single rows may take from either."""
    right = {name: float(value) for name, value in outcome.right.items()}
    scores = {name: Share(value) for name, value in (right | dict(outcome.figures)).items()}
    if {"whole", "zoomed", "true_crop"} <= right.keys():
        scores["recovered"] = Share(right["zoomed"] - right["whole"], right["true_crop"] - right["whole"])
    return ScoredRow(str(place), None, "ok", Groups(outcome.picture, outcome.size, "", ""), scores)


def _only(row: ScoredRow, condition: str) -> dict[str, Share]:
    return {RIGHT: row.scores[condition]}


def _answered(condition: str, wanted: float, size: str) -> Callable[[ScoredRow], bool]:
    return lambda row: row.groups.size == size and row.scores[condition].part == wanted
