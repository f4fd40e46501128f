"""The fingerprint: every setting either counts or stands in the list of those that do not."""

import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from ray_pipeline.delivery.fingerprint import FREE, differences, fingerprint, fingerprint_digest
from schemas.job import JobSettings
from schemas.methods import RefineSettings

BASE = JobSettings(manifest="m.parquet", output="out")
DIGESTS = {"config.json": "11" * 32, "model.safetensors": "22" * 32}
FREE_BY_HAND = {  # what the results must not depend on, written out a second time
    "manifest", "output", "profile", "fetch.schemes", "fetch.hosts", "fetch.buckets", "fetch.roots", "fetch.timeout_s",
    "fetch.outage_s", "fetch.decode_timeout_s", "fetch.decode_memory_bytes", "fetch.scratch",
    "fetch.concurrency", "fetch.ahead", "fetch.decoders", "fetch.attempts", "run.actors", "run.gpus_per_actor",
    "run.max_error_share", "run.call_timeout_s", "run.load_timeout_s", "run.idle_timeout_s", "run.log", "run.plan",
}  # fmt: skip


def facts(settings: JobSettings = BASE, manifest: str = "aa" * 32, digests: dict[str, str] = DIGESTS) -> dict[str, Any]:
    return json.loads(json.dumps(fingerprint(settings, manifest, digests)))  # type: ignore[no-any-return]


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        found += leaves(kind, f"{prefix}{name}.") if nested else [prefix + name]  # type: ignore[arg-type]
    return found


def value_at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = getattr(tree, name)
    return tree


OTHER: dict[str, Any] = {  # where a type alone does not say what is allowed
    "views.fit": "pad",
    "views.resolution_px": 512,
    "refine.block_px": 1024,
    "refine.boost": 1.8,
    "select.aggregate": "mean",
    "refine.regions_unit": ((0.0, 0.0, 0.5, 1.0),),
    "fusion.scales": (2.0,),
    "ocr.scales": (2.0,),
    "label.attributes": {"colour": "What colour is it?"},
}
WITHIN = {"label.attributes": "label.attributes.colour"}  # the members of a mapping count one by one


def other_value(key: str) -> Any:
    """A legal value that differs from the default."""
    model: Any = JobSettings
    *parents, last = key.split(".")
    for name in parents:
        model = model.model_fields[name].annotation
    if key in OTHER:
        return OTHER[key]
    old, kind = value_at(BASE, key), model.model_fields[last].annotation
    if isinstance(old, str):
        options = [option for option in get_args(kind) if isinstance(option, str) and option != old]
        return options[0] if options else None if get_args(kind) else old + "?{question}"
    if isinstance(old, bool):
        return not old
    if isinstance(old, tuple):
        return ("https",) if last == "schemes" else ("other",)
    if isinstance(old, float):
        return old / 2 if old else 0.5
    if isinstance(old, int):
        return old + 1
    numeric = [option for option in get_args(kind) if option in (int, float)] or [str]
    inner = str(kind)
    return 0.25 if float in numeric or "float" in inner else 3 if int in numeric or "int" in inner else "given"


def mutated(key: str, value: Any, base: JobSettings = BASE) -> JobSettings:
    tree = base.model_dump()
    inner = tree
    *parents, last = key.split(".")
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return JobSettings.model_validate(tree)


# Settings that mean something beside another one only.
BESIDE = {
    "refine.regions_unit": BASE.model_copy(
        update={"refine": RefineSettings(method="fixed", regions_unit=((0.0, 0.0, 1.0, 1.0),))}
    )
}


@pytest.mark.parametrize("key", leaves(JobSettings))
def test_each_setting_counts_or_is_listed_as_free(key: str) -> None:
    value = other_value(key)
    if value is None:
        assert key in facts()  # it has one legal value today
        return
    base = BESIDE.get(key, BASE)
    changed = mutated(key, value, base)
    assert value_at(changed, key) != value_at(base, key)
    lines = differences(facts(base), facts(changed))
    assert lines == [] if key in FREE_BY_HAND else [line.split(":")[0] for line in lines] == [WITHIN.get(key, key)]


def test_the_free_list_names_settings() -> None:
    assert FREE == FREE_BY_HAND
    assert set(leaves(JobSettings)) >= FREE


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (facts(), []),
        (facts(manifest="bb" * 32), ["manifest.digest: " + f'"{"aa" * 32}" -> "{"bb" * 32}"']),
        (facts(mutated("views.max_crops", 16)), ["views.max_crops: 0 -> 16"]),
        (facts(mutated("refine.gate", 0.5)), ["refine.gate: null -> 0.5"]),
        (facts(mutated("passthrough", ("a", "b"))), ['passthrough: [] -> ["a", "b"]']),
        (facts(mutated("prompt.generic", "x\n" * 100)),
         ['prompt.generic: "Write a general description of the image." -> "' + "x\\n" * 25 + "x..."]),
        (facts(digests={**DIGESTS, "config.json": "33"}), [f'model.sha256.config.json: "{"11" * 32}" -> "33"']),
        (facts(digests={"config.json": "11" * 32}), [f'model.sha256.model.safetensors: "{"22" * 32}" -> (absent)']),
        ({**facts(), "schema_version": True}, ["schema_version: 1 -> true"]),
        ({**facts(), "new.setting": 5}, ["new.setting: (absent) -> 5"]),
    ],
)  # fmt: skip
def test_differences_are_spelt_out(new: dict[str, Any], lines: list[str]) -> None:
    assert differences(facts(), new) == lines


def test_the_fingerprint_survives_json_and_order() -> None:
    made = fingerprint(BASE, "aa" * 32, DIGESTS)
    assert facts() == made and all(not isinstance(value, dict) for value in made.values())
    assert fingerprint_digest(made) == fingerprint_digest(dict(reversed(made.items())))
    assert fingerprint_digest(made) != fingerprint_digest({**made, "run.seed": 1})
