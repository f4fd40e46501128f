"""Questions about several things, of which ViCrop gains least, because it chooses one region (section 8, limits).

Answered from the picture as it is, with one crop, with a crop for each thing, and with the true crop of each thing.
"""

from collections.abc import Generator

from ray_pipeline.methods.focus import Focus, Question
from ray_pipeline.methods.slots import FOCUS
from ray_pipeline.models.contract import Reply, Request
from ray_pipeline.perceiver import Plan, look
from ray_pipeline.studies.subject import Studied, Subject, asked, asked_behind, greedy
from ray_pipeline.studies.zooming import held, true_crops

MOST = 8  # regions that FOCUS looks for


def several(subject: Subject, plan: Plan) -> Generator[Request, Reply, Studied]:
    """Conditions `whole`, `one_crop`, `crop_each` and `true_crop`, always zoomed; the shares of things that crops hold."""
    wanted = {"one_crop": 1, "crop_each": min(MOST, len(subject.true_px))}
    tokens = yield from look(subject.picture, greedy(plan))
    answers = {"whole": (yield from asked(tokens, subject.question, plan))}
    figures: dict[str, float] = {}
    for name, regions in wanted.items():
        refine = greedy(plan, regions=regions, looks=1, hold_answer=False, gate=1.0, mode="corrected").refine
        asking = Question(subject.question, None)
        focus: Focus = yield from FOCUS[refine.method](tokens, asking, plan.prompt.generic, refine, plan.defaults)
        crops = focus.boxes_px
        answers[name] = (yield from asked_behind(tokens, crops, subject.question, plan)) if crops else answers["whole"]
        figures[f"held_{name}"] = held(subject.true_px, crops) if crops else 0.0
    answers["true_crop"] = yield from asked_behind(tokens, true_crops(subject), subject.question, plan)
    return Studied(answers, figures)
