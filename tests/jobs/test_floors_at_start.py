"""A run refuses to start with libraries or an environment that are known to be unsafe, before anything is read or written."""

import importlib.metadata
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.run
from jobs import answer
from schemas.floors import FLOORS, VersionTooOld, check_floors

SAFE_SINCE = [  # library, first version without the hole, what it was
    ("ray", "2.52.0", "code from a web page through DNS rebinding: CVE-2025-62593"),
    ("ray", "2.54.0", "deletion without authentication: CVE-2026-27482"),
    ("ray", "2.55.0", "code from a Parquet file's metadata: CVE-2026-41486"),
    ("pillow", "12.2.0", "FITS bomb: CVE-2026-40192"),
    ("pillow", "13.0.0", "heap overflow in the JPEG decoder: GHSA-8g5g-8vmr-9782"),
    ("pyarrow", "14.0.1", "code from a Parquet file's metadata: CVE-2023-47248"),
    ("pyarrow", "26.0.0", "key server's address from the file: CVE-2026-92287"),
    ("torch", "2.6.0", "code from weights loaded as weights only: CVE-2025-32434"),
    ("transformers", "5.2.1", "trust in code taken from the model's own file: CVE-2026-5241"),
]
BELOW = [("ray", "2.54.1"), ("ray", "2.9.9"), ("pillow", "12.2.0"), ("pyarrow", "25.0.0"), ("torch", "2.5.1+cu124"),
         ("transformers", "5.2.0"), ("transformers", None)]  # fmt: skip


def numbers(version: str) -> list[int]:
    """The release, filled up to three numbers."""
    release = [int(part) for part in version.split("+")[0].split(".")]
    return release + [0] * (3 - len(release))


@pytest.mark.parametrize(("name", "first", "hole"), SAFE_SINCE, ids=[hole.split(": ")[1] for *_, hole in SAFE_SINCE])
def test_floors_lie_above_the_known_holes(name: str, first: str, hole: str) -> None:
    assert numbers(FLOORS[name]) >= numbers(first), hole


def test_every_floor_has_a_reason() -> None:
    assert {name for name, *_ in SAFE_SINCE} == set(FLOORS)


def test_the_lock_is_above_the_floors() -> None:
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text("utf-8")
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)$", lock, re.MULTILINE))
    assert {name for name, floor in FLOORS.items() if numbers(locked[name]) < numbers(floor)} == set()


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, installed: str | None) -> None:
    """The library is there in another version, or not at all."""
    real = importlib.metadata.version

    def version(asked: str) -> str:
        if asked != name:
            return real(asked)
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr("importlib.metadata.version", version)


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that would start; it fails the test if it does."""
    monkeypatch.setattr(jobs.run, "execute", lambda prepared: pytest.fail("the run started"))
    monkeypatch.setattr(jobs.run, "open_manifest", lambda *arguments: pytest.fail("the manifest was opened"))
    pq.write_table(pa.table({"id": ["a"], "image_uri": ["a.jpg"], "question": ["q"]}), tmp_path / "m.parquet")
    return ["--manifest", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "out")]


@pytest.mark.parametrize(("name", "installed"), BELOW)
def test_a_run_with_an_old_library_is_refused(
    name: str, installed: str | None, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, name, installed)
    assert answer.main(arguments) == 2
    said = capsys.readouterr()
    found = f"{installed} is installed" if installed else "is not installed"
    assert re.search(rf"fovea answer: {name} {re.escape(found)}, {FLOORS[name]} or newer is required\n$", said.err)
    assert not said.out and not Path(arguments[-1]).exists()


def test_all_old_libraries_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    with pytest.raises(VersionTooOld) as refusal:
        check_floors()
    assert str(refusal.value).count("1.0 is installed") == len(FLOORS) == 5


@pytest.mark.parametrize("value", ["1", "true", "yes"])
@pytest.mark.parametrize("name", ["RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA", "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE"])
def test_a_run_that_would_trust_manifests_is_refused(
    name: str, value: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert answer.main(arguments) == 2
    assert name in capsys.readouterr().err and not Path(arguments[-1]).exists()
