"""What determines a run's results, as one flat record: the same record, the same bytes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from schemas.job import JobSettings
from schemas.result import SCHEMA_VERSION

# Settings that may differ between two runs of the same results. All others count, those still to be invented included.
FREE = frozenset(
    {
        "manifest",  # its digest counts, not where it lies
        "output",
        "profile",  # the digests of its files count
        "fetch.schemes",
        "fetch.hosts",
        "fetch.buckets",
        "fetch.roots",
        "fetch.timeout_s",
        "fetch.outage_s",
        "fetch.decode_timeout_s",
        "fetch.decode_memory_bytes",
        "fetch.scratch",
        "fetch.concurrency",
        "fetch.ahead",
        "fetch.decoders",
        "fetch.attempts",
        "run.actors",
        "run.gpus_per_actor",
        "run.max_error_share",
        "run.call_timeout_s",
        "run.load_timeout_s",
        "run.idle_timeout_s",
        "run.log",
        "run.plan",
    }
)
SHOWN = 80  # characters of a value in a line of `differences`
ABSENT = "(absent)"


def fingerprint(settings: JobSettings, manifest_digest: str, model_digests: dict[str, str]) -> dict[str, Any]:
    """Dotted key -> JSON value, sorted by key; equal to itself after a round trip through JSON."""
    facts = {key: value for key, value in _flat("", settings.model_dump(mode="json")).items() if key not in FREE}
    facts |= {f"model.sha256.{name}": digest for name, digest in model_digests.items()}
    facts |= {"manifest.digest": manifest_digest, "schema_version": SCHEMA_VERSION}
    return dict(sorted(facts.items()))


def fingerprint_digest(facts: Mapping[str, Any]) -> str:
    """Hex sha256 of the fingerprint's one canonical spelling."""
    return hashlib.sha256(_spelt(dict(facts)).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each key whose values differ, sorted: `views.max_crops: 8 -> 16`."""
    return [
        f"{key}: {_shown(old, key)} -> {_shown(new, key)}"
        for key in sorted(set(old) | set(new))
        if key not in old or key not in new or _spelt(old[key]) != _spelt(new[key])
    ]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    pairs = [_flat(f"{prefix}.{key}" if prefix else key, inner) for key, inner in value.items()]
    return {key: inner for pair in pairs for key, inner in pair.items()}


def _spelt(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(facts: Mapping[str, Any], key: str) -> str:
    text = _spelt(facts[key]) if key in facts else ABSENT
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
