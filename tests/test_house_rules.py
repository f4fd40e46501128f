"""The design as tests: who imports whom, how files are named and how long they are, and that the texts tell the truth."""

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from schemas import floors

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobs", "ray_pipeline", "schemas")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TEXT_ENDINGS = {".py", ".md", ".toml", ".txt", ".lock", ".yaml", ".yml", ".json", ".sh", ".cfg", ".html", ".css", ""}
NOT_OURS = (  # the project speaks only of itself, and runs anywhere
    r"(?<![\w.$}-])/(?:work|root|opt)/",  # a path of one machine
    r"\bissue #?\d",
    r"\b(?:this|next|previous|earlier|another) session\b",
    r"\bworkplace\b",
    r"(?:--|_)(?:index-url|INDEX_URL)\b",
)


def ignored_folders() -> set[str]:
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    return {line.strip().strip("/") for line in lines if line.strip().endswith("/")}


def all_files() -> list[Path]:
    """Every file of the repository that git does not ignore."""
    skipped = ignored_folders() | {".git"}
    found = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in skipped and not name.endswith(".egg-info")]
        found += [Path(folder, name) for name in names if not name.endswith(".pyc")]
    return sorted(found)


def python_files(*folders: str) -> list[Path]:
    return [path for path in all_files() if path.suffix == ".py" and (not folders or path.relative_to(ROOT).parts[0] in folders)]


def test_import_layers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=str(tmp_path), no_logo=True) == 0, capsys.readouterr().out


def test_files_are_named_after_what_they_hold() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler"}
    assert [str(path) for path in python_files() if vague & set(path.stem.lower().split("_"))] == []


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in python_files()}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


def readme_tree() -> list[str]:
    """Paths listed in the README's tree. Names below a folder of the first column are relative to it."""
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    tree = next((block for block in blocks if re.search(r"^jobs/", block, re.MULTILINE)), None)
    assert tree, "README.md has no ```text block with a line `jobs/`"
    folder, listed = "", []
    for line in tree.splitlines():
        for place, token in enumerate(line.split()):
            if not re.fullmatch(r"[\w./-]+(?:\.\w+|/)", token):
                break  # the description begins
            if place == 0 and not line[0].isspace():
                folder = token if token.endswith("/") else ""
                listed.append(token)
            else:
                top_level = (ROOT / token.split("/")[0]).is_dir() and "/" in token
                listed.append(token if top_level else folder + token)
    return listed


def test_readme_tree_is_the_real_tree() -> None:
    listed = readme_tree()
    assert [path for path in listed if not (ROOT / path).exists()] == [], "the README lists what is not there"
    modules = {path.relative_to(ROOT).as_posix() for path in python_files(*PACKAGES) if path.name != "__init__.py"}
    folders = {path.relative_to(ROOT).parts[0] + "/" for path in all_files() if len(path.relative_to(ROOT).parts) > 1}
    missing = (modules | {folder for folder in folders if not folder.startswith(".")}) - set(listed)
    assert sorted(missing) == [], "the README does not list what is there"


def test_the_project_speaks_only_of_itself() -> None:
    found = []
    for path in all_files():
        if path.suffix in TEXT_ENDINGS:
            text = path.read_text("utf-8", errors="replace")
            found += [
                f"{path.relative_to(ROOT)}: {hit[0]}" for rule in NOT_OURS for hit in re.finditer(rule, text, re.IGNORECASE)
            ]
    assert found == []


def test_changelog_has_the_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == PROJECT["version"]


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public functions and classes of a module, and methods of its public classes, that have no docstring."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if not isinstance(node, definitions) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield node.name
        if isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, definitions[:2])]
            yield from (f"{node.name}.{one.name}" for one in methods if needs_docstring(one) and ast.get_docstring(one) is None)


def needs_docstring(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Not where the name says it all: private ones, properties, and overrides that mean what they mean in the base class."""
    decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
    says_itself = {"property", "functools.cached_property", "cached_property", "override", "typing.override", "overload"}
    return not method.name.startswith("_") and method.name != "forward" and not decorators & says_itself


def test_public_names_are_explained() -> None:
    missing = []
    for path in python_files("ray_pipeline", "schemas"):
        tree = ast.parse(path.read_text("utf-8"))
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in undocumented(tree)]
    assert missing == []


def test_docstring_rule_sees_what_it_should() -> None:
    source = """
def bare(): pass
def _private(): pass
class Open:
    def method(self): pass
    def forward(self): pass
    def __len__(self): return 0
    @property
    def width(self): return 0
"""
    assert list(undocumented(ast.parse(source))) == ["bare", "Open", "Open.method"]


def test_version_floors_agree() -> None:
    pattern = re.compile(r"^([\w-]+)(?:\[.*?\])?>=([\d.]+)(?:,<[\d.]+)?$", re.MULTILINE)
    asked = {found[1]: found[2] for found in pattern.finditer("\n".join(PROJECT["dependencies"]))}
    assert {name: asked[name] for name in floors.FLOORS} == floors.FLOORS


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names}


def test_imports_are_dependencies() -> None:
    called = {
        "PIL": "pillow",
        "faster_coco_eval": "faster-coco-eval",
        "huggingface_hub": "huggingface-hub",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
    }
    found = set().union(*(imported(path) for path in python_files(*PACKAGES))) - sys.stdlib_module_names - set(PACKAGES)
    listed = {re.split(r"[\[<>=]", line)[0] for line in PROJECT["dependencies"]}
    assert sorted({called.get(name, name) for name in found} ^ listed) == []


def test_lock_has_every_dependency() -> None:
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines() if "==" in line}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in wanted}
    assert sorted(names - locked) == []


def test_lock_names_no_build_of_one_machine() -> None:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert (ROOT / "constraints.txt").read_text("utf-8").splitlines()[-1] in lines


def test_floors_hold_here() -> None:
    floors.check_floors()


@pytest.mark.parametrize(
    ("name", "floor", "message"),
    [
        ("ray", "999.1", "999.1 or newer is required"),
        ("no-such-library", "1", "no-such-library is not installed, 1 or newer is required"),
    ],
)
def test_floors_refuse(name: str, floor: str, message: str) -> None:
    with pytest.raises(floors.VersionTooOld, match=message):
        floors.check_floors({name: floor})


@pytest.mark.parametrize(
    ("installed", "floor", "old"),
    [("2.60.0", "2.60", False), ("2.9.1", "2.60", True), ("2.13.0+cpu", "2.11", False), ("13", "13.0.0", False),
     ("12.9", "13", True), ("26.0.1", "26.0.2", True), ("2.61.0rc1", "2.60", False), ("weird", "1", True)],
)  # fmt: skip
def test_floors_compare_as_numbers(installed: str, floor: str, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: installed)
    if old:
        with pytest.raises(floors.VersionTooOld, match=re.escape(installed)):
            floors.check_floors({"ray": floor})
    else:
        floors.check_floors({"ray": floor})
