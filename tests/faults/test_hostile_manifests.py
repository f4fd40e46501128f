"""Hostile and damaged manifests: one line of refusal or honest rows, nothing run, nothing unfolded."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.intake.manifest import ManifestRefused, open_manifest, read_rows
from tests.faults.hostile_manifests import (
    COLUMNS,
    PASSTHROUGH,
    HostileManifest,
    Touch,
    alike_ids,
    damaged_manifests,
    hostile_manifests,
    sound_manifest,
)
from tests.faults.manifest_probe import Verdict, opened_apart

MOST_MEMORY_BYTES = 300 << 20  # over the start: a page of 50 MB has to be unfolded before its text can be called too long


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary") / "created"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory, canary: Path) -> tuple[Path, list[HostileManifest]]:
    """Written as numbered files."""
    folder = tmp_path_factory.mktemp("hostile")
    made = list(hostile_manifests(canary))
    for number, manifest in enumerate(made):
        (folder / f"{number:03d}.parquet").write_bytes(manifest.data)
    return folder, made


@pytest.fixture(scope="module")
def verdicts(manifests: tuple[Path, list[HostileManifest]]) -> list[Verdict]:
    return opened_apart(manifests[0], timeout_s=100)


def test_every_hostile_manifest_gets_its_verdict(
    manifests: tuple[Path, list[HostileManifest]], verdicts: list[Verdict], canary: Path
) -> None:
    made = manifests[1]
    assert len(verdicts) == len(made) + 1, f"{made[len(verdicts) - 1].name} ended the process"
    for manifest, (_, refusal, _, _) in zip(made, verdicts[1:], strict=True):
        assert (refusal is not None) == manifest.refused, (manifest.name, refusal)
        assert refusal is None or (refusal.isprintable() and len(refusal) < 1000), manifest.name
    assert not canary.exists()


def test_none_of_them_unfolds(verdicts: list[Verdict]) -> None:
    assert verdicts[-1][3] - verdicts[0][3] < MOST_MEMORY_BYTES


def test_the_payload_would_have_made_the_canary(tmp_path: Path) -> None:
    """Unpickled by a careless reader it does: so that the canary's absence means something."""
    pickle.loads(pickle.dumps(Touch(tmp_path / "made")))
    assert (tmp_path / "made").exists()


CARELESS = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
import ray.data
from ray.air.util.tensor_extensions import arrow
try:
    pq.read_table(sys.argv[1])
except Exception:
    pass
"""


@pytest.mark.slow
def test_a_careless_reader_runs_what_they_carry(tmp_path: Path) -> None:
    """With the switches that `refuse_unsafe_environment` refuses, Ray does: the attack is a real one."""
    canary = tmp_path / "made"
    first = next(hostile_manifests(canary))
    (tmp_path / "m.parquet").write_bytes(first.data)
    switches = {"RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "1", "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE": "1"}
    subprocess.run([sys.executable, "-c", CARELESS, str(tmp_path / "m.parquet")], env=os.environ | switches, check=True)
    assert canary.exists()


@pytest.mark.parametrize("seed", range(4))
def test_damaged_manifests_are_refused_or_read(tmp_path: Path, seed: int) -> None:
    """Whatever a flipped bit does, it is not another exception, and rows that are given can be read."""
    path, refused = tmp_path / "m.parquet", 0
    for data in damaged_manifests(seed, 100):
        path.write_bytes(data)
        try:
            manifest = open_manifest(str(path), None, COLUMNS, PASSTHROUGH)
            assert len(read_rows(manifest, 0, manifest.rows)) == manifest.rows
        except ManifestRefused as error:
            refused += 1
            assert str(error).isprintable()
    assert 50 < refused < 100


def test_damaged_pages_with_checksums_are_noticed(tmp_path: Path) -> None:
    """Where the writer left checksums, a changed value is not taken for a true one."""
    path = tmp_path / "m.parquet"
    table = pq.read_table(pa.BufferReader(sound_manifest()))
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    place = whole.index(b"r150")
    path.write_bytes(whole[:place] + b"r9" + whole[place + 2 :])
    with pytest.raises(ManifestRefused, match="cannot be read"):
        open_manifest(str(path), None, COLUMNS, PASSTHROUGH)


def test_names_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(alike_ids())
    manifest = open_manifest(str(tmp_path / "m.parquet"), None, (), ())
    ids = [row.id for row in read_rows(manifest, 0, manifest.rows)]
    assert {"a", "A", "../../etc/passwd"} < set(ids)
    assert len(set(ids)) == manifest.rows
