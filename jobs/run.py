"""One run from checked settings to exit code: refuse early, resume, spread, audit, make the folder complete."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray

from jobs.progress import Progress
from jobs.stopping import undisturbed
from ray_pipeline import events
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import PartUnreadable, read_part
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.fingerprint import differences, fingerprint
from ray_pipeline.delivery.index import complete
from ray_pipeline.forecast import compared
from ray_pipeline.intake.decode import refuse_missing_libvips
from ray_pipeline.intake.manifest import Manifest, ManifestRefused, cut_parts, open_manifest, refuse_unsafe_environment
from ray_pipeline.intake.manifest_files import store_of
from ray_pipeline.models.families import check_family
from ray_pipeline.models.profiles import LARGEST_BYTES, Learned, confidence_maps, profile_digests, resolved, shown
from ray_pipeline.models.weights import ModelRefused, model_digests, model_folder
from ray_pipeline.pipeline import RunBroken, run_parts
from ray_pipeline.scrubbing import carries_a_secret
from ray_pipeline.worker import FURTHER, PartOutcome, WorkOrder
from schemas.floors import check_floors
from schemas.job import JobSettings
from schemas.manifest import Part
from schemas.status import RETRYABLE, Status

COMPLETE, REFUSED, INCOMPLETE = 0, 2, 3  # and jobs.stopping.STOPPED


class RunRefused(ValueError):
    """The run cannot start; one line says why. Nothing has been written."""


class TooManyErrors(RuntimeError):
    """The run is bound to end over its error limit; one line says by how much. What is committed stays."""


@dataclass
class Prepared:
    """A run that may start: everything checked, nothing written yet.

    `settings` are those that travel to the workers, with the content of files in the place of their addresses.
    """

    settings: JobSettings
    manifest: Manifest
    output: Output
    fingerprint: dict[str, Any]
    run_file: dict[str, Any]
    parts: list[Part]
    plan: dict[str, Any] | None = None
    missing: list[Part] = field(default_factory=list)
    again: list[Part] = field(default_factory=list)  # committed, with rows whose failure may pass
    note: str | None = None  # what the profile does in this run
    model_sha256: dict[str, str] = field(default_factory=dict)  # of the model's own files, which all workers must have

    @property
    def complete(self) -> bool:
        return self.output.exists("index.json")

    @property
    def order(self) -> WorkOrder:
        """What the workers are told."""
        manifest, again = self.manifest, bool(self.again)
        place = (manifest.base, manifest.remote, manifest.passthrough)
        return WorkOrder(self.settings, *place, again, model_sha256=self.model_sha256)


def prepare(settings: JobSettings, needs: tuple[str, ...], retry_failed: bool = False) -> Prepared:
    """Check floors, environment, manifest, model and output folder.

    Raises:
        RunRefused: with the one line to show.
    """
    given = settings.model_copy(
        update={"manifest": _absolute(settings.manifest), "output": _absolute(settings.output)}
        | ({"profile": _absolute(settings.profile)} if settings.profile is not None else {})
    )
    _refuse_secrets(given)
    _refuse_unwritable_log(given.run.log)
    plan = _plan(given.run.plan)
    try:
        check_floors()
        refuse_missing_libvips(given.fetch)
        refuse_unsafe_environment()
        settings, learned = resolved(given, model_folder(given.model.name, given.model.revision), _content)
        folder = check_family(settings)
        manifest = open_manifest(settings.manifest, settings.run.limit, needs, settings.passthrough)
    except (ModelRefused, ManifestRefused, RuntimeError) as refusal:
        raise RunRefused(str(refusal)) from None
    own = model_digests(folder)
    digests = own | profile_digests(folder, settings.select) | (learned.digests if learned else {})
    facts = fingerprint(shown(settings, given), manifest.digest, digests)
    run_file = {
        "settings": shown(settings, given).model_dump(mode="json"),
        "fingerprint": facts,
        "versions": {
            name: _version(name) for name in ("fovea", "ray", "torch", "transformers", "pyarrow", "pillow", "pypdfium2")
        },
        "model": {"folder": str(folder), "revision": settings.model.revision, "sha256": digests},
    }
    parts = cut_parts(manifest.rows, settings.run.part_rows)
    note = _note(settings, learned) if learned else None
    prepared = Prepared(settings, manifest, _output(settings.output), facts, run_file, parts, plan, note=note, model_sha256=own)
    _refuse_other_run(prepared)
    _refuse_other_plan(prepared)
    done = set(prepared.output.list_results())
    prepared.missing = [part for part in parts if part.name not in done]
    if retry_failed:
        prepared.again = [part for part in parts if part.name in done and _may_pass(prepared.output, part)]
    if prepared.missing or prepared.again:
        _refuse_unwritable(prepared.output)
    return prepared


def _content(uri: str) -> bytes:
    """A file from any store; of one that is too large to travel so much that this is known."""
    store, path = store_of(uri)
    with store.open(path) as file:
        return file.read(LARGEST_BYTES + 1)


def _note(settings: JobSettings, learned: Learned) -> str:
    """One line on what the profile does in this run."""
    maps, differing = confidence_maps(settings, learned.profile)
    if differing and learned.profile.confidences:
        return f"profile: confidences stay as they are; the maps were fitted under other settings: {'; '.join(differing)}"
    return f"profile: calibrated confidences of {', '.join(maps)}" if maps else "profile: it has no confidence maps"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a job that runs from an uploaded checkout
        return "not installed"


def _absolute(uri: str) -> str:
    """Local paths as every process of the run must understand them, whatever its working directory."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _may_pass(output: Output, part: Part) -> bool:
    try:
        return bool(RETRYABLE & set(read_part(output.read_result(part.name)).statuses))
    except PartUnreadable as error:
        raise RunRefused(f"results/{part.name}: {error}; expected a file of this run") from None


def _output(uri: str) -> Output:
    try:
        return Output(uri)
    except (OSError, ValueError) as error:
        raise RunRefused(one_line(f"output {uri!r}: {error}; expected a folder that can be written")) from None


def _refuse_unwritable(output: Output) -> None:
    try:
        output.writable_check()
    except OSError as error:
        said = f"output {output.uri!r}: {error}; expected a folder that results can be committed to"
        raise RunRefused(one_line(said)) from None


def _refuse_secrets(settings: JobSettings) -> None:
    """Addresses are shown in logs and written to run.json."""
    for name in ("manifest", "output", "profile"):
        if carries_a_secret(getattr(settings, name) or ""):
            raise RunRefused(
                f"{name} has user info or a query in its address; credentials come from the role or the standard chain"
            )


def _refuse_unwritable_log(name: str | None) -> None:
    folder = Path(name).expanduser().absolute().parent if name is not None else None
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise RunRefused(
            f"run.log {name!r}: no folder {str(folder)!r} to write to; expected a local file in a folder that is there"
        )


def _plan(name: str | None) -> dict[str, Any] | None:
    """The forecast that this run shall be compared with."""
    if name is None:
        return None
    try:
        plan = json.loads(Path(name).read_bytes())
        compared(plan, 0.0, 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunRefused(one_line(f"run.plan {name!r}: {error}; expected a file that `fovea plan --to` wrote")) from None
    return dict(plan)


def _refuse_other_plan(prepared: Prepared) -> None:
    if prepared.plan and prepared.plan.get("manifest_sha256") != prepared.manifest.digest:
        name = prepared.settings.run.plan
        raise RunRefused(f"run.plan {name!r} was made for another manifest; expected one with digest {prepared.manifest.digest}")


def _refuse_other_run(prepared: Prepared) -> None:
    if not prepared.output.exists("run.json"):
        if prepared.output.list_results() or prepared.complete:
            raise RunRefused(
                f"output {prepared.settings.output!r} has results but no run.json; expected an empty folder or one of this run"
            )
        return
    try:
        old = json.loads(prepared.output.read("run.json"))["fingerprint"]
    except (ValueError, KeyError):
        raise RunRefused(
            f"output {prepared.settings.output!r}: run.json is unreadable; expected the file of an earlier run"
        ) from None
    changed = differences(old, json.loads(json.dumps(prepared.fingerprint)))
    if changed:
        raise RunRefused(f"output {prepared.settings.output!r} belongs to another run; what differs: " + "; ".join(changed))


def execute(prepared: Prepared) -> int:
    """Do the missing parts, audit, write index.json; the exit code of the interface.

    Raises:
        StopRequested: from `stoppable`, at any moment.
    """
    progress = Progress(prepared.manifest.rows, growing=prepared.settings.task == "ocr")
    todo = prepared.missing + prepared.again
    if prepared.complete and not todo:
        index = json.loads(prepared.output.read("index.json"))
        print(f"nothing to do: {index['rows']} rows in {len(prepared.parts)} parts are there in {prepared.settings.output}")
        return _verdict(prepared, index)
    _begin(prepared)
    if prepared.note:
        print(prepared.note, file=sys.stderr)
    log = _log(prepared)
    log.info("run_started", rows=prepared.manifest.rows, parts=len(prepared.parts), parts_to_do=len(todo))
    started = time.time()
    outcomes: list[PartOutcome] = []
    try:
        with ray_session(prepared.settings):
            progress.skip(prepared.manifest.rows - sum(part.rows for part in todo))
            for outcome in _worked(prepared, todo, progress, log) if todo else ():
                outcomes.append(outcome)
                log.info("part_ended", **{name: value for name, value in outcome.__dict__.items() if value is not None})
    except (RunBroken, TooManyErrors) as broken:
        log.error("run_broken", reason=str(broken))
        print(f"\nthe run broke off: {broken}", file=sys.stderr)
    finally:
        progress.close()
    code = _finish(prepared, outcomes, started)
    log.info("run_ended", exit_code=code, seconds=round(time.time() - started, 3))
    return code


def _log(prepared: Prepared) -> Any:
    """The file of `run.log`; the output folder holds nothing that depends on the clock but metrics.json."""
    name = prepared.settings.run.log
    return events.logger(Path(os.devnull) if name is None else Path(name).expanduser().absolute(), run=prepared.settings.output)


def _begin(prepared: Prepared) -> None:
    prepared.output.clean_staging()
    if not prepared.output.creates_once():
        print(f"{prepared.settings.output} knows no conditional writes: run one command at a time on it", file=sys.stderr)
    prepared.output.create("run.json", _json_bytes(prepared.run_file))
    if prepared.again:
        prepared.output.reopen()


def _worked(prepared: Prepared, parts: list[Part], progress: Progress, log: Any) -> Iterator[PartOutcome]:
    def follow(statuses: Mapping[str, int]) -> None:
        progress.follow(statuses)
        _refuse_errors(prepared, statuses)

    def warn(line: str) -> None:
        log.warning("worker_unfit", reason=line)
        print(f"\n{line}", file=sys.stderr)

    yield from run_parts(prepared.manifest, parts, prepared.order, follow, warn)


def _refuse_errors(prepared: Prepared, statuses: Mapping[str, int]) -> None:
    """Stop as soon as the run can only end over its limit: the rest of the night is better kept.

    Raises:
        TooManyErrors: more rows have failed than `max_error_share` of the whole manifest allows.
    """
    ended = sum(rows for status, rows in statuses.items() if status != FURTHER)
    failed, share = ended - statuses.get(Status.OK, 0), prepared.settings.run.max_error_share
    # Nobody knows how many pages are still to come and be well; each row may be a document of as many as are allowed.
    most = prepared.manifest.rows * (prepared.settings.fetch.max_pages if prepared.settings.task == "ocr" else 1)
    if failed > share * most:
        raise TooManyErrors(f"{failed} of {most} rows have failed, more than max_error_share {share:.1%}")


def _finish(prepared: Prepared, outcomes: list[PartOutcome], started: float) -> int:
    prepared.output.replace("metrics.json", _json_bytes(_metrics(prepared, outcomes, started)))
    failures = {outcome.part: outcome.failure for outcome in outcomes if outcome.failure}
    committed = set(prepared.output.list_results())
    lost = [part for part in prepared.parts if part.name not in committed]
    returned = {outcome.part for outcome in outcomes if outcome.committed}
    stale = [part for part in prepared.again if part.number not in returned]
    for part in (lost + stale)[:20]:
        why = failures.get(part.number) or "it did not come back"
        print(f"{part.name}: {part.rows} rows not accounted for: {why}", file=sys.stderr)
    if lost or stale:
        return INCOMPLETE
    try:
        index = complete(prepared.output, prepared.parts, prepared.manifest.digest, prepared.fingerprint)
    except (PartUnreadable, OSError) as error:
        print(f"the audit does not balance: {error}", file=sys.stderr)
        return INCOMPLETE
    prepared.output.clean_staging()
    prepared.output.clean_journals()
    return _verdict(prepared, index)


def _verdict(prepared: Prepared, index: dict[str, Any]) -> int:
    counts, total = index["statuses"], index["rows"]
    failed = total - counts.get(Status.OK, 0)
    share = failed / total if total else 0.0
    listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    print(f"complete: {total} rows in {len(index['parts'])} parts ({listed}) in {prepared.settings.output}")
    if share > prepared.settings.run.max_error_share:
        limit = prepared.settings.run.max_error_share
        print(f"{share:.1%} of the rows failed, more than max_error_share {limit:.1%}", file=sys.stderr)
        return INCOMPLETE
    return COMPLETE


def _metrics(prepared: Prepared, outcomes: list[PartOutcome], started: float) -> dict[str, Any]:
    wall = time.time() - started
    rows = sum(outcome.rows for outcome in outcomes if outcome.committed)
    return {
        "started_unix_s": started, "wall_s": wall, "rows_this_run": rows, "rows_per_s": rows / wall if wall else None,
        "actors": prepared.settings.run.actors, "gpus_per_actor": prepared.settings.run.gpus_per_actor,
        "model_s": sum(outcome.model_seconds for outcome in outcomes),
        "waiting_for_pictures_s": sum(outcome.waiting_seconds for outcome in outcomes),
        "parts": [outcome.__dict__ for outcome in sorted(outcomes, key=lambda outcome: outcome.part)],
        **({"plan": compared(prepared.plan, wall, _manifest_rows(prepared, outcomes))} if prepared.plan else {}),
    }  # fmt: skip


def _manifest_rows(prepared: Prepared, outcomes: list[PartOutcome]) -> int:
    """Rows of the manifest that this run has done: a forecast knows no others, while outcomes count pages."""
    todo = {part.number: part.rows for part in prepared.missing + prepared.again}
    return sum(todo[outcome.part] for outcome in outcomes if outcome.committed)


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


@contextmanager
def ray_session(settings: JobSettings) -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one here for the time of the run."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # A Ray started here is for this run alone; with its own 15, workers would starve on a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the rest is in Ray's session log
    try:
        with undisturbed():
            _start_ray(settings)
        yield
    finally:
        with undisturbed():
            ray.shutdown()


def _start_ray(settings: JobSettings) -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
        return
    gpus = int(settings.run.actors * settings.run.gpus_per_actor + 0.999) or None
    ray.init(
        address="local", num_cpus=max(4, os.cpu_count() or 1), num_gpus=gpus, include_dashboard=False,
        object_store_memory=200 * 2**20, logging_level=logging.ERROR, log_to_driver=False,
    )  # fmt: skip
