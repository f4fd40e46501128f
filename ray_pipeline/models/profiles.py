"""What calibration left beside a model: its head profile and its regressor, found and checked against the weights."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from ray_pipeline.models.weights import LINE_FINDER, LINE_READER, ModelRefused, model_digests
from schemas.methods import SelectSettings
from schemas.profile import HeadProfile

PROFILE, REGRESSOR = "profile.json", "iou_regressor.safetensors"
NOT_THE_MODEL = frozenset({REGRESSOR, LINE_FINDER, LINE_READER})  # safetensors that no answer's attention comes from
READS_HEADS = ("acs_free", "inside_mass")


def weights_digest(folder: Path) -> str:
    """What a profile calls its model: sha256 over the digests of the weights, by name, without NOT_THE_MODEL."""
    digests = model_digests(folder)
    own = {name: digest for name, digest in digests.items() if name.endswith(".safetensors") and name not in NOT_THE_MODEL}
    return hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in sorted(own.items())).encode()).hexdigest()


def profile_path(folder: Path, select: SelectSettings) -> Path:
    """The profile that a run would use; its regressor lies beside it."""
    return Path(select.profile).expanduser() if select.profile else folder / PROFILE


def find_profile(folder: Path, select: SelectSettings) -> HeadProfile | None:
    """The profile a selector needs, or None where it needs none.

    Raises:
        ModelRefused: it needs one and there is none, or it is unreadable or of other weights; or the regressor is missing.
    """
    if select.method not in (*READS_HEADS, "acs_learned"):
        return None
    path = profile_path(folder, select)
    if not path.is_file():
        raise ModelRefused(f"select.method {select.method!r} without a profile: no {path}; expected one of these weights")
    try:
        profile = HeadProfile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelRefused(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected a head profile") from None
    own = weights_digest(folder)
    if profile.model != own:
        raise ModelRefused(
            f"{path} is of weights {profile.model[:12]}, this model's are {own[:12]}; expected a profile of its own"
        )
    if select.method == "acs_learned" and not path.with_name(REGRESSOR).is_file():
        raise ModelRefused(f"select.method 'acs_learned' without a regressor: no {path.with_name(REGRESSOR)}")
    return profile


def regressor_bytes(folder: Path, select: SelectSettings) -> bytes | None:
    """The regressor's file where the selector reads one."""
    return profile_path(folder, select).with_name(REGRESSOR).read_bytes() if select.method == "acs_learned" else None


def profile_digests(folder: Path, select: SelectSettings) -> dict[str, str]:
    """SHA-256 of a profile and regressor that lie outside the model's folder, whose own files are counted there."""
    if not select.profile:
        return {}
    path = profile_path(folder, select)
    files = [file for file in (path, path.with_name(REGRESSOR)) if file.is_file()]
    return {f"select.profile/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
