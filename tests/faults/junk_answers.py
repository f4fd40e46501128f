"""What a broken model may hand over: every field of a perception, filled with everything that does not belong there."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from schemas.result import CandidateRecord, Perception, Refinement, Region

REGION = Region((1.0, 2.0, 30.0, 40.0), "name", "Ada", 0.5, "line")
CANDIDATE = CandidateRecord((5.0, 6.0, 70.0, 80.0), "Ada", -0.25, 1.5, 0.75, True)
REFINEMENT = Refinement("rel_att", ((10.0, 20.0, 300.0, 400.0),), True, "surer")
SOUND = Perception(
    answer="Ada", answer_confidence=0.875, box_px=(5.0, 6.0, 70.0, 80.0), box_confidence=0.5, baseline_answer="Ade",
    baseline_confidence=0.25, refinement=REFINEMENT, candidates=(CANDIDATE,), views=3, visual_tokens=729, regions=(REGION,),
    calibrated=True,
)  # fmt: skip


class Unwritable:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


NAN, INF = float("nan"), float("inf")
JUNK: tuple[Any, ...] = (
    None, NAN, INF, -INF, 1e308, -1e308, -0.0, 10**400, 10**5000, -1, 2**31, 2**63, 1j, True, b"bytes", "", " ", "\ud800",
    "x" * 50_000_000, '{"box": [1, 2', "0099", [], [None], [[]], (), (NAN,) * 4, (9, 9, 1, 1), (0, 0, 1e308, 1), (0, 0, 0, 0),
    ("0", "0", "9", "9"), [REGION, None], (CANDIDATE, "x"), [[0, 0, 9, 9]] * 10_001, {}, {"x0": 1}, set(), object(), Unwritable(),
    Unwritable, lambda: None, range(4), SOUND, REGION, CANDIDATE, REFINEMENT, ["x" * 50_000_000],
)  # fmt: skip


def junk_answers() -> Iterator[tuple[str, Any]]:
    """(the field, a perception with junk in it), also where perceptions themselves belong."""
    for value in JUNK:
        yield "perception", value
        for field in fields(Perception):
            yield field.name, replace(SOUND, **{field.name: value})
        for field in fields(Region):
            yield f"regions[0].{field.name}", replace(SOUND, regions=(replace(REGION, **{field.name: value}),))
        for field in fields(Refinement):
            yield f"refinement.{field.name}", replace(SOUND, refinement=replace(REFINEMENT, **{field.name: value}))
        for field in fields(CandidateRecord):
            yield f"candidates[0].{field.name}", replace(SOUND, candidates=(replace(CANDIDATE, **{field.name: value}),))
    long = replace(REGION, text="x" * 99_999)
    yield "regions", replace(SOUND, regions=(long,) * 10_000)  # a gigabyte of allowed texts
