"""Whatever is changed in a finished output folder, the audit says so; changed back, it is proven again."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_pipeline.delivery.audit import Expected, verify_output
from ray_pipeline.delivery.commit import Output
from tests.faults.delivery_runs import DIGEST, IDS, drive, scratch_folder
from tests.faults.tampers import KINDS, contents, tampered, write


@pytest.fixture(scope="module")
def finished() -> Iterator[Path]:
    """A complete output folder."""
    with scratch_folder() as name:
        drive(Path(name))
        yield Path(name) / "out"


def audit(folder: Path) -> list[str]:
    return verify_output(Output(str(folder)), Expected(DIGEST, iter(IDS)))


def test_each_tampering_is_found(finished: Path) -> None:
    chance, files = random.Random(6), contents(finished)
    seen = set()
    for _ in range(150):
        said, changed = tampered(files, chance)
        write(finished, files, changed)
        assert audit(finished), said
        assert verify_output(Output(str(finished)), None), f"{said}, without the manifest"
        write(finished, changed, files)
        seen.add(said.partition(" ")[0])
    assert seen == set(KINDS)
    assert audit(finished) == []


@pytest.mark.parametrize("name", ["metrics.json", ".staging/x", ".journal/part-00000." + "0" * 32 + ".jsonl", "notes.txt"])
def test_what_is_no_evidence_does_not_count(finished: Path, name: str) -> None:
    (finished / name).write_bytes(b"x")
    assert audit(finished) == []
    (finished / name).unlink()
