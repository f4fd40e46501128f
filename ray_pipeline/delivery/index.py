"""index.json: names, sizes and digests of all parts, and rows per status. Committing it makes a run complete.

{"version": 1, "rows": 150, "statuses": {"ok": 149, "fetch_timeout": 1}, "manifest_digest": "…", "fingerprint_sha256": "…",
 "run_sha256": "…", "parts": [{"name": "part-00000.parquet", "first_row": 0, "rows": 64, "bytes": 9876, "sha256": "…"}, …]}

Rows are result rows, `first_row` is a row of the manifest. Where documents were taken apart, a part also has
"documents": {"12": 100}: the result rows of manifest row 12 are its pages 0 to 99.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.committed_part import PartUnreadable, read_part, sha256_of
from ray_pipeline.delivery.fingerprint import fingerprint_digest
from schemas.manifest import Part

INDEX_VERSION = 1
TRIES = 5


def build_index(output: Output, parts: Iterable[Part], manifest_digest: str, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The index of these parts, measured on the committed files, one in memory at a time.

    Raises:
        FileNotFoundError: a part is not committed.
        PartUnreadable: a part cannot be read, holds another number of rows than planned, or lacks pages of a document.
    """
    statuses: Counter[str] = Counter()
    entries = []
    for part in parts:
        entry, counted = _entry(output, part)
        entries.append(entry)
        statuses.update(counted)
    return {
        "version": INDEX_VERSION,
        "rows": sum(entry["rows"] for entry in entries),
        "statuses": dict(sorted(statuses.items())),
        "manifest_digest": manifest_digest,
        "fingerprint_sha256": fingerprint_digest(fingerprint),
        "run_sha256": sha256_of(output.read("run.json")) if output.exists("run.json") else None,
        "parts": entries,
    }


def _entry(output: Output, part: Part) -> tuple[dict[str, Any], Counter[str]]:
    try:
        found = read_part(output.read_result(part.name))
    except PartUnreadable as error:
        raise PartUnreadable(f"results/{part.name}: {error}") from None
    if found.manifest_rows != part.rows:
        raise PartUnreadable(f"results/{part.name}: {found.manifest_rows} rows; expected {part.rows}, as planned")
    for finding in found.torn_documents(part.first_row):
        raise PartUnreadable(f"results/{part.name} {finding}")
    entry = {"name": part.name, "first_row": part.first_row, "rows": found.rows, "bytes": found.bytes, "sha256": found.sha256}
    documents = {str(number): count for number, count in found.documents.items()}
    return entry | ({"documents": documents} if documents else {}), found.statuses


def write_index(output: Output, index: Mapping[str, Any]) -> bool:
    """Commit index.json; False if another driver of the same run has done so."""
    output.fail_points.reach("index.before")
    created = output.create("index.json", index_bytes(index))
    output.fail_points.reach("index.after")
    return created


def complete(output: Output, parts: Sequence[Part], manifest_digest: str, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the parts and commit their index; it vouches for what is there, even if another driver recomputes parts.

    Raises:
        FileNotFoundError: a part is not committed.
        PartUnreadable: a part cannot be read, or is not as planned.
        OSError: other drivers keep changing the parts.
    """
    for _ in range(TRIES):
        index = build_index(output, parts, manifest_digest, fingerprint)
        if write_index(output, index) or _standing(output) == index_bytes(index):
            return index
        output.reopen()  # the index of another driver, from before a part was recomputed
    raise OSError(f"{output.uri}: parts change while they are measured; expected one run on this folder at a time")


def _standing(output: Output) -> bytes | None:
    try:
        return output.read("index.json")
    except FileNotFoundError:
        return None


def index_bytes(index: Mapping[str, Any]) -> bytes:
    """The one spelling of an index: keys sorted, a newline at the end."""
    return (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
