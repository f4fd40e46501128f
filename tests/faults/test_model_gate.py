"""No model folder brings code: every disguise is refused before a library opens it, also where assertions are off."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from ray_pipeline.models.weights import EMBEDDED, ModelRefused, model_digests, model_folder, offline
from tests.faults import model_disguises as disguises
from tests.stand_ins.tiny_models import TINY

ROOT = Path(__file__).resolve().parents[2]
OPTIMISED = """
import sys
from pathlib import Path
from tests.faults.model_disguises import DISGUISES, HARMLESS, sweep
bad, good = sweep(Path(sys.argv[1]) / "bad", DISGUISES), sweep(Path(sys.argv[1]) / "good", HARMLESS)
assert False, "assertions are off, or this would end the program"
print(len(bad.refused), bad.let_through, bad.executed, good.refused)
"""


def program(*arguments: str, **environment: str) -> str:
    """Run Python without the settings by which tests keep the hub away."""
    kept = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_there_are_enough_disguises_and_the_payloads_are_live(tmp_path: Path) -> None:
    assert len(disguises.DISGUISES) >= 100
    for protocol in (0, 2, 5):
        with pytest.raises(FileNotFoundError):
            pickle.loads(disguises.pickled(tmp_path / "absent" / "canary", protocol))
        pickle.loads(disguises.pickled(tmp_path / f"canary{protocol}", protocol))
        assert (tmp_path / f"canary{protocol}").is_dir()


def test_every_disguise_is_refused_with_one_line(tmp_path: Path) -> None:
    result = disguises.sweep(tmp_path, disguises.DISGUISES)
    assert result.let_through == [] and result.executed == []
    assert set(result.refused) == set(disguises.DISGUISES)
    assert [name for name, said in result.refused.items() if not said.isprintable() or len(said) > 1000] == []


def test_what_is_published_passes(tmp_path: Path) -> None:
    result = disguises.sweep(tmp_path, disguises.HARMLESS)
    assert result.refused == {}
    assert model_folder("embedded") == EMBEDDED


def test_checks_are_no_assertions(tmp_path: Path) -> None:
    said = program("-O", "-c", OPTIMISED, str(tmp_path))
    assert said.split("\n")[0] == f"{len(disguises.DISGUISES)} [] [] {{}}"


@pytest.mark.timeout(200)
def test_a_whole_answer_finds_no_class_in_a_pickle_and_runs_no_foreign_code(tmp_path: Path) -> None:
    """Nor does it ask for a name or a connection, although nothing but the program itself keeps the hub away."""
    folder = TINY["llava"](tmp_path / "llava", 0)
    proxy = "http://user:word@127.0.0.1:9"  # a request would be seen on its way there
    said = json.loads(program("-m", "tests.faults.watched_answer", "embedded", str(folder), HTTPS_PROXY=proxy, HTTP_PROXY=proxy))
    assert said["said"] == ["Seen", "Seen"] and said["looked_at"] > 1000
    assert (said["find_class"], said["foreign_code"], said["network"]) == ([], [], [])


def test_the_hub_is_out_of_reach_while_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(KeyError), offline():
        assert constants.is_offline_mode()
        raise KeyError
    assert not constants.is_offline_mode()


def test_every_file_that_decides_answers_is_recorded(tmp_path: Path) -> None:
    folder = disguises.harmless(tmp_path / "model")
    before = model_digests(folder)
    assert set(before) == {"config.json", "merges.txt", "model.safetensors", "tokenizer_config.json", "vocab.json"}
    for name in before:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert model_digests(folder)[name] != before[name]
        (folder / name).write_bytes(data)


def test_more_files_than_a_model_has(tmp_path: Path) -> None:
    folder = disguises.harmless(tmp_path / "model")
    (folder / "many").mkdir()
    for number in range(10_001):
        (folder / "many" / f"{number}.txt").touch()
    with pytest.raises(ModelRefused, match="more than 10000 files"):
        model_folder(str(folder))
