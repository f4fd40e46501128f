"""One JSON object per line, with the facts of the event and nothing that only looks like one."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from ray_pipeline import events
from tests.faults.canary_secrets import ENVIRONMENT, failures, leaks


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def test_a_line_has_the_event_its_facts_and_the_time(tmp_path: Path) -> None:
    log = events.logger(tmp_path / "log", run="abc")
    log.info("part_committed", part=3, rows=64, share=0.5, complete=True, why=None)
    log.bind(part=4).warning("part_slow")
    first, second = lines(tmp_path / "log")
    assert first.pop("time").endswith("Z")
    assert first == {
        "event": "part_committed",
        "level": "info",
        "run": "abc",
        "part": 3,
        "rows": 64,
        "share": 0.5,
        "complete": True,
        "why": None,
    }
    assert (second["event"], second["level"], second["part"], second["run"]) == ("part_slow", "warning", 4, "abc")


def test_debug_is_left_out_and_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    log = events.logger()
    log.debug("a")
    log.info("b")
    shown = capsys.readouterr()
    assert shown.out == "" and json.loads(shown.err)["event"] == "b"


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\u202eb\x1b[31m\nc\u6771", "a\\u202eb\\x1b[31m\\x0ac\u6771"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**70, "0x400000000000000000"),
        (b"abc", "3 bytes, sha256 ba7816bf8f01"),
        (Path("a/b"), "a/b"),
        (Unprintable(), "Unprintable without a text (ValueError)"),
        (
            {"password": "word", "n": [1, ("x", {"deep": {"er": 1}})]},
            {"password": "[removed]", "n": [1, ["x", "{'deep': {'er': 1}}"]]},
        ),
        ({1: "a"}, {"1": "a"}),
        (list(range(50)), list(range(20))),
        ("https://me:word@h.example/a?b=c", "https://h.example/sha256:ca978112ca1b"),
        ("x" * 400, f"{'x' * 300}... (400 characters, sha256 c3dbbf2d4b03)"),
    ],
)
def test_values(tmp_path: Path, value: Any, shown: Any) -> None:
    events.logger(tmp_path / "log").info("e", value=value)
    found = lines(tmp_path / "log")[0]["value"]
    if isinstance(value, str) and len(value) == 400:
        assert found.startswith("x" * 300 + "... (400 characters, sha256 ") and len(found) < 350
    else:
        assert found == shown


def test_fields_named_after_secrets_are_removed(tmp_path: Path) -> None:
    events.logger(tmp_path / "log").info("e", api_key="word", token=b"word", tokens=3, access_token=None, has_token=True)
    found = lines(tmp_path / "log")[0]
    assert (found["api_key"], found["token"], found["tokens"]) == ("[removed]", "[removed]", 3)
    assert (found["access_token"], found["has_token"]) == (None, True)


def test_exceptions_with_their_causes_and_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in ENVIRONMENT.items():
        monkeypatch.setenv(name, secret)
    log = events.logger(tmp_path / "log")
    raised = list(failures())
    assert sum(bool(leaks(f"{error} {error.__cause__} {error.__context__}")) for error in raised) == len(raised)
    for error in raised:
        log.error("row_failed", cause=error)
        try:
            raise error
        except Exception:
            log.exception("again")
    text = (tmp_path / "log").read_text("ascii")
    assert leaks(text) == []
    written = lines(tmp_path / "log")
    assert len(written) == 2 * len(raised)
    chain = written[1]["exception"]
    assert [one["type"] for one in chain] == ["RuntimeError", "OSError"]
    assert chain[0]["at"][-1].startswith("faults/canary_secrets.py:") and chain[1]["notes"]


def test_an_exception_that_is_its_own_cause_ends(tmp_path: Path) -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    events.logger(tmp_path / "log").error("e", error=first)
    assert [one["text"] for one in lines(tmp_path / "log")[0]["error"]] == ["a", "b"]


def test_too_long_a_line_says_what_it_can(tmp_path: Path) -> None:
    log = events.logger(tmp_path / "log", part=7)
    log.info("e", **{f"field{k}": "\u6771" * 300 for k in range(40)})
    found = lines(tmp_path / "log")[0]
    assert found["event"] == "e" and found["part"] == 7 and "sha256" in found["left_out"]
    assert len((tmp_path / "log").read_bytes()) < 4_000


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    log = events.logger(tmp_path / "log")

    def write(number: int) -> None:
        for k in range(50):
            log.info("e", thread=number, k=k, text="y" * 200)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((line["thread"], line["k"]) for line in lines(tmp_path / "log")) == [
        (n, k) for n in range(4) for k in range(50)
    ]


def test_a_log_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        events.logger(tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        events.logger(tmp_path / "absent" / "log")
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_that_fails_later_does_not_end_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    log = events.logger(tmp_path / "folder" / "log")
    log.info("a")
    (tmp_path / "folder" / "log").unlink()
    (tmp_path / "folder").rmdir()
    log.info("b")
    log.info("c")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["b", "c"]
    full = events.logger(Path("/dev/full"))
    full.info("d")
    assert json.loads(capsys.readouterr().err)["event"] == "d"


def test_a_closed_stderr_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    events.logger().info("a")
