"""S3: a real client against a server in this machine, and against a port that never answers."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
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

BODY = bytes(range(256)) * 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a moto server with one bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            _await(f"{url}/moto-api/data.json")
            writer(url).create_bucket(Bucket="archive")
            for key, body in (("a.jpg", BODY), ("empty", b""), ("big", bytes(5000))):
                writer(url).put_object(Bucket="archive", Key=key, Body=body)
            yield url
        finally:
            server.terminate()


def writer(url: str) -> Any:
    names = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, **names)


def _await(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def fetcher(**settings: Any) -> Fetcher:
    chosen = FetchSettings(**{"max_bytes": 4096, "timeout_s": 20, "attempts": 2, "buckets": ("archive", "absent")} | settings)
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
        start = time.monotonic()
        assert status(fetcher(timeout_s=1.5), "a.jpg") == Status.FETCH_TIMEOUT
        assert time.monotonic() - start < 3
        time.sleep(0.2)
        assert not any(thread.name == "fetch" for thread in threading.enumerate())


def test_a_closed_port(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert status(fetcher(), "a.jpg") == Status.FETCH_FAILED
