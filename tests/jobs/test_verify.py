"""The command `verify` from manifest to exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.verify import main
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.fingerprint import fingerprint
from ray_pipeline.delivery.formats.parquet import results_bytes
from ray_pipeline.delivery.index import build_index, write_index
from ray_pipeline.delivery.rows import failed_row
from ray_pipeline.intake.manifest import cut_parts, open_manifest, read_rows
from schemas.job import JobSettings
from schemas.status import RowFailure, Status


def write_manifest(path: Path, ids: list[str]) -> str:
    columns = {
        "id": ids,
        "image_uri": [f"{name}.png" for name in ids],
        "question": ["?"] * len(ids),
        "shelf": list(range(len(ids))),
    }
    pq.write_table(pa.table(columns), path)
    return str(path)


def complete_run(folder: Path, limit: int | None = None) -> tuple[str, str]:
    uri = write_manifest(folder / "m.parquet", [f"id-{number}" for number in range(50)])
    settings = JobSettings.model_validate(
        {"manifest": uri, "output": str(folder / "out"), "passthrough": ["shelf"], "run": {"limit": limit, "part_rows": 16}}
    )
    manifest = open_manifest(uri, limit, ("question",), settings.passthrough)
    output, facts = Output(settings.output), fingerprint(settings, manifest.digest, {})
    output.create("run.json", json.dumps({"settings": settings.model_dump(mode="json"), "fingerprint": facts}).encode())
    parts = cut_parts(manifest.rows, 16)
    for part in parts:
        rows = [
            failed_row(row, RowFailure(Status.SKIPPED, "test"), None) for row in read_rows(manifest, part.first_row, part.rows)
        ]
        output.create(f"results/{part.name}", results_bytes(rows, manifest.passthrough))
    write_index(output, build_index(output, parts, manifest.digest, facts))
    return settings.output, uri


@pytest.mark.parametrize(("limit", "line"), [(None, "50 rows in 4 parts"), (20, "20 rows in 2 parts")])
def test_a_complete_run_is_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: int | None, line: str) -> None:
    output, manifest = complete_run(tmp_path, limit)
    for arguments in (["--output", output], ["--output", output, "--manifest", manifest]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"complete: {line}, sha256 verified\n"


def test_a_changed_byte_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, _ = complete_run(tmp_path)
    part = Path(output) / "results/part-00002.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 4
    part.write_bytes(data)
    assert main(["--output", output]) == 3
    assert "results/part-00002.parquet has another sha256 than in index.json" in capsys.readouterr().out


def test_many_findings_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, _ = complete_run(tmp_path)
    for number in range(33):
        (Path(output) / f"results/\x1b]0;{number}\x07").write_bytes(b"")
    assert main(["--output", output]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21 and lines[-1] == "and 13 more findings"
    assert all(line.isprintable() for line in lines)


def test_another_manifest_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, _ = complete_run(tmp_path)
    other = write_manifest(tmp_path / "other.parquet", [f"id-{number}" for number in range(49)])
    assert main(["--output", output, "--manifest", other]) == 3
    out = capsys.readouterr().out
    assert "manifest digest" in out and "row 49 has id 'id-49'; the manifest has nothing" in out


def test_a_recorded_manifest_that_is_gone_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, manifest = complete_run(tmp_path)
    Path(manifest).unlink()
    assert main(["--output", output]) == 3
    assert "ids were not compared" in capsys.readouterr().out


@pytest.mark.parametrize(
    "run", [b"", b"[]", b'{"settings": []}', b'{"settings": {"run": 3, "passthrough": 1, "manifest": 7}}', b"[" * 99_999]
)
def test_a_broken_run_file_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: bytes) -> None:
    output, _ = complete_run(tmp_path)
    (Path(output) / "run.json").write_bytes(run)
    assert main(["--output", output]) == 3
    assert "run.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--output"],
        ["--output", "{tmp}/absent"],
        ["--output", "{tmp}/m.parquet"],
        ["--output", "{tmp}/out", "--manifest", "{tmp}/absent.parquet"],
        ["--output", "{tmp}/out", "--manifest", ""],
        ["--output", "{tmp}/out", "--surplus", "1"],
        ["--output", "gibberish://x"],
        ["--output", "memory://never/written"],
        ["--output", "a::b"],
        ["--output", ""],
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    complete_run(tmp_path)
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and captured.err.startswith("fovea verify: ")


def test_an_empty_folder_is_not_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path)]) == 3
    assert "index.json is missing" in capsys.readouterr().out


def test_help_fits_one_screen_and_shows_an_example() -> None:
    shown = subprocess.run([sys.executable, "-m", "jobs.verify", "--help"], capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 24 and max(map(len, shown.splitlines())) <= 130
    assert "fovea verify --output results --manifest archive/manifest.parquet" in shown
