"""CHOOSE: several answers to one question, and the one that is kept (ACS).

One request, then pure functions: the model samples answers from one prefix, a selector picks a box by name.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from ray_pipeline.methods.candidates import Candidate, cut, gather
from ray_pipeline.methods.pool import Choice, IouRegressor, Pool
from ray_pipeline.models.contract import Generation, Reply, Request, Sample, Samples, Sampling, VisualTokens
from schemas.methods import SelectSettings
from schemas.profile import HeadProfile
from schemas.result import CandidateRecord

Selector = Callable[[Pool], Choice]


@dataclass(frozen=True)
class Chosen:
    """The answer kept, its box cut to the picture; the choice behind it; every answer drawn, for the results.

    A mean or median box carries the first answer's text and has no log-probability of its own.
    """

    generation: Generation
    choice: Choice
    records: tuple[CandidateRecord, ...]


def choose(
    tokens: VisualTokens,
    question: str,
    settings: SelectSettings,
    selector: Selector,
    profile: HeadProfile | None,
    regressor: IouRegressor | None,
    max_new_tokens: int,
    seed: int,
) -> Generator[Request, Reply, Chosen]:
    """Sample answers and select one. With fewer than two readable boxes the first answer stands, flagged (section 3).

    `profile` and `regressor` may be None where the method reads no attention. `seed` belongs to this row.

    Raises:
        ValueError: a method without its profile or regressor, or another number of answers than asked for.
    """
    layers = layers_read(settings, profile, regressor)
    sampling = Sampling(settings.samples, settings.temperature, settings.top_p, seed, settings.greedy_first)
    generations = _generations((yield Sample(tokens, question, max_new_tokens, sampling, layers)), settings.samples)
    width, height = tokens.picture.width, tokens.picture.height
    candidates, _ = gather(generations, width, height)
    if sum(candidate.multiplicity for candidate in candidates) < 2:
        return _first_stands(generations, candidates, width, height)
    pool = Pool(candidates, tokens.footprints, width, height, settings, layers, profile, regressor, seed)
    choice = selector(pool)
    return Chosen(_kept(generations, choice), choice, _records(generations, candidates, choice))


def layers_read(settings: SelectSettings, profile: HeadProfile | None, regressor: IouRegressor | None) -> tuple[int, ...]:
    """The layers whose attention a method needs, ascending: as few as possible, rows of all heads are large.

    Raises:
        ValueError: the method needs a profile with heads, or a regressor, and there is none.
    """
    if settings.method == "acs_learned":
        if regressor is None:
            raise ValueError("acs_learned needs a regressor of this model, but there is none; calibrate this model first")
        return tuple(sorted(regressor.layers))
    if settings.method not in ("acs_free", "inside_mass"):
        return ()
    if profile is None or not profile.heads:
        raise ValueError(f"{settings.method} needs a profile with heads, but there is none; calibrate this model first")
    return profile.head_layers


def _generations(reply: Reply, count: int) -> tuple[Generation, ...]:
    if not isinstance(reply, Samples):
        raise TypeError(f"asked for samples, got {type(reply).__name__}")
    if len(reply.generations) != count:
        raise ValueError(f"{len(reply.generations)} answers, expected {count}")
    return reply.generations


def _first_stands(generations: tuple[Generation, ...], candidates: tuple[Candidate, ...], width: int, height: int) -> Chosen:
    first = generations[0]
    found = f"{len(candidates)} of {len(generations)} answers with a readable box"
    choice = Choice(first.box_px and cut(first.box_px, width, height), 0, f"fallback: {found}; the first answer stands")
    return Chosen(_kept(generations, choice), choice, _records(generations, candidates, choice))


def _kept(generations: tuple[Generation, ...], choice: Choice) -> Generation:
    """The chosen answer with the chosen box; what belongs to another box, or to none, is left behind."""
    answer = generations[choice.index or 0]
    if choice.index is None or choice.box_px is None:
        return replace(answer, box_px=choice.box_px, box_logprob=None, box_entropy=None, weights_CLHT=None)
    return replace(answer, box_px=choice.box_px)


def _records(
    generations: tuple[Generation, ...], candidates: tuple[Candidate, ...], choice: Choice
) -> tuple[CandidateRecord, ...]:
    """One per answer drawn that has any log-probability; answers written alike share their candidate's numbers."""
    places = {generations[candidate.index].raw: place for place, candidate in enumerate(candidates)}
    records = []
    for index, answer in enumerate(generations):
        place = places.get(answer.raw)
        logprob = answer.box_logprob if place is not None and answer.box_logprob is not None else answer.text_logprob
        if not math.isfinite(logprob):
            continue
        box = candidates[place].box_px if place is not None else None
        entropy, iou = _at(choice.entropies_nats, place), _at(choice.predicted_ious, place)
        records.append(CandidateRecord(box, answer.text, logprob, entropy, iou, index == choice.index))
    return tuple(records)


def _at(values: tuple[float | None, ...], place: int | None) -> float | None:
    return values[place] if values and place is not None else None
