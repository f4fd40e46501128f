"""MC-LLaVA-3b as published in 2024 (spec section 6), read without the code that came with it.

The published folder names the tower's weights after the classes of its time and keeps Phi's settings where Phi had them
then. Both are translated here, and whatever cannot be translated is refused before a weight is read. Our own folders name
the same weights differently, so the names alone tell which of the two a folder is.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.initialization import no_init_weights

from ray_pipeline.models.mc_llava_network import McLlavaConfig, McLlavaForConditionalGeneration
from ray_pipeline.models.weights import ModelRefused

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PUBLISHED_PREFIX = "vision_model."  # every published folder has it, none of ours
TOWER = "vision_model.vision_tower.vision_model."
RENAMED = {"vision_tower.": TOWER, "coord_embed.": "vision_model.coord_embed."}  # ours -> published; the rest is equal
UNUSED = frozenset(  # SigLIP's pooling head: the method takes the encoder's features
    f"{TOWER}head.{name}"
    for name in (
        "probe", "attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight", "attention.out_proj.bias",
        "layernorm.weight", "layernorm.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias",
    )
)  # fmt: skip
STORED_TYPES = ("F16", "BF16", "F32")

OWN_KEYS = ("num_tokens", "prompt", "focus")  # of McLlavaConfig; a published config.json may have been given them since
ROTARY_SHARE = 0.4  # 32 of Phi-2's 80 dimensions a head; the library's default of 0.5 would silently turn 40
TEXT_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
VISION_SIZES = ("image_size", "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
# What no weight's shape would give away; a value that is absent had this default in 2024.
TOP_VALUES: dict[str, Any] = {
    "projector_hidden_act": "gelu", "tie_word_embeddings": False, "coordinate_size": 2, "drop_first_feature": True,
}  # fmt: skip
TEXT_VALUES: dict[str, Any] = {
    "model_type": "phi", "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
    "qk_layernorm": False, "tie_word_embeddings": False,
}  # fmt: skip
VISION_VALUES: dict[str, Any] = {
    "model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_channels": 3,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what its file's header says of it. `dtype` as safetensors writes it, such as F16."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def is_published(folder: Path) -> bool:
    """Whether a folder's weights carry the published names. Reads headers only.

    Raises:
        ModelRefused: no weights, or files that are not safetensors.
    """
    return any(name.startswith(PUBLISHED_PREFIX) for name in stored_tensors(folder))


def load_published(folder: Path, dtype: torch.dtype) -> McLlavaForConditionalGeneration:
    """The network on the CPU, in evaluation mode, its weights cast to `dtype` one at a time: never held twice.

    Raises:
        ModelRefused: a config that is not this architecture, or names, shapes or types of weights that are not its own.
    """
    config = published_config(_json(folder / "config.json"))
    with no_init_weights():
        network: McLlavaForConditionalGeneration = McLlavaForConditionalGeneration._from_config(config, dtype=dtype)
    _refuse_other_rotation(network)
    wanted = {published_name(name): tensor for name, tensor in network.state_dict().items()}
    stored = {name: tensor for name, tensor in stored_tensors(folder).items() if name not in UNUSED}
    _refuse_differences(wanted, stored)
    for file in sorted({tensor.file for tensor in stored.values()}):
        with safe_open(file, "pt") as shard, torch.no_grad():
            for name in (name for name, tensor in stored.items() if tensor.file == file):
                wanted[name].copy_(shard.get_tensor(name))
    network.eval()
    return network


def published_name(name: str) -> str:
    """The name that one of our weights has in a published folder."""
    for ours, theirs in RENAMED.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def published_config(values: Mapping[str, Any]) -> McLlavaConfig:
    """Our configuration from a published config.json, whose every value that matters is checked against spec 3 to 5.

    Sizes are taken from the file, and so are the keys of ours that it may hold (prompt, focus, number of visual tokens).
    Keys that change nothing here (token ids, dropout, names of classes) are left behind.

    Raises:
        ModelRefused: another architecture, a size that is missing, or a value that these weights were not trained with.
    """
    if values.get("model_type") != "mc-llava":
        raise ModelRefused(f"config.json: model_type is {values.get('model_type')!r}, expected 'mc-llava'")
    text, vision = _section(values, "text_config"), _section(values, "vision_config")
    _check_values("", values, TOP_VALUES)
    _check_values("text_config.", text, TEXT_VALUES)
    _check_values("vision_config.", vision, VISION_VALUES)
    text = {"vocab_size": values.get("vocab_size"), "max_position_embeddings": 2048, **text}
    text_sizes = _sizes("text_config.", text, (*TEXT_SIZES, "max_position_embeddings"))
    vision_sizes = _sizes("vision_config.", vision, VISION_SIZES)
    heads = text_sizes["num_attention_heads"]
    if text.get("num_key_value_heads") not in (None, heads):
        raise ModelRefused(f"config.json: text_config.num_key_value_heads is {text['num_key_value_heads']}, expected {heads}")
    _check_rotation(values, text)
    image = values.get("image_token_index", 50297)
    if not isinstance(image, int) or not 0 <= image < text_sizes["vocab_size"]:
        raise ModelRefused(f"config.json: image_token_index is {image!r}, expected 0..{text_sizes['vocab_size'] - 1}")
    return McLlavaConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **vision_sizes},
        text_config={"model_type": "phi", "partial_rotary_factor": ROTARY_SHARE, "rope_theta": 10000.0, **text_sizes},
        image_token_index=image,
        tie_word_embeddings=False,
        **{key: values[key] for key in OWN_KEYS if key in values},
    )


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a folder by its stored name, from the headers of its one file or of the files its index names.

    Raises:
        ModelRefused: neither file nor index or both, a shard that is missing or broken, or a name stored twice.
    """
    found: dict[str, StoredTensor] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, "pt") as shard:
                names = shard.keys()
                slices = {name: shard.get_slice(name) for name in names}
                tensors = {name: StoredTensor(file, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
        except (SafetensorError, OSError) as error:
            raise ModelRefused(f"{file.name}: {error}; expected a safetensors file") from None
        if twice := found.keys() & tensors.keys():
            raise ModelRefused(f"{file.name}: {min(twice)!r} is also in {found[min(twice)].file.name}; expected it once")
        found |= tensors
    return found


def _weight_files(folder: Path) -> list[Path]:
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file() == single.is_file():
        both = "both" if index.is_file() else "neither"
        raise ModelRefused(f"{folder}: {both} of {SINGLE} and {INDEX} found, expected one of them")
    if single.is_file():
        return [single]
    places = _json(index).get("weight_map")
    names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    wrong = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if wrong or not names:
        raise ModelRefused(f"{INDEX}: weight_map names {wrong or names}, expected *.safetensors files beside it")
    return [folder / name for name in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path.name}: {error}; expected JSON") from None
    if not isinstance(value, dict):
        raise ModelRefused(f"{path.name}: holds a {type(value).__name__}, expected an object")
    return value


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    if not isinstance(section, dict):
        raise ModelRefused(f"config.json: {name} is {section!r}, expected an object")
    return section


def _check_values(where: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        if found.get(key, value) != value:
            raise ModelRefused(f"config.json: {where}{key} is {found[key]!r}, expected {value!r}")


def _sizes(where: str, found: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    """The positive whole numbers of these names, heads dividing the width."""
    sizes: dict[str, int] = {}
    for name in names:
        size = found.get(name)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ModelRefused(f"config.json: {where}{name} is {size!r}, expected a positive whole number")
        sizes[name] = size
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if width % heads:
        raise ModelRefused(f"config.json: {where}hidden_size is {width}, expected a multiple of num_attention_heads, {heads}")
    return sizes


def _check_rotation(values: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Phi's own settings may stand in its section or, in older files, beside it; nowhere is not enough."""
    given = [place["partial_rotary_factor"] for place in (text, values) if "partial_rotary_factor" in place]
    if not given or any(share != ROTARY_SHARE for share in given):
        raise ModelRefused(
            f"config.json: partial_rotary_factor is {given or None}, expected {ROTARY_SHARE}, 32 of 80 dimensions a head"
        )


def _refuse_other_rotation(network: McLlavaForConditionalGeneration) -> None:
    """The share arrived: what each layer turns is what its angles cover, 32 of 80 (spec 6)."""
    decoder = network.language_model.model
    for number, layer in enumerate(decoder.layers):
        attention = layer.self_attn
        found = (attention.rotary_ndims, 2 * len(decoder.rotary_emb.inv_freq))
        expected = int(attention.head_dim * ROTARY_SHARE)
        if found != (expected, expected):
            what = f"layer {number} turns {found[0]} of {attention.head_dim} dimensions by {found[1] // 2} angles"
            raise ModelRefused(f"{what}, expected {expected} and {expected // 2}")


def _refuse_differences(wanted: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]) -> None:
    missing, unknown = sorted(wanted.keys() - stored.keys()), sorted(stored.keys() - wanted.keys())
    if missing or unknown:
        named = f"{len(missing)} missing{_such_as(missing)}, {len(unknown)} unknown{_such_as(unknown)}"
        raise ModelRefused(f"weights: {len(stored)} names, expected {len(wanted)}: {named}")
    for name, tensor in wanted.items():
        if stored[name].shape != tuple(tensor.shape):
            raise ModelRefused(f"weights: {name} is {stored[name].shape}, expected {tuple(tensor.shape)}")
        if stored[name].dtype not in STORED_TYPES:
            raise ModelRefused(f"weights: {name} is stored as {stored[name].dtype}, expected one of {STORED_TYPES}")


def _such_as(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
