"""The command with manifest, pictures and results in S3, on a declared GPU: all rows there, proven, and left alone after that."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs

from jobs import answer, verify
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.formats.parquet import results_rows
from tests.faults.small_archive import SETTINGS, write_small_archive
from tests.stand_ins.s3_server import running_s3

ROWS, PART_ROWS = 20, 8
SECRET = "SECRET-of-the-store"
ABSENT = "p3.png"  # the picture of one row, which is not there


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_whole_run_in_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    output = "s3://archive/out"
    command = ["--manifest", "s3://archive/in/manifest.parquet", "--output", output, "--actors", "1", "--gpus-per-actor", "0.5"]
    for setting in (*SETTINGS, f"run.part_rows={PART_ROWS}"):
        command += ["--set", setting]
    write_small_archive(tmp_path / "in", ROWS)
    with (
        running_s3(tmp_path) as url,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder,
    ):
        names = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**names, "AWS_ENDPOINT_URL_S3": url}.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket="archive")
        for path in (tmp_path / "in").iterdir():
            if path.name != ABSENT:
                client.upload_file(str(path), "archive", f"in/{path.name}")
        ended = subprocess.run(
            [sys.executable, "-m", "tests.faults.hash_job", *command],
            env=os.environ | {"RAY_TMPDIR": ray_folder},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        folder = Output(output)
        rows = [row for name in folder.list_results() for row in results_rows(folder.read_result(name))]
        assert [row["id"] for row in rows] == [f"r{k}" for k in range(ROWS)]
        assert [row["id"] for row in rows if row["status"] != "ok"] == ["r3"] and rows[3]["status"] == "fetch_not_found"
        stored = {one["Key"].partition("/")[2]: one["ETag"] for one in objects(client)}
        assert {name for name in stored if "/" not in name} == {"index.json", "metrics.json", "run.json"}
        assert {name for name in stored if "/" in name} == {f"results/part-{k:05d}.parquet" for k in range(-(-ROWS // PART_ROWS))}
        assert verify.main(["--output", output]) == 0
        assert answer.main(command) == 0
        assert {one["Key"].partition("/")[2]: one["ETag"] for one in objects(client)} == stored
        said = ended.stdout + ended.stderr + "".join(capfd.readouterr())
        assert "nothing to do" in said
        assert SECRET not in said and SECRET.encode() not in folder.read("run.json") + folder.read("metrics.json")
        s3fs.S3FileSystem.clear_instance_cache()


def objects(client: Any) -> list[dict[str, str]]:
    """All of the output folder."""
    listed: list[dict[str, str]] = client.list_objects_v2(Bucket="archive", Prefix="out/")["Contents"]
    return listed
