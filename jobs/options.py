"""The settings of a run from four sources: option > environment (`FOVEA_…`) > YAML file > default.

Each source becomes a flat table, dotted key → value and where it came from; the tables are laid over each other and the
sum is checked once. `python -m jobs.options` prints the JSON schema of the whole tree (schemas/job.schema.json).
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from schemas.job import JobSettings
from schemas.reading import Task

PREFIX = "FOVEA_"
OPTION_KEYS = {
    "manifest": "manifest",
    "output": "output",
    "model": "model.name",
    "limit": "run.limit",
    "actors": "run.actors",
    "gpus_per_actor": "run.gpus_per_actor",
    "seed": "run.seed",
}
COMMANDS_OWN = ("task",)  # settings that follow from the command and can be given by nobody


class SettingsRefused(ValueError):
    """Settings that cannot be used; the message is one line for the person who typed them."""


class RunParser(argparse.ArgumentParser):
    """Takes no abbreviations, and answers a mistake with one line on stderr, the nearest known option, and exit code 2."""

    def __init__(
        self,
        prog: str,
        description: str | None = None,
        formatter_class: type[argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter,
    ) -> None:
        super().__init__(prog=prog, description=description, formatter_class=formatter_class, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say `message` in one line and exit with 2."""
        unknown = re.search(r"unrecognized arguments:.*?(--?[a-zA-Z][\w-]*)", message, re.DOTALL)
        if unknown:
            message = f"unknown option {unknown[1]}{_nearest(unknown[1], self._option_string_actions)}"
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


@dataclass(frozen=True)
class _Given:
    """A value as some source gave it, and that source in the user's words."""

    value: object
    source: str


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is a mistake instead of a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `answer`, `ocr` and `label` share. Values stay text; `resolve` checks them."""
    parser.add_argument("--manifest", metavar="URI", help="Parquet file, folder or glob")
    parser.add_argument("--output", metavar="URI", help="folder for the results")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="one setting, such as run.batch=8; repeatable"
    )
    parser.add_argument("--model", metavar="NAME", help="`embedded` (default), `documents`, or a model folder")
    parser.add_argument("--limit", metavar="N", help="only the first N rows")
    parser.add_argument("--actors", metavar="N", help="model processes")
    parser.add_argument("--gpus-per-actor", metavar="F", help="GPUs each of them holds")
    parser.add_argument("--retry-failed", action="store_true", help="compute the rows again whose failure may pass")
    parser.add_argument("--seed", metavar="N", help="seed of everything that draws")


def resolve(options: argparse.Namespace, environ: Mapping[str, str], task: Task = "answer") -> JobSettings:
    """The settings of a run from parsed `add_run_options` and the environment; `task` is the command's own.

    Raises:
        SettingsRefused: unknown key, value of the wrong kind, nothing given for manifest or output, unreadable file.
    """
    given: dict[str, _Given] = {}
    if options.config is not None:
        given |= dict(_from_file(Path(options.config)))
    given |= dict(_from_environment(environ))
    given |= dict(_from_assignments(options.set))
    given |= dict(_from_options(options))
    try:
        return JobSettings.model_validate(_nested(given) | {"task": task})
    except ValidationError as refused:
        raise SettingsRefused(_one_line(refused, given)) from None


def config_schema() -> dict[str, Any]:
    """The JSON schema of the whole tree of settings."""
    schema = JobSettings.model_json_schema()
    for key in COMMANDS_OWN:
        del schema["properties"][key]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def known_keys() -> dict[str, FieldInfo]:
    """Every setting that can be given, by its dotted key, such as `run.actors`; groups such as `run` are not in it."""
    return {key: info for key, info in _leaves(JobSettings, "") if key not in COMMANDS_OWN}


def _leaves(settings: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _leaves(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def _from_file(path: Path) -> Iterator[tuple[str, _Given]]:
    try:
        with path.open("rb") as file:
            content = yaml.load(file, _StrictLoader)
    except OSError as failed:
        raise SettingsRefused(f"config file {path}: {failed.strerror or failed}") from None
    except (yaml.YAMLError, RecursionError) as failed:
        raise SettingsRefused(f"config file {path} is not readable YAML: {' '.join(str(failed).split())}") from None
    if content is None:
        return
    if not isinstance(content, dict):
        raise SettingsRefused(f"config file {path}: expected settings as `key: value`, found {type(content).__name__}")
    yield from _flat(content, "", str(path))


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    spellings = {PREFIX + key.replace(".", "__").upper(): key for key in known_keys()}
    for name in sorted(environ):
        if name.startswith(PREFIX):
            if name not in spellings:
                raise SettingsRefused(f"unknown environment variable {name}{_nearest(name, spellings)}")
            yield spellings[name], _Given(_parsed(spellings[name], environ[name]), name)


def _from_assignments(assignments: Iterable[str]) -> Iterator[tuple[str, _Given]]:
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsRefused(f"--set {assignment}: expected KEY=VALUE, such as run.batch=8")
        if key in known_keys():
            yield key, _Given(_parsed(key, text), "--set")
        else:
            raise SettingsRefused(_unknown(key, "--set"))


def _from_options(options: argparse.Namespace) -> Iterator[tuple[str, _Given]]:
    for name, key in OPTION_KEYS.items():
        if (text := getattr(options, name)) is not None:
            yield key, _Given(_parsed(key, text), "--" + name.replace("_", "-"))


def _flat(content: Mapping[Any, object], prefix: str, source: str) -> Iterator[tuple[str, _Given]]:
    keys = known_keys()
    for name, value in content.items():
        key = f"{prefix}{name}"
        if key in keys:
            yield key, _Given(value, source)
        elif not any(known.startswith(key + ".") for known in keys):
            raise SettingsRefused(_unknown(key, source))
        elif isinstance(value, dict):
            yield from _flat(value, key + ".", source)
        elif value is not None:
            raise SettingsRefused(f"{key}={value!r} (from {source}): expected a group of settings, `key: value` below it")


def _parsed(key: str, text: str) -> object:
    """`text` read as YAML, except that a setting which takes text gets it as typed (`12`, `Read {question}: now`)."""
    kind = known_keys()[key].annotation
    try:
        value: object = _asked(text) if get_origin(kind) is dict else yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, RecursionError):
        return text
    takes_text = kind in (str, str | None)
    return text if takes_text and not isinstance(value, str | None) else value


def _asked(text: str) -> object:
    """`{colour: What colour is it?}` as it is meant: the library takes a question mark in braces for a sign of its own."""
    stands_for = next(letter for letter in map(chr, range(0xE000, 0xF900)) if letter not in text)
    value: object = yaml.load(text.replace("?", stands_for), _StrictLoader)
    if not isinstance(value, dict):
        return text
    return {_restored(name, stands_for): _restored(inner, stands_for) for name, inner in value.items()}


def _restored(value: object, stands_for: str) -> object:
    return value.replace(stands_for, "?") if isinstance(value, str) else value


def _nested(given: Mapping[str, _Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, one in given.items():
        *groups, name = key.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = one.value
    return tree


def _unknown(key: str, source: str) -> str:
    below = [known for known in known_keys() if known.startswith(key + ".")]
    if below:
        return f"{key} (from {source}) is a group: give one of its settings, {', '.join(below)}"
    return f"unknown setting {' '.join(key.split())} (from {source}){_nearest(key, known_keys())}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    same_ending = [one for one in names if one.rpartition(".")[2] == name.rpartition(".")[2]]
    return f"; did you mean {(same_ending or close)[0]}?" if same_ending or close else ""


def _one_line(refused: ValidationError, given: Mapping[str, _Given]) -> str:
    first, *others = refused.errors(include_url=False)
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "missing":
        option = f"--{place} URI, {PREFIX}{place.upper()}"
        return f"no {place}: give {option} or `{place}:` in the config file"
    if not place:  # values that are fine alone and not together
        return " ".join(first["msg"].removeprefix("Value error, ").split())
    key = next(known for known in given if place == known or place.startswith(known + "."))
    value = repr(first["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    expected = re.sub(r"^(Input|Value|.*?) should be ", "expected ", first["msg"].removeprefix("Value error, "))
    more = f" (and {len(others)} more)" if others else ""
    return " ".join(f"{place}={shown} (from {given[key].source}): {expected}{more}".split())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n")
