"""MC-LLaVA's weights as its publisher stored them: the tower nested two levels deep, in two shards with an index."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ray_pipeline.models.mc_llava_network import McLlavaForConditionalGeneration

NESTED = {"vision_tower.": "vision_model.vision_tower.vision_model.", "coord_embed.": "vision_model.coord_embed."}


def published_state(network: McLlavaForConditionalGeneration) -> dict[str, Tensor]:
    """A network's weights under the published names, without the pooling head, which the network has not."""
    state = {}
    for name, tensor in network.state_dict().items():
        nested = next((ours for ours in NESTED if name.startswith(ours)), "")
        state[NESTED.get(nested, "") + name.removeprefix(nested)] = tensor
    return state


def save_shards(folder: Path, state: dict[str, Tensor]) -> None:
    """Every other name, in their order, to the first of two files; an index beside them."""
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: state[name].contiguous().clone() for name in held}, folder / file, metadata={"format": "pt"})
    total = sum(value.numel() * value.element_size() for value in state.values())
    index = dict(metadata=dict(total_size=total), weight_map={name: file for file, held in shards.items() for name in held})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
