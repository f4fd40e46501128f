"""The published checkpoint: its table of names, its config, and the slow reference of the method, token for token."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ray_pipeline.methods.multicrop import crop_grid
from ray_pipeline.models.contract import Encode, Generate
from ray_pipeline.models.embedded_tokenizer import build_tokenizer
from ray_pipeline.models.mc_llava import McLlava, view_pixels
from ray_pipeline.models.mc_llava_checkpoint import (
    UNUSED,
    is_published,
    load_published,
    published_config,
    published_name,
    stored_tensors,
)
from ray_pipeline.models.mc_llava_network import McLlavaForConditionalGeneration
from ray_pipeline.models.weights import EMBEDDED, ModelRefused
from schemas.model import ViewSettings
from tests.reference import mc_llava_formulas as reference
from tests.stand_ins.made_pictures import soft_noise, whole
from tests.stand_ins.published_shards import published_state, save_shards

PUBLISHED: dict[str, Any] = {  # a config.json of 2024: Phi-2 and SigLIP so400m, Phi's settings where Phi had them
    "architectures": ["LlavaForCausalLM"], "ignore_index": -100, "image_token_index": 50297, "model_type": "mc-llava",
    "projector_hidden_act": "gelu", "projector_tokens_num": 1, "torch_dtype": "float16", "vision_embed_dim": 1152,
    "vocab_size": 51200,
    "text_config": {
        "model_type": "phi", "architectures": ["PhiForCausalLM"], "vocab_size": 51200, "hidden_size": 2560,
        "intermediate_size": 10240, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "hidden_act": "gelu_new", "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "partial_rotary_factor": 0.4,
        "rope_theta": 10000.0, "rope_scaling": None, "qk_layernorm": False, "tie_word_embeddings": False, "resid_pdrop": 0.1,
        "bos_token_id": 50256, "eos_token_id": 50295, "torch_dtype": "float16", "use_cache": True,
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
        "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
    },
}  # fmt: skip


def published_table() -> dict[str, tuple[int, ...]]:
    """Section 6 of the spec, row by row."""
    table: dict[str, tuple[int, ...]] = {}

    def pair(name: str, *shape: int) -> None:
        table[f"{name}.weight"], table[f"{name}.bias"] = shape, shape[:1]

    pair(f"{reference.TOWER}embeddings.patch_embedding", 1152, 3, 14, 14)
    table[f"{reference.TOWER}embeddings.position_embedding.weight"] = (729, 1152)
    for i in range(27):
        layer = f"{reference.TOWER}encoder.layers.{i}."
        for k in (1, 2):
            pair(f"{layer}layer_norm{k}", 1152)
        for name in ("q", "k", "v", "out"):
            pair(f"{layer}self_attn.{name}_proj", 1152, 1152)
        pair(f"{layer}mlp.fc1", 4304, 1152)
        pair(f"{layer}mlp.fc2", 1152, 4304)
    pair(f"{reference.TOWER}post_layernorm", 1152)
    table |= pooling_head(1152, 4304)
    pair("vision_model.coord_embed.0", 1152, 2)
    pair("vision_model.coord_embed.2", 1152, 1152)
    pair("multi_modal_projector.linear_1", 2560, 1152)
    pair("multi_modal_projector.linear_2", 2560, 2560)
    table["language_model.model.embed_tokens.weight"] = (51200, 2560)
    for i in range(32):
        layer = f"language_model.model.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "dense"):
            pair(f"{layer}self_attn.{name}", 2560, 2560)
        pair(f"{layer}mlp.fc1", 10240, 2560)
        pair(f"{layer}mlp.fc2", 2560, 10240)
        pair(f"{layer}input_layernorm", 2560)
    pair("language_model.model.final_layernorm", 2560)
    pair("language_model.lm_head", 51200, 2560)
    return table


def pooling_head(width: int, inner: int) -> dict[str, tuple[int, ...]]:
    """The 11 tensors of SigLIP's head, which nothing reads."""
    head = {
        "probe": (1, 1, width), "attention.in_proj_weight": (3 * width, width), "attention.in_proj_bias": (3 * width,),
        "attention.out_proj.weight": (width, width), "attention.out_proj.bias": (width,), "layernorm.weight": (width,),
        "layernorm.bias": (width,), "mlp.fc1.weight": (inner, width), "mlp.fc1.bias": (inner,), "mlp.fc2.weight": (width, inner),
        "mlp.fc2.bias": (width,),
    }  # fmt: skip
    return {f"{reference.TOWER}head.{name}": shape for name, shape in head.items()}


def test_table_of_the_published_weights() -> None:
    table = published_table()
    assert len(table) == 909
    assert sum(int(np.prod(shape)) for shape in table.values()) == 3_218_748_992


def test_the_full_size_network_holds_exactly_the_published_weights() -> None:
    with torch.device("meta"):
        network = McLlavaForConditionalGeneration(published_config(PUBLISHED))
    ours = {published_name(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    table = published_table()
    assert ours == {name: shape for name, shape in table.items() if name not in UNUSED}
    assert pooling_head(1152, 4304).keys() == UNUSED and len(UNUSED) == 11
    decoder = network.language_model.model
    assert {layer.self_attn.rotary_ndims for layer in decoder.layers} == {32} and len(decoder.rotary_emb.inv_freq) == 16
    assert decoder.layers[0].self_attn.head_dim == 80
    assert network.language_model.lm_head.weight is not decoder.embed_tokens.weight


def changed(path: str, value: Any) -> dict[str, Any]:
    """PUBLISHED with one value set, or taken away where it is `...`."""
    config = copy.deepcopy(PUBLISHED)
    *sections, key = path.split(".")
    place = config[sections[0]] if sections else config
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model_type", "llava", "model_type is 'llava', expected 'mc-llava'"),
        ("projector_hidden_act", "relu", "projector_hidden_act is 'relu', expected 'gelu'"),
        ("coordinate_size", 4, "coordinate_size is 4, expected 2"),
        ("image_token_index", 51200, "image_token_index is 51200, expected 0..51199"),
        ("text_config", ..., "text_config is None, expected an object"),
        ("text_config.model_type", "llama", "text_config.model_type is 'llama', expected 'phi'"),
        ("text_config.partial_rotary_factor", 0.5, "partial_rotary_factor is [0.5], expected 0.4, 32 of 80"),
        ("text_config.partial_rotary_factor", ..., "partial_rotary_factor is None, expected 0.4"),
        ("partial_rotary_factor", 0.5, "partial_rotary_factor is [0.4, 0.5], expected 0.4"),
        ("text_config.num_key_value_heads", 8, "text_config.num_key_value_heads is 8, expected 32"),
        ("text_config.rope_theta", 5e5, "text_config.rope_theta is 500000.0, expected 10000.0"),
        ("text_config.rope_scaling", {"type": "linear", "factor": 2.0}, "text_config.rope_scaling is {"),
        ("text_config.hidden_act", "gelu", "text_config.hidden_act is 'gelu', expected 'gelu_new'"),
        ("text_config.layer_norm_eps", 1e-6, "text_config.layer_norm_eps is 1e-06, expected 1e-05"),
        ("text_config.qk_layernorm", True, "text_config.qk_layernorm is True, expected False"),
        ("text_config.tie_word_embeddings", True, "text_config.tie_word_embeddings is True, expected False"),
        ("text_config.num_attention_heads", ..., "text_config.num_attention_heads is None, expected a positive whole"),
        ("text_config.num_attention_heads", 31, "text_config.hidden_size is 2560, expected a multiple"),
        ("vision_config.num_attention_heads", "16", "vision_config.num_attention_heads is '16', expected a positive whole"),
        ("vision_config.hidden_act", "gelu", "vision_config.hidden_act is 'gelu', expected 'gelu_pytorch_tanh'"),
        ("vision_config.layer_norm_eps", 1e-5, "vision_config.layer_norm_eps is 1e-05, expected 1e-06"),
        ("vision_config.num_channels", 1, "vision_config.num_channels is 1, expected 3"),
    ],
)
def test_a_config_of_other_weights_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        published_config(changed(path, value))
    assert message in str(refused.value)


def test_what_the_config_may_leave_out_or_add() -> None:
    config = published_config(PUBLISHED)
    assert (config.coordinate_size, config.drop_first_feature, config.num_tokens, config.image_token_index) == (
        2,
        True,
        728,
        50297,
    )
    assert config.prompt["before"] == "<|im_start|>user\n" and config.focus.get("layer") is None
    top = changed("text_config.partial_rotary_factor", ...) | {"partial_rotary_factor": 0.4}  # beside Phi's section
    assert published_config(top).text_config.rope_parameters["partial_rotary_factor"] == 0.4
    calibrated = published_config(PUBLISHED | {"focus": {"layer": 15, "base_window_px": 384}, "num_tokens": 1456})
    assert calibrated.focus["layer"] == 15 and calibrated.num_tokens == 1456


def tiny_tokenizer() -> Any:
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, replace_extra_special_tokens=False
    )
    return tokenizer


def tiny_config() -> dict[str, Any]:
    """The published picture geometry and head width with few and narrow layers."""
    tokenizer = tiny_tokenizer()
    config = copy.deepcopy(PUBLISHED)
    config["image_token_index"] = tokenizer.convert_tokens_to_ids("<image>")
    config["text_config"] |= {
        "vocab_size": len(tokenizer), "hidden_size": 160, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2,
    }  # fmt: skip
    config["vision_config"] |= {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 3, "num_hidden_layers": 2}
    return config


def tiny_network(seed: int = 3) -> McLlavaForConditionalGeneration:
    """Weights wide enough that attention is far from uniform in both towers."""
    network = McLlavaForConditionalGeneration(published_config(tiny_config()))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            spread = 0.1 if name.endswith("bias") or "norm" in name else 1.4 / weight[0].numel() ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread + float("norm" in name and "weight" in name))
        network.language_model.lm_head.bias[:1008] -= 20.0  # answers are letters and words, not places
    return network.eval()


def stored(network: McLlavaForConditionalGeneration) -> dict[str, Tensor]:
    """The network's weights as published, with the head that nothing reads."""
    return {name: torch.full(shape, 7.0) for name, shape in pooling_head(48, 80).items()} | published_state(network)


@pytest.fixture(scope="module")
def network() -> McLlavaForConditionalGeneration:
    return tiny_network()


@pytest.fixture
def folder(network: McLlavaForConditionalGeneration, tmp_path: Path) -> Path:
    save_shards(tmp_path, stored(network))
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()))
    return tmp_path


def test_a_checkpoint_in_two_shards_gives_what_its_source_gives(network: McLlavaForConditionalGeneration, folder: Path) -> None:
    loaded = load_published(folder, torch.float32)
    assert not loaded.training and {p.dtype for p in loaded.parameters()} == {torch.float32}
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 384, 384, generator=generator)
    embeds = torch.randn(1, 9, 160, generator=generator)
    places = torch.tensor([[0.5, 0.5], [0.3, 0.8]])
    with torch.no_grad():
        features = [one.view_features(pixels) for one in (network, loaded)]
        projected = [one.project(feature, places) for one, feature in zip((network, loaded), features, strict=True)]
        logits = [one(inputs_embeds=embeds).logits for one in (network, loaded)]
    assert features[0].shape == (2, 728, 48) and features[0].std() > 0.1
    for first, second in (features, projected, logits):
        assert torch.equal(first, second)


def test_weights_are_cast_and_angles_are_not(folder: Path) -> None:
    loaded = load_published(folder, torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded.language_model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_one_file_without_an_index_is_read_too(network: McLlavaForConditionalGeneration, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in stored(network).items()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()))
    loaded = load_published(tmp_path, torch.float32).state_dict()
    assert all(torch.equal(loaded[name], tensor.half().float()) for name, tensor in network.state_dict().items())


def test_the_names_tell_the_layouts_apart(network: McLlavaForConditionalGeneration, folder: Path, tmp_path: Path) -> None:
    assert is_published(folder) and not is_published(EMBEDDED)
    ours = tmp_path / "ours"
    network.save_pretrained(ours)
    assert not is_published(ours)


def edited(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "model-00001-of-00002.safetensors"
        state = load_file(file)
        change(state)
        save_file(state, file)

    return edit


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


COORDINATE = "vision_model.coord_embed.0.weight"  # in the first shard, as the names' order has it


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edited(lambda s: s.pop("language_model.lm_head.bias")), "1 missing (language_model.lm_head.bias), 0 unknown"),
        (edited(lambda s: s.update({"vision_tower.extra": torch.ones(1)})), "0 missing, 1 unknown (vision_tower.extra)"),
        (
            edited(lambda s: s.update({"vision_tower.embeddings.patch_embedding.bias": torch.ones(48)})),
            "0 missing, 1 unknown (vision_tower.embeddings.patch_embedding.bias)",
        ),
        (edited(lambda s: s.update({COORDINATE: torch.ones(48, 4)})), f"{COORDINATE} is (48, 4), expected (48, 2)"),
        (edited(lambda s: s.update({COORDINATE: torch.ones(48, 2).int()})), "is stored as I32, expected one of"),
        (lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(), "model-00002-of-00002.safetensors: "),
        (written("model-00002-of-00002.safetensors", "<html>"), "expected a safetensors file"),
        (written("model.safetensors", ""), "both of model.safetensors and model.safetensors.index.json found"),
        (lambda folder: (folder / "model.safetensors.index.json").unlink(), "neither of model.safetensors and"),
        (written("model.safetensors.index.json", '{"weight_map": {"a": "../other.safetensors"}}'), "['../other.safetensors']"),
        (written("model.safetensors.index.json", "[]"), "holds a list, expected an object"),
        (written("config.json", "{"), "config.json: Expecting property name"),
    ],
)
def test_other_weights_are_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelRefused) as refused:
        load_published(folder, torch.float32)
    assert message in str(refused.value)


def test_a_name_stored_twice_is_refused(folder: Path) -> None:
    first = load_file(folder / "model-00001-of-00002.safetensors")
    second = load_file(folder / "model-00002-of-00002.safetensors")
    name = min(first)
    save_file(second | {name: first[name]}, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(ModelRefused, match="is also in model-00001"):
        stored_tensors(folder)


@pytest.mark.parametrize("size", [(800, 600), (384, 500), (90, 1200), (384, 384)])
def test_views_are_squashed_as_pillow_does(size: tuple[int, int]) -> None:
    picture = soft_noise(*size, size[0], (13, 17))
    squashed = view_pixels(picture, whole(picture), 384)
    assert any(np.array_equal(squashed, reference.squash(picture.pixels_YX3, 384, axes)) for axes in ((1, 0), (0, 1)))


@pytest.mark.parametrize(("width", "height", "most", "budget"), [(800, 600, 8, 728), (640, 480, 100, 101), (300, 200, 0, 728)])
def test_token_for_token_equal_to_the_slow_reference(folder: Path, width: int, height: int, most: int, budget: int) -> None:
    tokenizer, question = tiny_tokenizer(), "What is the text on the red sign?"
    family = McLlava(load_published(folder, torch.float32), tokenizer, ViewSettings(num_tokens=budget))
    seen: list[Tensor] = []
    family.model.language_model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"][0]), with_kwargs=True
    )
    picture = soft_noise(width, height, width, (13, 17))
    tokens = family.encode([Encode(picture, crop_grid(width, height, most, "official"))])[0]
    answer = family.generate([Generate(tokens, question, 1)])[0]

    weights = {name: tensor for shard in folder.glob("*.safetensors") for name, tensor in load_file(shard).items()}
    visual = reference.visual_tokens(picture.pixels_YX3, weights, most, budget, layers=2, heads=3)
    prompt = f"<|im_start|>user\n<image>\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    expected = reference.merged(ids, family.model.config.image_token_index, visual, weights)

    assert tokens.count == len(visual) == budget
    got = torch.cat(seen)
    assert got.shape == expected.shape == (len(ids) - 1 + budget, 160)
    assert expected.std() > 0.2 and float((got - expected).abs().max()) < 1e-4
    log_p = reference.next_token_log_p(expected, weights, layers=2, heads=2)
    assert answer.ids == (int(log_p.argmax()),)
    assert answer.text_logprob == pytest.approx(float(log_p.max()), abs=1e-4)
