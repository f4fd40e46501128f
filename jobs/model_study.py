"""A study of `fovea evaluate`: a run's model is loaded again and asked about labelled rows of the run's manifest, each under
several conditions."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobs.scored_run import EvaluationRefused, run_settings, same_manifest
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import Manifest, read_rows
from ray_pipeline.intake.references import read_truths
from ray_pipeline.scoring.conditions import LAYOUTS, Outcome, StudyTables, is_right, study_tables, study_text
from ray_pipeline.scoring.result_row import area_shares, checked_boxes
from ray_pipeline.scoring.sizes import size_of
from schemas.job import JobSettings
from schemas.picture import Picture
from schemas.status import RowFailure
from schemas.truth import Truth

if TYPE_CHECKING:
    from ray_pipeline.actor import Actor
    from ray_pipeline.studies.subject import Subject

NEEDS_BOXES = {"several": 2}  # true boxes of a row that a study can be made on; others need one
ZOOMS = ("zooming", "several")  # studies of FOCUS itself
LOOKS = ("attention", "occlusion")  # studies that read one layer


@dataclass(frozen=True)
class StudyReport:
    """What a study says: as Markdown, in one line, and as plain JSON."""

    text: str
    last_line: str
    figures: dict[str, Any]


def study_report(name: str, run_uri: str, manifest_uri: str | None, most_rows: int, draws: int, seed: int) -> StudyReport:
    """The study on at most `most_rows` rows with reference boxes, drawn by `seed`.

    Raises:
        EvaluationRefused: no such run, no such model here, settings or rows that the study cannot be made on.
        ManifestRefused: the manifest cannot be read, or holds no truth.
    """
    recorded, digest = run_settings(run_uri)
    settings = _settings(recorded, name, run_uri)
    manifest = same_manifest(recorded, digest, manifest_uri)
    truths, labelled = _drawn(manifest, name, most_rows, seed)
    asking = _Asking(name, settings, manifest, seed)
    outcomes = asking.outcomes(truths)
    if not outcomes:
        raise EvaluationRefused(f"none of {len(truths)} rows could be asked about: {_counts(asking.failures)}")
    found = study_tables(outcomes, LAYOUTS[name], draws, seed)
    facts = f"{len(outcomes)} of {labelled} rows with the boxes it needs, on {found.pictures} pictures. {asking.how}"
    if asking.failures:
        facts += f"\n{sum(asking.failures.values())} more could not be asked about: {_counts(asking.failures)}."
    text = f"# {name}: {run_uri}\n\n{facts}\n\n{study_text(found)}"
    return StudyReport(text, f"{name}: {len(outcomes)} rows", _json(name, run_uri, digest, found, asking))


def _settings(recorded: dict[str, Any], name: str, run_uri: str) -> JobSettings:
    try:
        settings = JobSettings.model_validate(recorded)
    except ValueError as error:
        raise EvaluationRefused(f"settings of {run_uri!r}: {one_line(str(error))}") from None
    if settings.task != "answer":
        raise EvaluationRefused(f"--study {name} of a run of task {settings.task!r}, expected 'answer'")
    if name in ZOOMS and settings.refine.method == "none":
        raise EvaluationRefused(f"--study {name} of a run with refine.method 'none', expected one that zooms")
    return settings


def _drawn(manifest: Manifest, name: str, most_rows: int, seed: int) -> tuple[list[Truth], int]:
    """Rows in manifest order, and from how many they were drawn."""
    needed = NEEDS_BOXES.get(name, 1)
    there = [truth for truth in read_truths(manifest) if len(truth.boxes) >= needed]
    if not there:
        raise EvaluationRefused(
            f"0 of {manifest.rows} rows have {needed} or more reference_boxes, expected at least one: {name} needs them"
        )
    places = sorted(random.Random(seed).sample(range(len(there)), min(most_rows, len(there))))
    return [there[place] for place in places], len(there)


class _Asking:
    """The model with the run's plan; counts what could not be asked about, by status."""

    def __init__(self, name: str, settings: JobSettings, manifest: Manifest, seed: int) -> None:
        self.name, self.settings, self.manifest, self.seed = name, settings, manifest, seed
        self.failures: Counter[str] = Counter()
        self.actor = _loaded(settings)
        plan = self.actor.plan
        layer = plan.refine.layer if plan.refine.layer is not None else plan.defaults.focus_layer
        if name in LOOKS and layer is None:
            raise EvaluationRefused(f"--study {name}: refine.layer is null and the model has no profile, expected a layer")
        read = f", layer {layer}" if name in LOOKS else f", refinement {settings.refine.method}"
        self.how = f"Model {one_line(settings.model.name)}{read}."

    def outcomes(self, truths: Sequence[Truth]) -> list[Outcome]:
        """Of every row that could be asked about, in order."""
        from ray_pipeline.studies.conversations import studied
        from ray_pipeline.studies.names import STUDIES

        found = []
        asked = self._subjects(truths)
        while group := list(islice(asked, self.settings.run.batch)):
            subjects = {place: subject for place, (_, subject) in enumerate(group)}
            ended = studied(self.actor.family, STUDIES[self.name], subjects, self.actor.plan)
            for place, (truth, subject) in enumerate(group):
                end = ended[place]
                if isinstance(end, RowFailure):
                    self.failures[str(end.status)] += 1
                    continue
                right = {k: is_right(one.text, one.box_px, truth.references, subject.true_px) for k, one in end.answers.items()}
                found.append(Outcome(subject.picture.sha256, _size(subject.picture, truth), right, end.figures))
        return found

    def _subjects(self, truths: Sequence[Truth]) -> Iterator[tuple[Truth, "Subject"]]:
        from ray_pipeline.studies.subject import Subject

        fetch = self.settings.fetch
        policy = AddressPolicy.from_settings(fetch, self.manifest.base, self.manifest.remote)
        with ExitStack() as opened:
            fetcher, decoder = Fetcher(fetch, policy), opened.enter_context(Decoder(fetch))
            opened.callback(fetcher.close)
            for truth in truths:
                (row,) = read_rows(self.manifest, truth.number, 1)
                try:
                    picture = decoder.decode(fetcher.fetch(row.image_uri), row.page)
                except RowFailure as failure:
                    self.failures[str(failure.status)] += 1
                    continue
                true_px = tuple(true.box_px for true in _checked(picture, truth))
                yield truth, Subject(picture, row.question or "", true_px, self.seed + truth.number)


def _loaded(settings: JobSettings) -> "Actor":
    from ray_pipeline.actor import Actor  # takes seconds, which scoring alone does not need
    from ray_pipeline.models.weights import ModelRefused

    try:
        return Actor(settings)
    except (ModelRefused, OSError, RuntimeError, ValueError) as error:
        raise EvaluationRefused(f"the run's model cannot be had here: {error}") from None


def _checked(picture: Picture, truth: Truth) -> Sequence[Any]:
    try:
        return checked_boxes(_measures(picture, truth), truth.boxes)
    except ValueError as error:
        raise EvaluationRefused(str(error)) from None


def _size(picture: Picture, truth: Truth) -> str:
    return size_of(area_shares(_measures(picture, truth), truth.boxes))


def _measures(picture: Picture, truth: Truth) -> dict[str, Any]:
    return {"id": truth.id, "image_width": picture.width, "image_height": picture.height}


def _counts(failures: Counter[str]) -> str:
    return ", ".join(f"{status} {count}" for status, count in sorted(failures.items()))


def _json(name: str, run_uri: str, digest: str, found: StudyTables, asking: _Asking) -> dict[str, Any]:
    plain = asdict(found)
    plain["pairs"] = {f"{one} against {other}": sizes for (one, other), sizes in plain["pairs"].items()}
    return {
        "version": 1, "study": name, "run": {"output": run_uri, "manifest_digest": digest, "model": asking.settings.model.name},
        "failures": dict(asking.failures), **plain,
    }  # fmt: skip
