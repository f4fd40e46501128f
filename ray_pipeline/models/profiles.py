"""What calibration left of a model: found, checked against the weights, laid into a run's settings.

There are two places. A model's own folder may hold a head profile with its regressor; `select.profile` names another one.
`profile` names what `fovea calibrate` wrote, of which heads and regressor are a part. A node of a cluster may not see the
driver's files: `resolved` puts their content into the settings, where the path was, and so it travels with them.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ray_pipeline.models.registry import FAMILIES, declared
from ray_pipeline.models.weights import LINE_FINDER, LINE_READER, ModelRefused, model_digests
from schemas.job import JobSettings
from schemas.methods import SelectSettings
from schemas.profile import ConfidenceMap, HeadProfile, Profile, Sure

PROFILE, REGRESSOR = "profile.json", "iou_regressor.safetensors"
READS_HEADS = ("acs_free", "inside_mass")
SELECTS_BY_PROFILE = (*READS_HEADS, "acs_learned")
CARRIED = "the profile of this run"
LARGEST_BYTES = 64 << 20  # of a profile with its regressor: it goes to every worker

Read = Callable[[str], bytes]
_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True)
class Learned:
    """A profile, its file, and the bytes of its regressor, where it has one. `shown` is its address for messages."""

    profile: Profile
    data: bytes
    regressor: bytes | None
    shown: str

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of its files, wherever they lie: another profile makes another run."""
        files = {PROFILE: self.data} | ({REGRESSOR: self.regressor} if self.regressor is not None else {})
        return {f"profile/{name}": hashlib.sha256(data).hexdigest() for name, data in files.items()}


def weights_digest(folder: Path) -> str:
    """What a profile calls its model: sha256 over the digests, by name, of the weights that an answer's attention comes from.

    Raises:
        ModelRefused: a folder of no known family.
    """
    kind, _ = declared(folder)
    beside = {REGRESSOR} if FAMILIES[kind].sees_lines else {REGRESSOR, LINE_FINDER, LINE_READER}
    digests = model_digests(folder)
    own = {name: digest for name, digest in digests.items() if name.endswith(".safetensors") and name not in beside}
    return hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in sorted(own.items())).encode()).hexdigest()


def read_local(path: str) -> bytes:
    """A file of this machine."""
    return Path(path.removeprefix("file://")).expanduser().read_bytes()


def learned(address: str, folder: Path, read: Read = read_local) -> Learned:
    """The profile at an address, or carried in its place, once it is known to be of the weights in `folder`.

    Raises:
        ModelRefused: unreadable, of other weights, or without the regressor it names.
    """
    if address.startswith("{"):
        found = _carried(address)
    else:
        found = _at(address, read)
    _refuse_other_weights(found.shown, found.profile.model, weights_digest(folder))
    return found


def resolved(settings: JobSettings, folder: Path, read: Read = read_local) -> tuple[JobSettings, Learned | None]:
    """The settings as they hold on every machine, and the profile behind them.

    The profile's layer, heads and strategy hold wherever the settings were left alone; its content takes the place of its
    address. Settings that are resolved stay as they are.

    Raises:
        ModelRefused: what `learned` refuses, or a strategy that contradicts the settings given.
    """
    if settings.profile is None:
        return settings, None
    found, given = learned(settings.profile, folder, read), given_keys(settings)
    changes = {"profile": _packed(found.profile, None)}
    if found.profile.heads is not None and settings.select.profile is None:
        changes["select.profile"] = _packed(found.profile, found.regressor)
    changes |= {key: value for key, value in _chosen(settings, found.profile).items() if key not in given}
    tree = settings.model_dump()
    for key, value in changes.items():
        *groups, name = key.split(".")
        inner = tree
        for group in groups:
            inner = inner[group]
        inner[name] = value
    try:
        return JobSettings.model_validate(tree), found
    except ValidationError as error:
        raise ModelRefused(f"{found.shown} does not go with the settings given: {_first(error)}") from None


def given_keys(settings: JobSettings) -> frozenset[str]:
    """Dotted names of all settings in groups that somebody has set, be it to their defaults."""
    groups = {name: getattr(settings, name) for name in settings.model_fields_set}
    return frozenset(
        f"{name}.{key}" for name, group in groups.items() if isinstance(group, BaseModel) for key in group.model_fields_set
    )


def shown(resolved_settings: JobSettings, given: JobSettings) -> JobSettings:
    """Resolved settings as run.json and the fingerprint have them: with addresses in the place of content."""
    select = resolved_settings.select.model_copy(update={"profile": given.select.profile})
    return resolved_settings.model_copy(update={"profile": given.profile, "select": select})


def confidence_maps(settings: JobSettings, profile: Profile) -> tuple[dict[Sure, ConfidenceMap], tuple[str, ...]]:
    """The maps that hold under a run's settings; or none, and which settings differ from those they were fitted under."""
    if settings.task != "answer":
        return {}, (f"task: answer -> {settings.task}",)
    differing = []
    for group in type(profile.under).model_fields:
        fitted, own = (getattr(tree, group).model_dump(mode="json") for tree in (profile.under, settings))
        changed = [name for name in own if own[name] != fitted.get(name) and (group, name) != ("select", "profile")]
        differing += [f"{group}.{name}: {json.dumps(fitted.get(name))} -> {json.dumps(own[name])}" for name in changed]
    return ({}, tuple(differing)) if differing else (dict(profile.confidences), ())


def find_profile(folder: Path, select: SelectSettings) -> HeadProfile | None:
    """The head profile a selector needs, or None where it needs none.

    Raises:
        ModelRefused: it needs one and there is none, or it is unreadable or of other weights; or the regressor is missing.
    """
    if select.method not in SELECTS_BY_PROFILE:
        return None
    profile, place = _heads(folder, select)
    _refuse_other_weights(place, profile.model, weights_digest(folder))
    if select.method in READS_HEADS and not (profile.heads or profile.pointing):
        raise ModelRefused(f"select.method {select.method!r} with {place}, which names no heads; expected some")
    if select.method == "acs_learned" and _regressor(folder, select) is None:
        raise ModelRefused(f"select.method 'acs_learned' without a regressor: no {REGRESSOR} beside {place}")
    return profile


def regressor_bytes(folder: Path, select: SelectSettings) -> bytes | None:
    """The regressor's file where the selector reads one."""
    return _regressor(folder, select) if select.method == "acs_learned" else None


def profile_digests(folder: Path, select: SelectSettings) -> dict[str, str]:
    """SHA-256 of a profile and regressor that lie outside the model's folder, whose own files are counted there."""
    if not select.profile or select.profile.startswith("{"):
        return {}
    path = _path(folder, select)
    files = [file for file in (path, path.with_name(REGRESSOR)) if file.is_file()]
    return {f"select.profile/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _path(folder: Path, select: SelectSettings) -> Path:
    return Path(select.profile).expanduser() if select.profile else folder / PROFILE


def _heads(folder: Path, select: SelectSettings) -> tuple[HeadProfile, str]:
    """A head profile and its place: alone in a file, or a part of a calibration."""
    if select.profile and select.profile.startswith("{"):
        found = _carried(select.profile)
        return _only_heads(found.profile, found.shown), found.shown
    path = _path(folder, select)
    if not path.is_file():
        raise ModelRefused(f"select.method {select.method!r} without a profile: no {path}; expected one of these weights")
    data = path.read_bytes()
    if _is_calibration(data):
        return _only_heads(_parsed(Profile, data, str(path), "a profile"), str(path)), str(path)
    return _parsed(HeadProfile, data, str(path), "a head profile"), str(path)


def _only_heads(profile: Profile, place: str) -> HeadProfile:
    if profile.heads is None:
        raise ModelRefused(f"{place} has no heads ({profile.left_out.get('heads', 'none were looked for')}); expected some")
    return profile.heads


def _regressor(folder: Path, select: SelectSettings) -> bytes | None:
    if select.profile and select.profile.startswith("{"):
        return _carried(select.profile).regressor
    file = _path(folder, select).with_name(REGRESSOR)
    return file.read_bytes() if file.is_file() else None


def _is_calibration(data: bytes) -> bool:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "version" in content


def _at(address: str, read: Read) -> Learned:
    said = _read(address, read)
    profile = _parsed(Profile, said, address, "a profile that `fovea calibrate` wrote")
    if profile.regressor is None:
        return Learned(profile, said, None, address)
    beside = f"{address.rpartition('/')[0]}/{REGRESSOR}" if "/" in address else REGRESSOR
    data = _read(beside, read)
    if (digest := hashlib.sha256(data).hexdigest()) != profile.regressor.sha256:
        raise ModelRefused(f"{beside} has sha256 {digest[:12]}, expected {profile.regressor.sha256[:12]} as its profile says")
    return Learned(profile, said, data, address)


def _read(address: str, read: Read) -> bytes:
    try:
        data = read(address)
    except (OSError, ValueError, ImportError) as error:
        why = getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelRefused(f"profile {address}: {why}; expected what `fovea calibrate` wrote") from None
    if len(data) > LARGEST_BYTES:
        raise ModelRefused(f"profile {address}: {len(data)} bytes, expected at most {LARGEST_BYTES}")
    return data


def _packed(profile: Profile, regressor: bytes | None) -> str:
    coded = None if regressor is None else base64.b64encode(regressor).decode()
    return json.dumps({"profile": profile.model_dump(mode="json"), "regressor": coded}, sort_keys=True)


def _carried(text: str) -> Learned:
    """The inverse of `_packed`."""
    try:
        tree: dict[str, Any] = json.loads(text)
        coded, said = tree["regressor"], json.dumps(tree["profile"]).encode()
        regressor = None if coded is None else base64.b64decode(coded, validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise ModelRefused(f"profile given as text: {type(error).__name__}; expected the address of a file") from None
    return Learned(_parsed(Profile, said, CARRIED, "a profile"), said, regressor, CARRIED)


def _parsed(kind: type[_Kind], data: bytes, place: str, expected: str) -> _Kind:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise ModelRefused(f"{place}: {_first(error)}; expected {expected}") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")


def _refuse_other_weights(place: str, found: str, own: str) -> None:
    if found != own:
        raise ModelRefused(f"{place} is of weights {found[:12]}, this model's are {own[:12]}; expected a profile of its own")


def _chosen(settings: JobSettings, profile: Profile) -> dict[str, Any]:
    """What the profile sets in a run of this task: strategies were measured on answers; phrases are located by attention too."""
    layer = {} if profile.focus is None else {"refine.layer": profile.focus.layer}
    if settings.task == "label":
        return layer if settings.label.find != "read" else {}
    return layer | ({} if profile.strategy is None else dict(profile.strategy.settings))
