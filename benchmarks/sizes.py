"""Size sensitivity, as the ViCrop paper measures it: `python -m benchmarks.sizes [--count 100] [--split evaluation]`.

Accuracy of the embedded model by size of the text, on the same pictures: from the whole picture, with ViCrop, with the true
crop (the best zoom there is), and what of the gap between the first and the last ViCrop recovers. ViCrop runs with
`refine.looks` 2 and `refine.hold_answer`, which were chosen on the validation split; `--published` leaves both out.
95 % intervals come from resampling pictures. Ends with one line of figures; exit 1 where a bar is missed.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from benchmarks.packaged_models import SIDE_BY_SIDE, Bench, picture_of
from ray_pipeline.perceiver import Plan
from ray_pipeline.scoring.conditions import LAYOUTS, Outcome, StudyTables, study_tables, study_text
from ray_pipeline.scoring.tables import Score
from ray_pipeline.studies.conversations import studied
from ray_pipeline.studies.subject import Studied, Subject
from ray_pipeline.studies.zooming import zooming
from ray_pipeline.synthesis.evaluation import BUCKETS, INPUT_PX, Case, cases
from schemas.methods import RefineSettings
from schemas.model import ModelSettings

DRAWS = 2000
LOOKS = 2
SIZES = {name: f"{name} (capitals {low:g}-{high:g} of {INPUT_PX} px)" for name, (low, high) in BUCKETS.items()}
RECOVERED, LOST = 0.80, 0.01  # of the gap, small texts; points, large ones


def outcomes(bench: Bench, some: Iterable[Case], plan: Plan) -> Iterator[Outcome]:
    """Every picture under every condition, a few side by side; an answer is right letter by letter.

    Raises:
        RowFailure: the model failed.
    """
    left = iter(some)
    while group := list(islice(left, SIDE_BY_SIDE)):
        subjects = {
            case.seed: Subject(picture_of(case), case.question.text, (case.question.box_px,), case.seed) for case in group
        }
        ended = studied(bench.family, zooming, subjects, plan)
        for case in group:
            end = ended[case.seed]
            if not isinstance(end, Studied):
                raise end
            right = {name: said.text == case.question.answer for name, said in end.answers.items()}
            yield Outcome(str(case.seed), case.bucket, right, end.figures)


def bars(found: StudyTables) -> Iterator[tuple[str, float, float, bool]]:
    """Name, figure, bar, whether it holds."""
    small, large = (scores_of_size(found, size) for size in ("small", "large"))
    recovered = round(small["recovered"].value or 0.0, 6)
    lost = round((large["whole"].value or 0.0) - (large["zoomed"].value or 0.0), 6)
    yield "share of the gap recovered, small", recovered, RECOVERED, recovered >= RECOVERED
    yield "lost by ViCrop, large", lost, LOST, lost <= LOST


def scores_of_size(found: StudyTables, size: str) -> dict[str, Score]:
    """The scores of one size by their names."""
    return {
        name: score for group in next(iter(found.tables.values())) if group.name == size for name, score in group.scores.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="pictures per size")
    parser.add_argument("--split", default="evaluation", choices=("evaluation", "validation"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--megapixels", type=float, nargs=2, default=(0.5, 12.0))
    parser.add_argument("--published", action="store_true", help="one crop, of the published windows alone")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    bench = Bench(ModelSettings(name=options.model), RefineSettings())
    plan = bench.plan() if options.published else bench.plan(looks=LOOKS, hold_answer=True)
    ended: list[Outcome] = []
    for bucket in BUCKETS:
        ended += outcomes(bench, cases(options.split, bucket, options.count, tuple(options.megapixels)), plan)
    found = study_tables(ended, LAYOUTS["zooming"], DRAWS, 0)
    print(study_text(found, SIZES), flush=True)
    checked = list(bars(found))
    for name, figure, bar, holds in checked:
        print(f"{'ok    ' if holds else 'MISSED'} {name:40s} {figure:6.3f}  bar {bar}")
    rates = {
        f"{name}, {size}": round(score.value, 3)
        for size in BUCKETS
        for name, score in scores_of_size(found, size).items()
        if score.value is not None
    }
    print(json.dumps(rates | {name: round(figure, 3) for name, figure, _, _ in checked}))
    return 0 if all(holds for *_, holds in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
