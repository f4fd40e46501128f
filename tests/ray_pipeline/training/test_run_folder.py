"""What a run leaves in its folder survives a killed save; the running mean is the one that was written down."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ray_pipeline.training.run_folder import RunFolder
from ray_pipeline.training.running_mean import follow


def test_a_killed_save_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(2, 1)
    folder = RunFolder(tmp_path, {"network": layer})
    assert folder.resume() == {}
    folder.save(step=7)
    before = layer.weight.detach().clone()
    nn.init.zeros_(layer.weight)
    monkeypatch.setattr(torch, "save", lambda state, path: path.write_bytes(b"half of it") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folder.save(step=8)
    assert folder.resume() == {"step": 7} and torch.equal(layer.weight, before)


@pytest.mark.parametrize(("step", "kept"), [(1, 0.05), (19, 0.5), (100_000, 0.9)])
def test_the_mean_keeps_less_in_the_beginning(step: int, kept: float) -> None:
    mean, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    nn.init.constant_(mean.weight, 2.0)
    nn.init.zeros_(network.weight)
    network.num_batches_tracked.fill_(step)
    follow(mean, network, step, most=0.9)
    assert mean.weight.item() == pytest.approx(2.0 * kept) and mean.num_batches_tracked.item() == step
