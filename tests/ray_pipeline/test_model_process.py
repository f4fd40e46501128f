"""The model process may die in any way; the worker's side notices, says how, and starts another."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ray_pipeline import model_process
from ray_pipeline.model_process import ModelProcess, ModelUnavailable
from schemas.job import JobSettings
from schemas.manifest import ManifestRow
from schemas.picture import Picture
from schemas.status import Status
from tests.stand_ins.planted_model import load_planted

PICTURE = Picture(np.full((90, 160, 3), 70, np.uint8), "ab" * 32)


def settings(**run: object) -> JobSettings:
    return JobSettings.model_validate({"manifest": "m", "output": "o", "run": run})


def asked(*questions: str) -> list[tuple[ManifestRow, Picture]]:
    return [(ManifestRow(number, f"id{number}", "a.png", 3, question), PICTURE) for number, question in enumerate(questions, 7)]


@pytest.fixture(scope="module")
def model() -> Iterator[ModelProcess]:
    process = ModelProcess(settings(call_timeout_s=2.0), load_planted)
    yield process
    process.end()


def test_rows_come_back_as_result_rows_with_what_was_known_of_them(model: ModelProcess) -> None:
    pixels = np.full((90, 160, 3), 70, np.uint8)
    pixels[20:40, 30:80] = (255, 0, 255)
    turned = Picture(np.ascontiguousarray(pixels[:, ::-1])[:, ::-1], "cd" * 32)  # no plain block of memory
    answered = model.answer([(ManifestRow(5, "x", "u.png", None, "q"), turned), *asked("raise")])
    assert answered.death is None and set(answered.rows) == {5, 7}
    row = answered.rows[5]
    assert (row["id"], row["image_uri"], row["page"], row["question"]) == ("x", "u.png", None, "q")
    assert (row["status"], row["image_width"], row["image_height"], row["image_sha256"]) == ("ok", 160, 90, "cd" * 32)
    assert row["box"] == pytest.approx({"x0": 30.0, "y0": 20.0, "x1": 80.0, "y1": 40.0}, abs=1.0)
    assert answered.rows[7]["status"] == "model_crash" and "planted failure" in answered.rows[7]["error"]


ENDS = {
    "kill": (Status.MODEL_CRASH, "signal 9"),
    "crash": (Status.MODEL_CRASH, "signal 11"),
    "hang": (Status.MODEL_TIMEOUT, "silent for 2 s"),
}


@pytest.mark.parametrize("question", list(ENDS))
def test_every_way_to_die_is_named_and_the_next_batch_is_answered(question: str, model: ModelProcess) -> None:
    before = model.starts
    answered = model.answer(asked(question, "q"))
    status, words = ENDS[question]
    assert answered.death is not None and answered.death.status == status and words in answered.death.reason
    assert not answered.rows and model.pid is None
    assert set(model.answer(asked("q")).rows) == {7}
    assert model.starts <= before + 2


def test_a_process_that_died_between_two_batches_is_nobodys_fault(model: ModelProcess) -> None:
    model.start()
    assert model.pid is not None
    os.kill(model.pid, signal.SIGKILL)
    time.sleep(0.2)
    answered = model.answer(asked("q"))
    assert answered.death is None and set(answered.rows) == {7}


def test_it_does_not_outlive_its_worker_even_in_native_code(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "from tests.ray_pipeline.test_model_process import ModelProcess, asked, load_planted, settings\n"
        "model = ModelProcess(settings(), load_planted)\n"
        "model.start()\nprint(model.pid, flush=True)\nmodel.answer(asked('hang'))\n"
    )
    here = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, cwd=here) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        time.sleep(1.0)  # it hangs now, with all signals blocked that can be
        assert Path(f"/proc/{child}").exists()
        worker.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the model process outlived its worker")


def test_keys_stay_with_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    process = ModelProcess(settings(), load_planted)
    process.start()
    assert b"canary" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    process.end()


def load_nothing(model: object, views: object, prompt: object) -> None:
    raise MemoryError("no room for the model")


def load_and_die(model: object, views: object, prompt: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def load_for_ever(model: object, views: object, prompt: object) -> None:
    time.sleep(600)


LOADS = {
    "refuses": (load_nothing, "no room for the model", 1),
    "dies": (load_and_die, "signal 9", 3),
    "hangs": (load_for_ever, "not loaded within 0.5 s", 3),
}


@pytest.mark.parametrize("name", list(LOADS))
def test_a_model_that_cannot_be_loaded_is_said_so_after_a_few_tries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "PAUSE_S", 0.01)
    load, words, starts = LOADS[name]
    process = ModelProcess(settings(load_timeout_s=0.5 if name == "hangs" else 60.0), load)
    with pytest.raises(ModelUnavailable, match=words):
        process.start()
    assert process.starts == starts and process.pid is None
