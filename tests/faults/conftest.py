"""What tests of deliveries share: a server that forks drivers, and a folder on a disk that syncs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.delivery_runs import DeliveryRuns, scratch_folder


@pytest.fixture(scope="module")
def runs() -> Iterator[DeliveryRuns]:
    with DeliveryRuns() as runs:
        yield runs


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as name:
        yield Path(name)
