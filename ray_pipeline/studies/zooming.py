"""Size sensitivity and what zooming recovers of it (ViCrop, section 3 and table 1).

Every picture is answered about three times: as it is, with the crops that the run's own FOCUS finds, and with a square around
each true box, which is what a perfect FOCUS could show. The published human crop touches its box; here a tenth of the
square is left free on either side, as letters at a crop's edge are misread.
"""

from collections.abc import Generator

from ray_pipeline.geometry.squares import square_around
from ray_pipeline.models.contract import Reply, Request
from ray_pipeline.perceiver import Plan, look, perceive_shown
from ray_pipeline.scoring.overlap import covered
from ray_pipeline.scoring.studies import WHOLE
from ray_pipeline.studies.subject import Said, Studied, Subject, asked, asked_behind, greedy
from schemas.picture import Box

AROUND = 1.2  # sides of a true crop over the longer side of its box


def zooming(subject: Subject, plan: Plan) -> Generator[Request, Reply, Studied]:
    """Conditions `whole`, `zoomed` and `true_crop`; where there was a crop, the share of the true
    boxes that it holds and whether the answer behind it stands."""
    ask = greedy(plan)
    tokens = yield from look(subject.picture, ask)
    whole = yield from asked(tokens, subject.question, ask)
    seen = (yield from perceive_shown(tokens, subject.question, ask)).perception
    true = yield from asked_behind(tokens, true_crops(subject), subject.question, ask)
    crops = seen.refinement.crops_px
    answers = {"whole": whole, "zoomed": Said(seen.answer, seen.box_px), "true_crop": true}
    return Studied(answers, {"held_zoomed": held(subject.true_px, crops), "kept": float(seen.refinement.used)} if crops else {})


def true_crops(subject: Subject) -> tuple[Box, ...]:
    """A square around each true box."""
    picture = subject.picture
    return tuple(square_around(box, AROUND, picture.width, picture.height) for box in subject.true_px)


def held(true_px: tuple[Box, ...], crops_px: tuple[Box, ...]) -> float:
    """The share of the true boxes of which some crop holds 95 % or more."""
    return sum(max(covered(true, crop) for crop in crops_px) >= WHOLE for true in true_px) / len(true_px)
