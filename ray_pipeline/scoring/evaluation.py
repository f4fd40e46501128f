"""Everything that is said of one scored run, and of two: tables, contrasts, what refinement changed, reliability, studies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ray_pipeline.scoring.average_precision import average_precision
from ray_pipeline.scoring.bootstrap import Draws
from ray_pipeline.scoring.differences import Difference, differences
from ray_pipeline.scoring.measures import STUDIES, TABLES
from ray_pipeline.scoring.reliability import Reliability, reliability
from ray_pipeline.scoring.scored_row import ScoredRow
from ray_pipeline.scoring.share import Share
from ray_pipeline.scoring.sizes import SIZES, UNKNOWN
from ray_pipeline.scoring.tables import Contrast, Group, Shares, contrasts, groups

ALL = "all"
Key = Callable[[ScoredRow], str]
GROUPINGS: dict[str, Key] = {
    "overall": lambda row: ALL,
    "object size": lambda row: row.groups.size,
    "refinement method": lambda row: row.groups.method,
    "refinement": lambda row: row.groups.refined,
    "status": lambda row: row.status,
}


@dataclass(frozen=True)
class Evaluation:
    """`tables` by grouping, `refinement` and `studies` by object size (`all` first), `reliability` by what was sure.

    `size_sensitivity`: scores of large things minus those of small ones. `average_precision` is None where no region was
    compared with a reference box.
    """

    rows: int
    labelled: int
    failed: int
    pictures: int
    tables: Mapping[str, Sequence[Group]]
    size_sensitivity: Mapping[str, Contrast]
    refinement: Mapping[str, Mapping[str, Difference]]
    studies: Mapping[str, Sequence[Group]]
    reliability: Mapping[str, Reliability]
    average_precision: Mapping[str, Mapping[str, float | None]] | None


@dataclass(frozen=True)
class Comparison:
    """This run against another one, row by row, by object size (`all` first). Rows that only one of them has are counted."""

    rows: int
    only_here: int
    only_there: int
    sizes: Mapping[str, Mapping[str, Difference]]


def evaluated(rows: Sequence[ScoredRow], task: str, count: int, seed: int) -> Evaluation:
    """All of it for the rows of one run; rows without truth are counted and nothing else."""
    labelled = [row for row in rows if row.labelled]
    draws = Draws([row.groups.picture for row in labelled], count, seed)
    names = TABLES[task]
    pages = [row.boxes for row in labelled if row.boxes is not None]
    return Evaluation(
        rows=len(rows),
        labelled=len(labelled),
        failed=sum(row.status != "ok" for row in labelled),
        pictures=draws.pictures,
        tables={name: groups(labelled, names, draws, key) for name, key in GROUPINGS.items()},
        size_sensitivity=contrasts(
            labelled, names, draws, high=lambda row: row.groups.size == "large", low=lambda row: row.groups.size == "small"
        ),
        refinement=by_size(labelled, [row.scores for row in labelled], [row.before for row in labelled], names, count, seed),
        studies={name: study_groups(labelled, columns, draws) for name, columns in STUDIES.items()},
        reliability=_reliability(labelled),
        average_precision=average_precision(pages) if pages else None,
    )


def compared(rows: Sequence[ScoredRow], others: Sequence[ScoredRow], task: str, count: int, seed: int) -> Comparison:
    """Two runs on the same manifest; rows are paired by id and page."""
    here = {(row.id, row.page): row for row in rows if row.labelled}
    there = {(row.id, row.page): row for row in others if row.labelled}
    pairs = [(here[place], there[place]) for place in here if place in there]
    mine, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    return Comparison(
        rows=len(pairs),
        only_here=len(here) - len(pairs),
        only_there=len(there) - len(pairs),
        sizes=by_size(mine, [row.scores for row in mine], [row.scores for row in theirs], TABLES[task], count, seed),
    )


def by_size(
    rows: Sequence[ScoredRow], values: Sequence[Mapping[str, Share]], others: Sequence[Mapping[str, Share]],
    names: Sequence[str], count: int, seed: int,
) -> dict[str, dict[str, Difference]]:  # fmt: skip
    """Differences over all rows, and over those of each size; sizes that nothing is said of are left out."""
    found = {}
    for size in (ALL, *SIZES, UNKNOWN):
        places = [place for place, row in enumerate(rows) if size in (ALL, row.groups.size)]
        draws = Draws([rows[place].groups.picture for place in places], count, seed)
        one = differences([values[place] for place in places], [others[place] for place in places], names, draws)
        if one:
            found[size] = one
    return found


def study_groups(
    rows: Sequence[ScoredRow], names: Sequence[str], draws: Draws, shares: Shares = lambda row: row.studies
) -> list[Group]:
    """Over all rows that the study says something of, and by size."""
    everything = groups(rows, names, draws, GROUPINGS["overall"], shares=shares)
    by_size = groups(rows, names, draws, GROUPINGS["object size"], shares=shares)
    return [group for group in everything + by_size if group.scores]


def _reliability(rows: Sequence[ScoredRow]) -> dict[str, Reliability]:
    kinds = sorted({one.of for row in rows for one in row.sureness})
    found = {}
    for kind in kinds:
        said = [one for row in rows for one in row.sureness if one.of == kind]
        curve = reliability([one.confidence for one in said], [one.right for one in said])
        if curve is not None:
            found[kind] = curve
    return found
