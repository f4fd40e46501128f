"""Where settings come from, and how mistakes in them are answered."""

import argparse
import json
from pathlib import Path

import pytest

from jobs import fovea
from jobs.options import RunParser, SettingsRefused, add_run_options, config_schema, known_keys, resolve
from schemas.job import JobSettings

ROOT = Path(__file__).parents[2]
NEEDED = ["--manifest", "m.parquet", "--output", "out"]


def parsed(*argv: str) -> argparse.Namespace:
    parser = RunParser(prog="fovea answer")
    add_run_options(parser)
    return parser.parse_args(argv)


def settings(*argv: str, **environ: str) -> JobSettings:
    return resolve(parsed(*NEEDED, *argv), environ)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(SettingsRefused) as refused:
        settings(*argv, **environ)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_defaults_alone() -> None:
    assert settings() == JobSettings(manifest="m.parquet", output="out")


def test_option_over_environment_over_file_over_default(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("run: {actors: 2, batch: 2, part_rows: 2}\nmanifest: other.parquet\n")
    run = settings("--config", str(config), "--actors", "4", FOVEA_RUN__ACTORS="3", FOVEA_RUN__BATCH="3").run
    assert (run.actors, run.batch, run.part_rows, run.seed) == (4, 3, 2, 0)


def test_named_option_beats_set_and_the_last_set_wins() -> None:
    run = settings("--set", "run.actors=2", "--set", "run.batch=5", "--set", "run.batch=6", "--actors", "4").run
    assert (run.actors, run.batch) == (4, 6)


def test_a_mapping_of_questions_is_taken_as_typed_and_in_no_order(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("label:\n  attributes:\n    reading: Read the text.\n    colour: What colour is it?\n")
    typed = "label.attributes={colour: What colour is it?, reading: Read the text.}"
    given = [settings("--config", str(config)), settings("--set", typed)]
    given.append(settings(FOVEA_LABEL__ATTRIBUTES="{reading: 'Read the text.', colour: \"What colour is it?\"}"))
    for one in given:
        assert list(one.label.attributes.items()) == [("colour", "What colour is it?"), ("reading", "Read the text.")]


def test_every_named_option_arrives() -> None:
    got = settings("--model", "m", "--limit", "3", "--actors", "5", "--gpus-per-actor", "0.5", "--seed", "7", "--retry-failed")
    run = got.run
    assert (got.model.name, run.limit, run.actors, run.gpus_per_actor, run.seed) == ("m", 3, 5, 0.5, 7)
    assert parsed("--retry-failed").retry_failed
    assert not parsed().retry_failed


def test_environment_alone_is_enough() -> None:
    got = resolve(parsed(), {"FOVEA_MANIFEST": "m", "FOVEA_OUTPUT": "o", "FOVEA_MODEL__NAME": "folder", "HOME": "x"})
    assert (got.manifest, got.output, got.model.name) == ("m", "o", "folder")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("fetch.hosts", "[a.example, b.example]", ("a.example", "b.example")),
        ("passthrough", "[shelf]", ("shelf",)),
        ("run.limit", "null", None),
        ("run.max_error_share", "1e-3", 0.001),
        ("refine.method", "none", "none"),
        ("model.revision", "20261120", "20261120"),
        ("model.revision", "1e5", "1e5"),
        ("model.revision", "null", None),
        ("prompt.question", "Read {question}: now", "Read {question}: now"),
        ("prompt.question", "{question}", "{question}"),
        ("prompt.question", "[half open", "[half open"),
        ("prompt.question", "'*'", "*"),
        ("prompt.generic", "a=b", "a=b"),
    ],
)
def test_set_reads_yaml_and_leaves_text_alone(key: str, text: str, value: object) -> None:
    group, _, name = key.rpartition(".")
    for got in (settings("--set", f"{key}={text}"), settings(**{f"FOVEA_{key.replace('.', '__').upper()}": text})):
        assert getattr(getattr(got, group) if group else got, name) == value


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--set", "run.actor=2"], {}, "unknown setting run.actor (from --set); did you mean run.actors?"),
        (["--set", "actors=2"], {}, "unknown setting actors (from --set); did you mean run.actors?"),
        (["--set", "qqqqqqqq=2"], {}, "unknown setting qqqqqqqq (from --set)"),
        (["--set", "run=2"], {}, "run (from --set) is a group: give one of its settings, run.actors, run.gpus_per_actor, "),
        (["--set", "run.batch"], {}, "--set run.batch: expected KEY=VALUE, such as run.batch=8"),
        (["--actors", "0"], {}, "run.actors=0 (from --actors): expected greater than or equal to 1"),
        (["--actors", "many"], {}, "run.actors='many' (from --actors): expected a valid integer, unable to parse"),
        (["--set", "refine.method=zoom"], {}, "refine.method='zoom' (from --set): expected 'none', 'rel_att', 'grad_att', 'pure"),
        (["--set", "fetch.schemes=[s3, ftp]"], {},
         "fetch.schemes.1='ftp' (from --set): expected 'file', 's3', 'http', 'https' or 'memory'"),
        (["--gpus-per-actor", ".nan"], {}, "run.gpus_per_actor=nan (from --gpus-per-actor): expected "),
        ([], {"FOVEA_RUN_ACTORS": "2"}, "unknown environment variable FOVEA_RUN_ACTORS; did you mean FOVEA_RUN__ACTORS?"),
        ([], {"FOVEA_RUN": "{actors: 2}"}, "unknown environment variable FOVEA_RUN"),
        ([], {"FOVEA_RUN__BATCH": "-1"}, "run.batch=-1 (from FOVEA_RUN__BATCH): expected greater than or equal to 1"),
        (["--actors", "0", "--limit", "0"], {}, "run.actors=0 (from --actors): expected greater than or equal to 1 (and 1 more)"),
    ],
)  # fmt: skip
def test_one_clear_line(argv: list[str], environ: dict[str, str], message: str) -> None:
    assert refusal(*argv, **environ).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run:\n  actorz: 2\n", "unknown setting run.actorz (from FILE); did you mean run.actors?"),
        ("modell: {name: x}\n", "unknown setting modell (from FILE)"),
        ("run: 3\n", "run=3 (from FILE): expected a group of settings, `key: value` below it"),
        ("run: {actors: [1]}\n", "run.actors=[1] (from FILE): expected a valid integer"),
        ("model: {revision: 123}\n", "model.revision=123 (from FILE): expected a valid string"),
        ("- a\n", "config file FILE: expected settings as `key: value`, found list"),
        ("run: {actors: 1, actors: 2}\n", "config file FILE is not readable YAML: actors is given twice"),
        ("run: [\n", "config file FILE is not readable YAML: "),
        ("run: !!python/object/apply:os.getcwd []\n", "config file FILE is not readable YAML: could not determine a constructor"),
        ("\x00", "config file FILE is not readable YAML: "),
        ("[" * 5000, "config file FILE is not readable YAML: "),
    ],
)
def test_files_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(text)
    assert refusal("--config", str(config)).startswith(message.replace("FILE", str(config)))


def test_missing_file(tmp_path: Path) -> None:
    assert refusal("--config", str(tmp_path / "no.yaml")).endswith("no.yaml: No such file or directory")
    assert refusal("--config", str(tmp_path)).endswith("Is a directory")


def test_the_task_is_the_commands_alone(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("task: ocr\n")
    assert refusal("--config", str(config)).startswith(f"unknown setting task (from {config})")
    assert refusal("--set", "task=ocr").startswith("unknown setting task (from --set)")
    assert refusal(FOVEA_TASK="ocr").startswith("unknown environment variable FOVEA_TASK")
    assert (settings().task, resolve(parsed(*NEEDED), {}, "ocr").task) == ("answer", "ocr")
    assert "task" not in config_schema()["properties"]


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("prompt.template", "locate", "prompt"), ("prompt.question", "{question}?", "prompt"), ("refine.layer", "3", "refine"),
        ("select.method", "medoid", "select"), ("fusion.scales", "[2]", "fusion"), ("views.max_crops", "4", "views.max_crops"),
    ],
)  # fmt: skip
def test_settings_for_answers_are_refused_where_pages_are_read(key: str, value: str, named: str) -> None:
    options = parsed(*NEEDED, "--set", f"{key}={value}")
    assert resolve(options, {}) != settings()
    with pytest.raises(SettingsRefused, match=f"^{named} is for answers: pages are read as the settings of `ocr` say"):
        resolve(options, {}, "ocr")


def test_settings_that_do_not_go_together_are_one_line() -> None:
    said = refusal("--set", "refine.mode=official", "--set", "refine.method=auto")
    assert said.startswith("refine.mode 'official' with method 'auto'")


def test_empty_file_and_empty_group_are_defaults(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    for text in ("", "run:\n", "# nothing\n"):
        config.write_text(text)
        assert settings("--config", str(config)) == settings()


def test_missing_manifest_and_output() -> None:
    line = "^no manifest: give --manifest URI, FOVEA_MANIFEST or `manifest:` in the config file$"
    with pytest.raises(SettingsRefused, match=line):
        resolve(parsed("--output", "o"), {})
    with pytest.raises(SettingsRefused, match="^no output: "):
        resolve(parsed("--manifest", "m"), {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--modle", "x"], "unknown option --modle; did you mean --model?"),
        (["--gpu-per-actor=1"], "unknown option --gpu-per-actor; did you mean --gpus-per-actor?"),
        (["--man", "x"], "unknown option --man"),  # abbreviations are not taken
        (["stray"], "unrecognized arguments: stray"),
        (["--actors"], "argument --actors: expected one argument"),
    ],
)
def test_unknown_options(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed(*argv)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith(f"fovea answer: {message}")
    assert said.count("\n") == 1


def test_schema_file_is_up_to_date() -> None:
    assert json.loads((ROOT / "schemas/job.schema.json").read_text("utf-8")) == config_schema(), "run `make schema`"


def test_every_setting_is_explained() -> None:
    assert [key for key, info in known_keys().items() if not info.description] == []


@pytest.mark.parametrize("path", sorted((ROOT / "jobs/configs").glob("*.yaml")), ids=lambda path: path.name)
def test_named_runs_are_valid(path: Path) -> None:
    assert settings("--config", str(path)) != settings()


def test_fovea_lists_its_commands_without_importing_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert fovea.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in fovea.COMMANDS)
    assert max(len(line) for line in said.splitlines()) < 100


@pytest.mark.parametrize(("name", "hint"), [("anwser", "did you mean answer?"), ("zzz", "known are answer, ")])
def test_fovea_refuses_an_unknown_command(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fovea.main([name, "--help"]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("name", fovea.COMMANDS)
def test_every_command_is_there(name: str) -> None:
    module, _ = fovea.COMMANDS[name]
    assert module == f"jobs.{name}"
    assert (ROOT / "jobs" / f"{name}.py").is_file()
