"""What a confined process can still do: each forbidden thing is tried inside one."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ray_pipeline.intake.decode import Decoder
from schemas.job import FetchSettings
from tests.ray_pipeline.intake import confined_probe, hostile_images

MEMORY_BYTES = 500_000_000
SPIN = """
import sys
sys.path += sys.argv[1:]
from ray_pipeline.intake.decode_child import _allow_cpu
_allow_cpu(0.1)
while True:
    pass
"""


def is_filtered(pid: int | None) -> bool:
    return "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()


@pytest.fixture(scope="module")
def filtering() -> None:
    """Hosts may lack the kernel's filter of system calls; what remains there are the limits."""
    with Decoder(FetchSettings()) as decoder:
        if not is_filtered(decoder.child_pid):
            pytest.skip("this host has no filter of system calls")


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "kept").write_text("kept")
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener, (folder / "kept").open("r+") as kept:
        listener.bind(str(folder / "socket"))
        listener.listen()
        given = [str(MEMORY_BYTES), str(folder), str(folder / "socket"), str(kept.fileno()), str(writing)]
        command = [sys.executable, confined_probe.__file__, *given]
        subprocess.run(command, pass_fds=[kept.fileno(), writing], timeout=60, check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    os.close(writing)
    with os.fdopen(reading) as answer:
        ended: dict[str, str] = json.loads(answer.read())
    assert sorted(os.listdir(folder)) == ["kept", "socket"]
    assert (folder / "kept").read_text() == "kept"
    return ended


FREE = {"32 MB"}
NAMES = list(confined_probe.attempts(0, "", "", 0, 0))


@pytest.mark.parametrize("name", sorted(set(NAMES) - FREE))
def test_what_a_child_may_not(tried: dict[str, str], filtering: None, name: str) -> None:
    assert tried[name] in {"PermissionError", "OSError", "MemoryError", "ValueError"}


@pytest.mark.parametrize("name", sorted(FREE))
def test_what_a_child_may(tried: dict[str, str], name: str) -> None:
    assert tried[name] == "done"


def test_the_processor_time_ends(tmp_path: Path) -> None:
    """An orphan that runs away is ended by the kernel."""
    code = subprocess.run([sys.executable, "-c", SPIN, *sys.path], timeout=60).returncode
    assert code == -signal.SIGXCPU


def test_decoding_children_are_filtered(filtering: None) -> None:
    with Decoder(FetchSettings()) as decoder:
        decoder.decode(hostile_images.saved(hostile_images.noise(9, 9), "PNG"), None)
        assert is_filtered(decoder.child_pid)
