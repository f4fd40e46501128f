"""Folders of small models, each saved once for all tests of the families. Tests that change one change a copy."""

from pathlib import Path

import pytest

from ray_pipeline.models.weights import EMBEDDED
from tests.stand_ins.tiny_models import TINY


class Folders(dict[str, Path]):
    """By name, saved when first asked for; `embedded` is the shipped one."""

    def __init__(self, root: Path) -> None:
        super().__init__(embedded=EMBEDDED)
        self.root = root

    def __missing__(self, name: str) -> Path:
        self[name] = TINY[name](self.root / name, 0)
        return self[name]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("tiny"))
