"""A real cluster of three nodes: work goes where the GPUs are, a lost node costs a few rows twice, and Prometheus can count."""

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs import verify
from ray_pipeline.delivery.commit import Output
from ray_pipeline.delivery.formats.parquet import results_rows
from tests.cluster.three_nodes import Cluster, Node, three_nodes
from tests.faults.small_archive import SETTINGS, write_small_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ACTORS, BATCH, PART_ROWS = 2, 4, 16
JOB = "tests.faults.hash_job"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="three-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        three_nodes(Path(folder), {"HASH_MODEL_DELAY_S": "0.02"}) as cluster,
    ):
        yield cluster


def arguments(manifest: Path, output: Path, *settings: str) -> list[str]:
    """Half a GPU for each of two workers."""
    words = ["--manifest", str(manifest), "--output", str(output), "--actors", str(ACTORS), "--gpus-per-actor", "0.5"]
    for setting in (*SETTINGS, f"run.batch={BATCH}", f"run.part_rows={PART_ROWS}", *settings):
        words += ["--set", setting]
    return words


def statuses(output: Path) -> Counter[str]:
    """Of all committed rows; their ids must be those of the manifest, each once."""
    folder = Output(str(output))
    rows = [row for name in folder.list_results() for row in results_rows(folder.read_result(name))]
    assert [row["id"] for row in rows] == [f"r{k}" for k in range(len(rows))]
    return Counter(row["status"] for row in rows)


def computed(nodes: list[Node]) -> Counter[str]:
    """How often each question was asked of the model, on any of the nodes."""
    return Counter(question for node in nodes for question, _ in node.computed())


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for evidence; a process that ends without it is a failure."""
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)


def test_work_goes_to_the_gpus_and_is_counted(cluster: Cluster, tmp_path: Path) -> None:
    """The last row, in a part of its own, hangs: so the counters can be read when all others are done."""
    rows = 6 * PART_ROWS
    manifest, output = write_small_archive(tmp_path / "archive", rows + 1, {rows: "hang"}), tmp_path / "out"
    process = cluster.submitted(JOB, *arguments(manifest, output, "run.call_timeout_s=15"))
    gpu = cluster.nodes["gpu"]
    wait_until(lambda: gpu.counted("fovea_rows").get("ok") == rows, process)
    assert gpu.counted("fovea_model_starts")[""] >= ACTORS  # those after the hanging row come on top once it has ended
    seconds = gpu.counted("fovea_stage_seconds")
    assert {"waiting", "model", "journal", "commit", "all"} == set(seconds) and seconds["model"] >= rows * 0.02
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert statuses(output) == {"ok": rows, "model_timeout": 1}
    assert [len(node.computed()) for node in (cluster.head, cluster.nodes["cpu"])] == [0, 0]
    times = computed([gpu])
    assert {question for question, often in times.items() if often > 1} <= {f"row {rows} hang"}
    assert len(times) == rows + 1
    assert verify.main(["--output", str(output), "--manifest", str(manifest)]) == 0


@pytest.mark.parametrize("loss", ["raylet", "machine"])
def test_a_node_is_lost_and_another_one_joins(cluster: Cluster, tmp_path: Path, loss: str) -> None:
    rows = 20 * PART_ROWS
    manifest, output = write_small_archive(tmp_path / "archive", rows), tmp_path / "out"
    lost = list(cluster.nodes.values())[-1]
    before = len(lost.computed())
    process = cluster.driver(JOB, *arguments(manifest, output))
    wait_until(lambda: len(lost.computed()) > before + rows // 4 and Output(str(output)).list_results(), process)
    done = len(Output(str(output)).list_results())
    if loss == "raylet":
        os.kill(lost.raylet(), signal.SIGKILL)
    else:
        lost.kill()
    new = cluster.start(f"gpu-after-{loss}", 1, 1, {"HASH_MODEL_DELAY_S": "0.02"})
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert statuses(output) == {"ok": rows} and 0 < done < rows // PART_ROWS
    while lost.models():  # without their raylet they end by themselves
        time.sleep(0.2)
    again = len(lost.computed()) - before + len(new.computed()) - rows
    print(f"\n{loss}: {len(lost.computed()) - before} rows on the lost node, {len(new.computed())} on the new one, {again} twice")
    assert new.computed() and 0 <= again <= ACTORS * BATCH
    assert [len(node.computed()) for node in (cluster.head, cluster.nodes["cpu"])] == [0, 0]
    assert verify.main(["--output", str(output), "--manifest", str(manifest)]) == 0
