"""Prove an output folder complete and untouched, offline: digests, rows, order and counts against index and manifest.

Example:
  fovea verify --output results --manifest archive/manifest.parquet

Exit codes: 0 proven, 2 wrong arguments or no such folder, 3 something is missing or was changed.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import tee
from typing import Any, NoReturn

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.intake.manifest import Manifest, ManifestRefused, open_manifest, read_rows
from schemas.manifest import ManifestRow

PROVEN, REFUSED, NOT_PROVEN = 0, 2, 3
SHOWN = 20  # findings printed; the rest is counted
CHUNK_ROWS = 8192  # rows of the manifest in memory


class _Refused(ValueError):
    """The command cannot start; one line says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refused(f"{message}; see --help")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        options = _parser().parse_args(argv)
        output = _output(options.output)
        findings = _findings(output, options.manifest)
    except _Refused as refusal:
        print(f"fovea verify: {refusal}", file=sys.stderr)
        return REFUSED
    if findings:
        _print(findings)
        return NOT_PROVEN
    index = json.loads(output.read("index.json"))
    print(f"complete: {index['rows']} rows in {len(index['parts'])} parts, sha256 verified")
    return PROVEN


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fovea verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="URI", help="folder with the results of a run")
    parser.add_argument("--manifest", metavar="URI", help="its manifest; default: the one recorded in run.json")
    return parser


def _output(uri: str) -> Output:
    try:
        output = Output(uri)
        present = output.present()
    except (OSError, ValueError, ImportError) as error:
        raise _Refused(one_line(f"output {uri!r}: {error}")) from None
    if not present:
        raise _Refused(one_line(f"output {uri!r}: no such folder; expected the output of a run"))
    return output


def _findings(output: Output, manifest_uri: str | None) -> list[str]:
    """What the audit finds. A manifest that cannot be read is a wrong argument if given, a finding if recorded."""
    settings = _settings(output)
    uri = manifest_uri if manifest_uri is not None else settings.get("manifest")
    if not isinstance(uri, str):
        return [*verify_output(output, None), "no manifest is recorded in run.json: ids were not compared"]
    try:
        return verify_output(output, _expected(uri, settings))
    except (ManifestRefused, OSError) as refusal:
        line = one_line(f"manifest {uri!r} cannot be read: {refusal}")
        if manifest_uri is not None:
            raise _Refused(line) from None
        return [*verify_output(output, None), f"{line}: ids were not compared"]


def _settings(output: Output) -> dict[str, Any]:
    """The settings recorded in run.json, as far as they can be read; what is wrong with the file the audit will say."""
    try:
        settings = json.loads(output.read("run.json"))["settings"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _expected(uri: str, settings: dict[str, Any]) -> Expected:
    """Open the manifest as the run did: same limit, same pass-through columns; both count for its digest."""
    run = settings.get("run")
    limit = run.get("limit") if isinstance(run, dict) else None
    passthrough = settings.get("passthrough")
    names = tuple(str(name) for name in passthrough) if isinstance(passthrough, list) else ()
    manifest = open_manifest(uri, limit if isinstance(limit, int) else None, (), names)
    ids, pages = tee(_rows(manifest))  # read side by side, a part at a time
    return Expected(manifest.digest, (row.id for row in ids), (row.page for row in pages))


def _rows(manifest: Manifest) -> Iterator[ManifestRow]:
    for first in range(0, manifest.rows, CHUNK_ROWS):
        yield from read_rows(manifest, first, min(CHUNK_ROWS, manifest.rows - first))


def _print(findings: list[str]) -> None:
    for finding in findings[:SHOWN]:
        print(one_line(finding))
    if len(findings) > SHOWN:
        print(f"and {len(findings) - SHOWN} more findings")


if __name__ == "__main__":
    sys.exit(main())
