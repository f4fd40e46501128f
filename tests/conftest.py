"""What all tests share: quiet libraries, one thread each, and one Ray."""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before any library is imported, and inherited by worker processes. What a machine's settings could change is taken away.
for name in list(os.environ):
    if name.startswith(("FOVEA_", "AWS_", "RAY_ADDRESS", "DELIVERY_", "COLUMNS")):
        del os.environ[name]
os.environ.update(RAY_USAGE_STATS_ENABLED="0", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # not another checkout's
os.environ.update(NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost")
# Else Ray's workers step back behind all else on the machine until nothing moves, and die where others fill its memory.
os.environ.update({"RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0"})
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder


def pytest_collection_finish() -> None:
    """Tests run beside each other's worker processes: torch takes one core, where it is used at all."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for all tests: pretended CPUs and GPUs, and the reader whose parallelism can be chosen."""
    import ray
    from ray.data import DataContext

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a short path, because of the names of Ray's sockets
    ray.init(
        address="local",
        num_cpus=8,
        num_gpus=2,
        object_store_memory=150 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
    )
    DataContext.get_current().use_datasource_v2 = False
    yield
    ray.shutdown(wait_for_processes=True)  # else they write into the folder while it is removed
    shutil.rmtree(folder, ignore_errors=True)
