"""The oldest versions that are safe to run with, checked at start-up from package metadata (nothing is imported).

pyproject.toml asks for the same; this catches an environment that was changed afterwards.
"""

import re
from importlib import metadata

FLOORS = {
    "ray": "2.60",  # 2.55.0 ended code execution from a hostile Parquet manifest
    "pillow": "13",  # ended a heap overflow in the JPEG decoder
    "pyarrow": "26",  # ended forwarding of a key server's address named by the file
    "torch": "2.11",
    "transformers": "5.23",
}


class VersionTooOld(RuntimeError):
    """A library is missing or older than its floor; the message names both versions."""


def check_floors(floors: dict[str, str] = FLOORS) -> None:
    """Refuse an environment with libraries below their floors.

    Raises:
        VersionTooOld: one line with every library at fault, its installed and its required version.
    """
    faults = [fault for name, floor in floors.items() if (fault := _fault(name, floor))]
    if faults:
        raise VersionTooOld("; ".join(faults))


def _fault(name: str, floor: str) -> str | None:
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed, {floor} or newer is required"
    if _release(installed) < _release(floor):
        return f"{name} {installed} is installed, {floor} or newer is required"
    return None


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros: 2.13.0+cpu is (2, 13)."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in numbers.group().split(".")] if numbers else []
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
