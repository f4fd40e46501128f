"""Learn from labelled rows what a model's attention and confidences are worth, and which settings serve best: its profile.

Example:
  fovea calibrate --manifest labelled.parquet --output calibrated --cost-per-row-s 0.5
  fovea answer --manifest archive.parquet --output results --set profile=calibrated/profile.json

The manifest needs `question`, and `references` or `reference_boxes`. Half of its pictures are learned from, half measured on.
Exit codes: 0 the profile is written, 2 refused, 3 nothing could be learned and nothing is written, 4 stopped, nothing written.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.options import RunParser, SettingsRefused, add_run_options, resolve
from jobs.stopping import stoppable, undisturbed

if TYPE_CHECKING:
    from ray_pipeline.calibration.course import Brief
    from ray_pipeline.intake.manifest import Manifest
    from schemas.job import JobSettings
    from schemas.manifest import ManifestRow
    from schemas.picture import Picture
    from schemas.status import RowFailure
    from schemas.truth import Truth

WRITTEN, REFUSED, NOTHING = 0, 2, 3
MOST_SAMPLE = 100_000


class CalibrationRefused(ValueError):
    """The command cannot start; one line says why. Nothing has been written."""


@dataclass(frozen=True)
class _Prepared:
    """Everything checked, nothing loaded yet."""

    brief: "Brief"
    manifest: "Manifest"
    known: "list[tuple[ManifestRow, Truth]]"
    fit_share: float


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return stoppable(lambda: _calibrate(argv), ends_process=argv is None)


def _calibrate(argv: list[str] | None) -> int:
    parser = RunParser(prog="fovea calibrate", description=__doc__)
    add_run_options(parser)
    parser.add_argument("--fit-share", metavar="F", default="0.5", help="share of the pictures to learn from (0.5)")
    parser.add_argument("--cost-per-row-s", metavar="X", help="most seconds that a row may take here, as a strategy's mean")
    parser.add_argument("--sample", metavar="N", default="96", help="most rows to try layers and strategies on (96)")
    options = parser.parse_args(argv)
    for name in ("actors", "gpus_per_actor", "retry_failed"):
        if getattr(options, name):
            parser.error(f"--{name.replace('_', '-')} is for runs: calibration is one process, here; expected none")
    from ray_pipeline.delivery.escapes import one_line, visible  # takes seconds, in which signals must be heard already
    from ray_pipeline.intake.manifest import ManifestRefused
    from ray_pipeline.models.weights import ModelRefused

    try:
        share = _number("--fit-share", options.fit_share, 1.0)
        cost = None if options.cost_per_row_s is None else _number("--cost-per-row-s", options.cost_per_row_s, float("inf"))
        prepared = _prepared(resolve(options, os.environ), share, cost, _count(options.sample))
        found = _learned(prepared)
    except (SettingsRefused, CalibrationRefused, ManifestRefused, ModelRefused) as refusal:
        print(f"fovea calibrate: {visible(one_line(str(refusal)))}", file=sys.stderr)
        return REFUSED
    if found is None:
        print("fovea calibrate: nothing could be learned from these rows; nothing is written", file=sys.stderr)
        return NOTHING
    try:
        with undisturbed():
            _write(prepared.brief.settings.output, found)
    except OSError as error:
        print(f"fovea calibrate: the profile could not be written: {one_line(str(error))}", file=sys.stderr)
        return NOTHING
    print(f"{_beside(prepared.brief.settings.output, 'profile.json')}: use it with --set profile=...")
    return WRITTEN


def _number(name: str, text: str, below: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < below:
        raise SettingsRefused(
            f"{name} {text}: expected a number above 0{'' if below == float('inf') else f' and below {below:g}'}"
        )
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SAMPLE:
        raise SettingsRefused(f"--sample {text}: expected a whole number from 1 to {MOST_SAMPLE}")
    return int(text)


def _prepared(settings: "JobSettings", fit_share: float, cost: float | None, most: int) -> _Prepared:
    from ray_pipeline.calibration.course import Brief
    from ray_pipeline.intake.manifest import open_manifest, read_rows
    from ray_pipeline.intake.references import read_truths
    from ray_pipeline.models.families import check_family
    from ray_pipeline.models.profiles import given_keys, weights_digest
    from ray_pipeline.models.registry import FAMILIES, declared
    from ray_pipeline.scrubbing import carries_a_secret
    from schemas.floors import check_floors

    if settings.profile is not None:
        raise CalibrationRefused(f"profile {settings.profile!r}: a profile is made here, not used; expected none")
    for address in (settings.manifest, settings.output):
        if carries_a_secret(address):
            raise CalibrationRefused("an address has user info or a query in it; credentials come from the standard chain")
    check_floors()
    _refuse_place(settings.output)
    # A layer to look at is among the things to be found: any one stands in for it.
    layer = 0 if settings.refine.layer is None else settings.refine.layer
    folder = check_family(settings.model_copy(update={"refine": settings.refine.model_copy(update={"layer": layer})}))
    kind, config = declared(folder)
    able = FAMILIES[kind].adapter().abilities(config)
    manifest = open_manifest(settings.manifest, settings.run.limit, ("question",), ())
    truths = list(read_truths(manifest))
    rows = read_rows(manifest, 0, manifest.rows)
    known = [(row, truth) for row, truth in zip(rows, truths, strict=True) if (row.question or "").strip() and _is_truth(truth)]
    if not known:
        raise CalibrationRefused(f"0 of {manifest.rows} rows have a question and a truth, expected some")
    brief = Brief(settings, given_keys(settings), able, weights_digest(folder), manifest.digest, cost, most)
    return _Prepared(brief, manifest, known, fit_share)


def _is_truth(truth: "Truth") -> bool:
    return bool(truth.boxes) or any(reference.strip() for reference in truth.references)


def _refuse_place(uri: str) -> None:
    """A profile is never written over another one; what would fail at the end is said before the work."""
    from ray_pipeline.delivery.escapes import one_line

    try:
        store, path = _store(_beside(uri, "profile.json"))
        there = store.exists(path)
    except Exception as error:  # stores raise errors of their own libraries
        raise CalibrationRefused(one_line(f"output {uri!r}: {type(error).__name__}: {error}")) from None
    if there:
        raise CalibrationRefused(f"output {uri!r} has a profile.json already; expected another folder")
    if _is_local(uri):
        folder = next(one for one in (Path(path).parent, *Path(path).parent.parents) if one.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise CalibrationRefused(f"output {uri!r}: {str(folder)!r} cannot be written to; expected a folder that can")


def _learned(prepared: _Prepared) -> dict[str, bytes] | None:
    """The files of the profile, or None where nothing could be learned."""
    import torch

    from ray_pipeline.calibration.course import Course
    from ray_pipeline.calibration.labelled_rows import split
    from ray_pipeline.models.families import load_family
    from ray_pipeline.models.profiles import PROFILE, REGRESSOR
    from schemas.status import RowFailure

    brief = prepared.brief
    settings = brief.settings
    with _archive(settings, prepared.manifest) as archive:
        digests = [(row, truth, archive.digest(row)) for row, truth in prepared.known]
        lost = [image for _, _, image in digests if isinstance(image, RowFailure)]
        there = [(row, truth, image) for row, truth, image in digests if isinstance(image, str)]
        _say(
            f"{len(there)} labelled rows on {len({image for _, _, image in there})} pictures; {len(lost)} files could not be had"
        )
        try:
            rows = split(there, prepared.fit_share, settings.run.seed)
        except ValueError as few:
            raise CalibrationRefused(f"{few}{f'; {lost[0].message}' if lost else ''}") from None
        torch.set_num_threads(settings.model.threads)
        torch.manual_seed(settings.run.seed)
        family = load_family(settings.model, settings.views, settings.prompt)
        course = Course(brief, family, rows, archive.picture, _print)
        profile = course.run()
    if profile is None:
        return None
    files = {REGRESSOR: course.regressor[0]} if course.regressor else {}
    return files | {PROFILE: (profile.model_dump_json(indent=2) + "\n").encode()}


class _Archive:
    """The pictures of a manifest, fetched and decoded as a run does, each as often as it is asked for."""

    def __init__(self, settings: "JobSettings", manifest: "Manifest") -> None:
        from ray_pipeline.intake.addresses import AddressPolicy
        from ray_pipeline.intake.decode import Decoder
        from ray_pipeline.intake.fetch import Fetcher

        policy = AddressPolicy.from_settings(settings.fetch, manifest.base, manifest.remote)
        self._fetcher, self._decoder = Fetcher(settings.fetch, policy), Decoder(settings.fetch)

    def close(self) -> None:
        self._decoder.close()
        self._fetcher.close()

    def digest(self, row: "ManifestRow") -> "str | RowFailure":
        """Of the file's bytes."""
        from schemas.status import RowFailure

        try:
            return sha256(self._fetcher.fetch(row.image_uri)).hexdigest()
        except RowFailure as failure:
            return failure

    def picture(self, row: "ManifestRow") -> "Picture | RowFailure":
        """The upright picture of a row, or why there is none."""
        from schemas.status import RowFailure

        try:
            return self._decoder.decode(self._fetcher.fetch(row.image_uri), row.page)
        except RowFailure as failure:
            return failure


@contextmanager
def _archive(settings: "JobSettings", manifest: "Manifest") -> Iterator[_Archive]:
    archive = _Archive(settings, manifest)
    try:
        yield archive
    finally:
        archive.close()


def _write(uri: str, files: Mapping[str, bytes]) -> None:
    """Every file whole or not at all, the profile last: it names the others."""
    for name, data in files.items():
        store, path = _store(_beside(uri, name))
        if not _is_local(uri):
            store.pipe_file(path, data)
            continue
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{name}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)


def _store(uri: str) -> tuple[Any, str]:
    import fsspec

    store, path = fsspec.core.url_to_fs(uri if "://" in uri else str(Path(uri).expanduser().absolute()))
    return store, path


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def _beside(uri: str, name: str) -> str:
    return f"{uri.rstrip('/')}/{name}"


def _print(text: str) -> None:
    from ray_pipeline.delivery.escapes import visible

    print(visible(text, keep="\n") + "\n", flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
