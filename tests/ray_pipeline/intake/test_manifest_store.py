"""A manifest in a store that is silent, busy, breaks off or refuses: asked again or refused in one line, never for ever."""

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from ray_pipeline.intake import manifest_files, manifest_store
from ray_pipeline.intake.manifest import ManifestRefused, open_manifest, read_rows
from tests.faults import faulty_s3
from tests.faults.faulty_s3 import LOST_REPLY, RESET, SILENCE, Fault, FaultyS3, running_faulty_s3

URI = "s3://archive/m/one.parquet"
ROWS = 40


class Ranged(faulty_s3._Handler):
    """The same, but it knows ranges, in which files are read."""

    def _get(self, key: str, query: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        status, data, headers = super()._get(key, query, body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        return status, data[int(asked[1]) : int(asked[2]) + 1] if asked else data, headers


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A server that holds the manifest."""
    sink = pa.BufferOutputStream()
    table = pa.table({"id": [f"r{k}" for k in range(ROWS)], "image_uri": [f"p{k}.png" for k in range(ROWS)]})
    pq.write_table(table, sink, row_group_size=10)
    with running_faulty_s3() as server:
        server.RequestHandlerClass = Ranged
        server.objects["archive/m/one.parquet"] = sink.getvalue().to_pybytes()
        names = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**names, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def impatient(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds for each question, once the S3 library is warm: its first client alone takes a second or two."""
    open_manifest(URI, None, (), ())
    store.asked.clear()
    monkeypatch.setattr(manifest_files, "FIRST_S", 3.0)


def refusal(uri: str = URI) -> str:
    with pytest.raises(ManifestRefused) as refused:
        open_manifest(uri, None, (), ())
    assert "\n" not in str(refused.value) and "SECRET" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("uri", [URI, "s3://archive/m", "s3://archive/m/*.parquet"])
def test_a_server_that_says_nothing_is_given_up(store: FaultyS3, impatient: None, uri: str) -> None:
    store.chance = lambda: SILENCE
    assert re.fullmatch(r"manifest s3://archive/m\S* cannot be read \(\w*Time\w*(: .*)?\)", refusal(uri))
    assert 1 <= len(store.asked) <= 8


def test_a_server_that_falls_silent_while_the_file_is_read_is_given_up(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_store.ManifestStore.__init__, "__defaults__", (0.8, 0.4))
    monkeypatch.setattr(manifest_files.store_of, "__defaults__", (0.8,))
    store.fail("GET", *[SILENCE] * 99)
    assert "cannot be read as Parquet" in refusal()


MOMENTS: list[tuple[str, Fault]] = [
    ("HEAD", (503, "SlowDown")),
    ("HEAD", (500, "InternalError")),
    ("HEAD", RESET),
    ("HEAD", LOST_REPLY),
    ("GET", (503, "ServiceUnavailable")),
    ("GET", RESET),
    ("GET", LOST_REPLY),
]


@pytest.mark.parametrize(("kind", "fault"), MOMENTS)
def test_what_passes_costs_nothing(store: FaultyS3, kind: str, fault: Fault) -> None:
    """A busy moment must not make a folder of a file, or relative addresses would start from the wrong place."""
    store.fail(kind, fault, fault)
    manifest = open_manifest(URI, None, (), ())
    assert (manifest.base, manifest.rows) == ("s3://archive/m", ROWS)
    store.fail("GET", *[fault] * (2 if kind == "GET" else 0))
    assert [row.id for row in read_rows(manifest, 5, 20)] == [f"r{k}" for k in range(5, 25)]


FINAL: list[tuple[str, Fault, str]] = [
    ("HEAD", (403, "Forbidden"), "PermissionError"),
    ("HEAD", (405, "MethodNotAllowed"), "cannot be read"),
    ("GET", (403, "AccessDenied"), "PermissionError"),
]


@pytest.mark.parametrize(("kind", "fault", "said"), FINAL)
def test_what_stays_is_not_asked_twice(store: FaultyS3, kind: str, fault: Any, said: str) -> None:
    store.fail(kind, *[fault] * 9)
    assert said in refusal()
    assert len(store.faults) == 8


def test_what_is_not_there(store: FaultyS3) -> None:
    assert "has no Parquet file" in refusal("s3://archive/absent.parquet")
    assert len(store.asked) <= 5  # as often as the client itself needs to be sure


def test_no_credentials_are_said_at_once(store: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "NoCredentialsError" in refusal() and store.asked == []
