"""S3: a real client against a server in this machine, and against a port that never answers."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import open_manifest, read_rows
from schemas.job import FetchSettings
from schemas.status import RowFailure, Status
from tests.stand_ins.s3_server import running_s3

BODY = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server with one bucket."""
    with running_s3(tmp_path_factory.mktemp("s3")) as url:
        writer(url).create_bucket(Bucket="archive")
        for key, body in (("a.jpg", BODY), ("empty", b""), ("big", bytes(5000))):
            writer(url).put_object(Bucket="archive", Key=key, Body=body)
        yield url


def writer(url: str) -> Any:
    names = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, **names)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def fetcher(**settings: Any) -> Fetcher:
    chosen = FetchSettings(
        **{"max_bytes": 4096, "timeout_s": 90, "outage_s": 0, "attempts": 2, "buckets": ("archive", "absent")} | settings
    )
    return Fetcher(chosen, AddressPolicy.from_settings(chosen, "s3://archive", True))


def status(fetching: Fetcher, uri: str) -> str:
    try:
        return str(len(fetching.fetch(uri)))
    except RowFailure as failure:
        assert "SECRET" not in failure.message
        return failure.status


def test_objects(endpoint: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    fetching = fetcher()
    assert fetching.fetch("s3://archive/a.jpg") == fetching.fetch("a.jpg") == BODY
    assert status(fetching, "empty") == "0"
    assert status(fetching, "big") == Status.FETCH_TOO_LARGE
    assert status(fetching, "none.jpg") == Status.FETCH_NOT_FOUND
    assert status(fetching, "s3://absent/a.jpg") == Status.FETCH_NOT_FOUND
    assert status(fetching, "s3://other/a.jpg") == Status.FETCH_DENIED


def test_manifest_in_a_bucket(endpoint: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    fsspec.filesystem("s3").clear_instance_cache()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b"], "image_uri": ["a.jpg", "empty"]}), sink)
    writer(endpoint).put_object(Bucket="archive", Key="m/one.parquet", Body=sink.getvalue().to_pybytes())
    manifest = open_manifest("s3://archive/m", None, (), ())
    assert (manifest.base, manifest.remote, manifest.rows) == ("s3://archive/m", True, 2)
    assert [row.id for row in read_rows(manifest, 0, 2)] == ["a", "b"]
    settings = FetchSettings()
    policy = AddressPolicy.from_settings(settings, manifest.base, manifest.remote)
    assert policy.resolve("a.jpg").place == "archive/m/a.jpg"
    fsspec.filesystem("s3").clear_instance_cache()


def test_no_credentials(endpoint: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert status(fetcher(), "a.jpg") in (Status.FETCH_DENIED, str(len(BODY)))  # moto serves anonymous readers


def test_a_store_that_never_answers(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs' own limits do not hold here; the deadline does, and no thread stays behind."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert status(fetcher(timeout_s=1.5), "a.jpg") == Status.FETCH_TIMEOUT
        for thread in [thread for thread in threading.enumerate() if thread.name == "fetch"]:
            thread.join()


def test_a_closed_port(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, so that nobody else can listen there, but not open
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert status(fetcher(), "a.jpg") == Status.FETCH_FAILED
