"""Twelve and more secrets, in every place that can hold one, are found nowhere but where they were put."""

import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import answer
from ray_pipeline import events
from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.report.page import Report, report_page
from ray_pipeline.delivery.report.shown_row import ShownRow
from ray_pipeline.delivery.rows import failed_row
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import ManifestRefused, open_manifest
from schemas.job import FetchSettings
from schemas.manifest import ManifestRow
from schemas.status import RowFailure, Status
from tests.faults import canary_secrets
from tests.faults.canary_secrets import ADDRESSES, CANARIES, COPIED, ENVIRONMENT, QUERY, leaking_files, leaks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in ENVIRONMENT.items():
        monkeypatch.setenv(name, secret)


def test_the_search_finds_what_is_there() -> None:
    assert len(CANARIES | COPIED) >= 12 and leaks("nothing") == []
    for place, secret in (CANARIES | COPIED).items():
        assert leaks(f"x{secret}y") == [place]
        assert place in leaks(secret.upper()) and place in leaks(canary_secrets.quote(secret, safe=""))
        for before in ("", "a", "ab", "me:"):
            assert leaks(canary_secrets.base64.b64encode((before + secret + "!").encode())) == [place]
    assert {place for name in ADDRESSES.values() for place in leaks(name)} >= {"query", "user info", "fragment", "s3 user info"}


def test_a_find_in_a_result_file_is_told_from_what_is_copied_by_wish(tmp_path: Path) -> None:
    canary_secrets.write_manifest(tmp_path)
    found, files, size = leaking_files(tmp_path)
    assert files == 3 and size > 1000 and found == ["bad.jpg: picture", "good.jpg: picture"]
    assert len(leaks(pq.read_table(tmp_path / "manifest.parquet").column("image_uri").to_pylist().__repr__())) >= 4
    table = pq.read_table(tmp_path / "manifest.parquet").rename_columns(["id", "image_uri", "question", "note"])
    pq.write_table(table.set_column(2, "question", table.column("note")), tmp_path / "manifest.parquet")
    assert "manifest.parquet: passthrough column" in leaking_files(tmp_path)[0]


def told(failure: RowFailure) -> list[str]:
    """Everything that is said of a failed row: in results, in the report, and what the log would take."""
    row = failed_row(ManifestRow(0, "a", "a.png"), failure, None)
    return [row["error"], report_page(Report("t", [ShownRow(0, row, "a.png")])), one_line(str(failure))]


def failure_of(fetcher: Fetcher, uri: str) -> RowFailure:
    with pytest.raises(RowFailure) as caught:
        fetcher.fetch(uri)
    assert caught.value.__cause__ is None, "a cause would be printed with it"
    return caught.value


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "denied"])
def test_addresses(allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    hosts = ("images.example", "me") if allowed else ()
    settings = FetchSettings(
        schemes=("file", "s3", "http", "https"), hosts=hosts, buckets=("bucket",) if allowed else (), attempts=1, timeout_s=5
    )
    fetcher = Fetcher(settings, AddressPolicy.from_settings(settings, str(tmp_path), False))
    for name, uri in [*ADDRESSES.items(), ("object", "s3://bucket/absent.png")]:
        failure = failure_of(fetcher, uri)
        assert leaks(failure.message) == [], (name, failure.message)
        assert [place for text in told(failure) for place in leaks(text)] == []
    assert leaks("".join(capfd.readouterr())) == []


class Indiscreet(BaseHTTPRequestHandler):
    """Replies that tell secrets in status line, headers and body."""

    def do_GET(self) -> None:
        secret = CANARIES["reply"]
        kind = self.path.split("?")[0].strip("/")
        if kind == "nonsense":
            self.wfile.write(f"password={secret} {secret}\r\n\r\n".encode())
        elif kind == "version":
            self.wfile.write(f"HTTP/{secret} 200 OK\r\n\r\n".encode())
        elif kind == "header":
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{secret}{'x' * 70_000}: 1\r\n\r\n".encode())
        elif kind == "chunk":
            self.wfile.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{secret}\r\n".encode())
        elif kind == "encoding":
            self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Encoding: {secret}\r\n\r\n".encode())
        elif kind == "redirect":
            self.wfile.write(f"HTTP/1.1 302 {secret}\r\nLocation: http://me:{secret}@h.example/?{QUERY}\r\n\r\n".encode())
        else:
            head = f"HTTP/1.1 {kind} {secret}\r\nSet-Cookie: sid={secret}\r\nWWW-Authenticate: Basic realm={secret}\r\n"
            self.wfile.write(f"{head}Retry-After: {secret}\r\nContent-Length: {len(secret)}\r\n\r\n{secret}".encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Not to stderr, where the test looks."""


@contextmanager
def indiscreet() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Indiscreet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_replies() -> None:
    with indiscreet() as port:
        settings = FetchSettings(schemes=("http",), hosts=(f"127.0.0.1:{port}",), attempts=1, timeout_s=1)
        policy = AddressPolicy.from_settings(settings, "/nowhere", False, loopback_for_tests=True)
        kinds = [
            "401",
            "403",
            "404",
            "429",
            "500",
            "503",
            "204",
            "nonsense",
            "version",
            "header",
            "chunk",
            "encoding",
            "redirect",
        ]
        said = {kind: failure_of(Fetcher(settings, policy), f"http://127.0.0.1:{port}/{kind}?{QUERY}") for kind in kinds}
    assert {kind: failure.message for kind, failure in said.items() if leaks(failure.message)} == {}
    assert [kind for kind, failure in said.items() for text in told(failure) if leaks(text)] == []


def test_pictures(tmp_path: Path) -> None:
    decoder = Decoder(FetchSettings(decode_timeout_s=20))
    try:
        good = canary_secrets.picture()
        assert leaks(repr(decoder.decode(good, None))) == []
        for length in (len(good) // 4, len(good) // 2):
            with pytest.raises(RowFailure) as caught:
                decoder.decode(good[:length], None)
            assert [place for text in told(caught.value) for place in leaks(text)] == []
    finally:
        decoder.close()


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://me:{CANARIES['s3 user info']}@bucket/m.parquet",
        f"https://me:{CANARIES['user info']}@127.0.0.1:1/m.parquet?{QUERY}",
        f"absent/m.parquet?{QUERY}",
        f"file:///absent/m.parquet?{QUERY}#{CANARIES['fragment']}",
        f"nothing://me:{CANARIES['user info']}@h/m.parquet",
    ],
)
def test_manifests(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ManifestRefused) as caught:
        open_manifest(uri, None, ("question",), ())
    assert leaks(str(caught.value)) == [], str(caught.value)


SETTINGS = {
    "an unknown key of the config file": (f"aws_secret_key: {CANARIES['config file']}\n", [], {}),
    "an unknown key in a group": (f"fetch:\n  password: {CANARIES['config file']}\n", [], {}),
    "a config file that is none": (f"manifest: [{CANARIES['config file']}\n  x: {{\n", [], {}),
    "a key twice": (f"token: {CANARIES['config file']}\ntoken: {CANARIES['config file']}\n", [], {}),
    "an unknown option": ("", ["--set", f"fetch.password={CANARIES['config file']}"], {}),
    "an unknown variable": ("", [], {"FOVEA_TOKEN": CANARIES["settings in the environment"]}),
    "a manifest": ("", [], {"FOVEA_MANIFEST": f"s3://me:{CANARIES['settings in the environment']}@bucket/m.parquet"}),
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    config, options, environment = SETTINGS[name]
    (tmp_path / "run.yaml").write_text(config)
    for variable, value in ({"FOVEA_MANIFEST": "absent.parquet"} | environment).items():
        monkeypatch.setenv(variable, value)
    assert answer.main(["--config", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "out"), *options]) == 2
    shown = "".join(capfd.readouterr())
    assert shown and leaks(shown) == [], shown
    assert not (tmp_path / "out").exists()


def test_failures_of_every_stage(tmp_path: Path) -> None:
    log = events.logger(tmp_path / "log")
    raised = list(canary_secrets.failures())
    for number, error in enumerate(raised):
        status = list(Status)[1 + number % (len(Status) - 1)]
        failure = RowFailure(status, f"{type(error).__name__}: {error}")
        assert [place for text in told(failure) for place in leaks(text)] == []
        log.error("row_failed", status=status, why=failure, error=error)
    assert len(raised) >= 20 and leaks((tmp_path / "log").read_bytes()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_run_in_which_every_stage_fails(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Results, run.json, metrics, report, what was printed, and everything that Ray writes."""
    sessions = Path("/tmp") / f"canary-{tmp_path_factory.getbasetemp().name}"  # short, because of the names of Ray's sockets
    sessions.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.canary_secrets", str(tmp_path)], cwd=ROOT, capture_output=True, check=False,
        env=canary_secrets.environment() | {"RAY_TMPDIR": str(sessions)}, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert leaks(done.stdout + done.stderr) == []
    found, files, _ = leaking_files(tmp_path / "out")
    assert found == [] and files >= 6 and (tmp_path / "out" / "report.html").is_file()
    rows = pq.read_table(io.BytesIO((tmp_path / "out" / "results" / "part-00000.parquet").read_bytes())).to_pylist()
    assert {row["note"] for row in rows} == {COPIED["passthrough column"]}, "what is copied by wish is there"
    sessions_found, session_files, _ = leaking_files(sessions)
    shutil.rmtree(sessions, ignore_errors=True)
    assert sessions_found == [] and session_files > 10
