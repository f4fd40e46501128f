"""The journal: what was written is found again, exactly; torn, flipped and foreign records are passed over."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal, Recovered, record_line, records
from schemas.manifest import Part
from tests.stand_ins.s3_server import running_s3

PART = Part(3, 30, 10)
FILE = "results/part-00003.parquet"
ROW = {"id": "a", "answer": "\u202e\ud800\n\0é", "box": {"x0": 0.1, "y0": 1e-308}, "views": 3, "used": True, "error": None}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_s3(tmp_path_factory.mktemp("s3")) as url, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", url)
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
            environment.setenv(f"AWS_{name}", value)
        from s3fs import S3FileSystem

        S3FileSystem.clear_instance_cache()
        S3FileSystem().mkdir("journals")
        yield "s3://journals"


@pytest.fixture(params=["posix", "memory", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "s3":
        return Output(f"{request.getfixturevalue('s3')}/{tmp_path.name}")
    return Output(f"memory://{tmp_path}/out" if request.param == "memory" else f"{tmp_path}/out")


def dead(output: Output, *steps: tuple[str, Any]) -> None:
    """A writer that does these steps and is gone."""
    journal = Journal(output, PART)
    journal.read()
    for name, value in steps:
        getattr(journal, name)(value)
    journal.close()


def test_an_open_part_without_a_journal_is_empty(output: Output) -> None:
    journal = Journal(output, PART)
    assert not output.present()
    assert journal.read() == Recovered({}, [])
    assert not output.present()
    journal.suspect([])
    journal.finish({})
    assert not output.present()


def test_finished_rows_come_back_as_they_were(output: Output) -> None:
    dead(output, ("finish", {30: ROW, 39: {**ROW, "id": "b"}}), ("finish", {31: {"x": 0.1 + 0.2}}))
    assert Journal(output, PART).read() == Recovered({30: ROW, 39: {**ROW, "id": "b"}, 31: {"x": 0.30000000000000004}}, [])


def test_suspects_are_what_never_came_back(output: Output) -> None:
    dead(output, ("suspect", [30, 31, 32, 33]), ("finish", {30: ROW, 31: ROW}), ("suspect", [34]))
    assert Journal(output, PART).read().suspects == [(32, 33), (34,)]
    dead(output, ("suspect", [32, 33]))
    dead(output, ("suspect", [32]), ("finish", {34: ROW}))
    assert Journal(output, PART).read().suspects == [(32, 33), (32, 33), (32,)]


def test_writers_are_told_apart_in_order_without_a_clock(output: Output) -> None:
    for number in range(8):
        dead(output, ("suspect", [39 - number]))
    assert Journal(output, PART).read().suspects == [(39 - number,) for number in range(8)]


def test_released_rows_are_no_suspects(output: Output) -> None:
    dead(output, ("suspect", [30, 31]), ("suspect", [30]), ("release", [30]), ("suspect", [35]), ("release", [35]))
    assert Journal(output, PART).read().suspects == [(30, 31)]


def test_an_own_journal_is_read_with_the_others(output: Output) -> None:
    dead(output, ("finish", {30: ROW}))
    journal = Journal(output, PART)
    journal.finish({31: ROW})
    assert set(journal.read().rows) == {30, 31}


def test_clear_leaves_nothing_of_this_part_and_all_of_the_others(output: Output) -> None:
    dead(output, ("suspect", [30]))
    Journal(output, Part(4, 40, 10)).finish({40: ROW})
    journal = Journal(output, PART)
    journal.finish({31: ROW})
    journal.clear()
    assert Journal(output, PART).read() == Recovered()
    assert Journal(output, Part(4, 40, 10)).read().rows == {40: ROW}


def test_journals_of_committed_parts_are_cleaned_others_stay(output: Output) -> None:
    dead(output, ("suspect", [30]))
    dead(output, ("finish", {30: ROW}))
    assert output.clean_journals() == 0
    Journal(output, Part(4, 40, 10)).finish({40: ROW})
    output.create(FILE, b"done")
    assert output.clean_journals() >= 2
    assert output.clean_journals() == 0
    assert Journal(output, Part(4, 40, 10)).read().rows == {40: ROW}
    assert output.list_results() == ["part-00003.parquet"]


def test_a_record_has_done_its_duty_when_its_part_is_committed(output: Output) -> None:
    dead(output, ("finish", {30: ROW}), ("suspect", [31]))
    output.create(FILE, b"first")
    assert Journal(output, PART).read() == Recovered()
    dead(output, ("finish", {32: ROW}))  # the part is computed again on what is committed
    assert set(Journal(output, PART).read().rows) == {32}
    output.supersede(FILE, b"second")
    assert Journal(output, PART).read() == Recovered()


@pytest.mark.parametrize("number", [29, 40, -1])
def test_rows_of_other_parts_are_refused(tmp_path: Path, number: int) -> None:
    journal = Journal(Output(str(tmp_path)), PART)
    for use in (journal.suspect, journal.release):
        with pytest.raises(ValueError, match=r"not of part-00003; expected 30 to 39"):
            use([30, number])
    with pytest.raises(ValueError, match=r"not of part-00003"):
        journal.finish({number: ROW})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"", {1, 2}])
def test_values_that_would_not_come_back_are_refused(tmp_path: Path, value: Any) -> None:
    journal = Journal(Output(str(tmp_path)), PART)
    with pytest.raises((ValueError, TypeError)):
        journal.finish({30: {"x": value}})
    journal.finish({30: ROW})
    assert journal.read().rows == {30: ROW}


@pytest.mark.parametrize("stem", ["", "part-3", "part-00003.x", "../part-00003", "part-00003/..", "part-0000\n", "index"])
def test_a_journal_is_of_a_part(tmp_path: Path, stem: str) -> None:
    output = Output(str(tmp_path))
    for use in (output.start_trail, output.read_trails, output.remove_trails):
        with pytest.raises(ValueError, match="expected a name such as part-00003"):
            use(stem)


def journal_file(folder: Path) -> Path:
    return next((folder / ".journal").iterdir())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(row=st.dictionaries(st.text(), JSON, max_size=4), cut=st.floats(0, 1, exclude_max=True))
def test_a_record_says_what_it_was_given_or_nothing(row: dict[str, Any], cut: float) -> None:
    first, second = (record_line({"journal": 1, "finish": {place: row}}) for place in "12")
    (read,) = records(first)
    assert repr(read["finish"]["1"]) == repr(row)  # repr tells -0.0, 1 and 1.0 and True apart
    torn = first + second[: int(cut * (len(second) - 1))]
    assert list(records(torn)) == [read]


def test_every_flipped_bit_costs_its_own_record_alone() -> None:
    lines = [record_line({"journal": 1, "suspect": [number]}) for number in range(3)]
    start, stop = len(lines[0]), len(lines[0]) + len(lines[1])
    for bit in range(8 * start, 8 * (stop - 1)):
        data = bytearray(b"".join(lines))
        data[bit // 8] ^= 1 << bit % 8
        assert [record["suspect"] for record in records(bytes(data))] == [[0], [2]], bit


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(share=st.floats(0, 1))
def test_a_torn_tail_is_passed_over(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.mktemp("torn")
    output = Output(str(folder))
    dead(output, ("finish", {30: ROW}), ("suspect", [31]), ("finish", {31: ROW}))
    path = journal_file(folder)
    data = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    cut = int(share * len(data))
    path.write_bytes(data[:cut])
    whole = sum(end - 1 <= cut for end in ends)  # the newline itself may be missing
    assert len(Journal(output, PART).read().rows) == {0: 0, 1: 1, 2: 1, 3: 2}[whole]


FOREIGN = [
    b"", b"\n\n", b"{}", b'{"crc32":"00000000","record":{}}', b"[" * 100_000, b"\0" * 9, b'{"journal": 1}',
    record_line({"journal": 2, "suspect": [30]}), record_line([1]),  # type: ignore[arg-type]
    record_line({"journal": 1, "age": "x", "base": None, "suspect": "30", "release": 7, "finish": [30]}),
    record_line({"journal": 1, "base": None, "suspect": [True, "30", 99, None]}),
    record_line({"journal": 1, "base": None, "finish": {"30": 1, "x": {}, "-1": {}, "9" * 5000: {}}}),
    record_line({"journal": 1, "base": "00", "suspect": [30]}),
    record_line({"journal": 1, "base": None, "finish": {"99": {}}, "suspect": [29, 40]}),
]  # fmt: skip


@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_records_are_passed_over(tmp_path: Path, data: bytes) -> None:
    output = Output(str(tmp_path))
    dead(output, ("finish", {30: ROW}))
    (tmp_path / ".journal" / f"part-00003.{'0' * 32}.jsonl").write_bytes(data)
    assert Journal(output, PART).read() == Recovered({30: ROW}, [])


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    dead(output, ("finish", {30: ROW}))
    folder, line = tmp_path / ".journal", record_line({"journal": 1, "base": None, "suspect": [31]})
    (tmp_path / "secret").write_bytes(line)
    for name in ("part-00003.jsonl", f"part-00003.{'g' * 32}.jsonl", f".part-00003.{'0' * 32}.jsonl"):
        (folder / name).write_bytes(line)
    (folder / f"part-00003.{'1' * 32}.jsonl").mkdir()
    (folder / f"part-00003.{'2' * 32}.jsonl").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / f"part-00003.{'3' * 32}.jsonl")
    journal = Journal(output, PART)
    assert journal.read() == Recovered({30: ROW}, [])
    journal.clear()
    assert len(os.listdir(folder)) == 6


LIVING = """
import sys
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal
from schemas.manifest import Part
journal = Journal(Output(sys.argv[1]), Part(3, 30, 10))
journal.finish({30: {"id": "living"}}); journal.suspect([31])
print("ready", flush=True); sys.stdin.readline()
journal.finish({31: {"id": "living"}})
print("done", flush=True)
"""


def test_a_living_writer_has_its_rows_in_hand(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.create("run.json", b"{}")
    with subprocess.Popen(
        [sys.executable, "-c", LIVING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdin and living.stdout and living.stdout.readline() == "ready\n"
        assert Journal(output, PART).read() == Recovered({30: {"id": "living"}}, [])
        output.create(FILE, b"done by somebody else")
        assert output.clean_journals() == 0  # of a writer that lives
        living.kill()
    assert output.clean_journals() == 1


def test_a_dead_writer_has_left_suspects(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdout and living.stdout.readline() == "ready\n"
        living.kill()
    assert Journal(Output(str(tmp_path)), PART).read() == Recovered({30: {"id": "living"}}, [(31,)])


def test_a_writer_whose_part_is_cleared_goes_on_harmlessly(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdin and living.stdout and living.stdout.readline() == "ready\n"
        Journal(Output(str(tmp_path)), PART).clear()
        assert living.communicate("go\n")[0] == "done\n"
    assert os.listdir(tmp_path / ".journal") == []


FULL_DISK = """
import resource, signal, sys
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.journal import Journal
from schemas.manifest import Part
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Output(sys.argv[1]), Part(3, 30, 10))
journal.finish({30: {"id": "x"}})
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 50_000))
try:
    journal.finish({31: {"id": "y" * 10_000}})
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
journal.finish({32: {"id": "z"}})
"""


def test_a_record_that_did_not_fit_spoils_no_later_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert Journal(Output(str(tmp_path)), PART).read() == Recovered({30: {"id": "x"}, 32: {"id": "z"}}, [])


def test_a_record_is_one_line_of_json(tmp_path: Path) -> None:
    dead(Output(str(tmp_path)), ("suspect", [30, 31]))
    (line,) = journal_file(tmp_path).read_bytes().splitlines()
    assert json.loads(line)["record"] == {"journal": 1, "age": 0, "base": None, "suspect": [30, 31]}
