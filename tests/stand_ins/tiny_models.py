"""Complete model folders of every family with small random weights, laid out as on the hub.

Sizes differ on purpose wherever an equal size could hide a swapped axis.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PhiConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.models.siglip.modeling_siglip import SiglipVisionModel
from transformers.utils.logging import disable_progress_bar

from ray_pipeline.models.mc_llava_network import McLlavaConfig, McLlavaForConditionalGeneration
from tests.stand_ins import tiny_tokenizers as tokenizers
from tests.stand_ins.published_shards import published_state, save_shards
from tests.stand_ins.tiny_weights import keep_answers_plain, randomise

CLIP = dict(image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711])
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
HALVES = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
PIXELS = dict(do_convert_rgb=True, do_normalize=True, do_rescale=True, do_resize=True, resample=3, rescale_factor=1 / 255)


def _save(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int, tied: bool = False, **files: Any
) -> Path:
    randomise(model, seed, tied)
    keep_answers_plain(model, tokenizer)
    _write(folder, model, tokenizer)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    return folder


def _write(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)  # chat templates within JSON: other files are refused


def _llama(vocabulary: int, **settings: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=-(-vocabulary // 64) * 64,  # more rows than tokens, as in LLaVA-1.5
        **dict(
            hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
            max_position_embeddings=4096, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
        )
        | settings,
    )  # fmt: skip


def _clip(image_px: int) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=3, image_size=image_px, patch_size=14,
        projection_dim=32,
    )  # fmt: skip


def llava(folder: Path, seed: int = 0, image_px: int = 84) -> Path:
    """LLaVA-1.5: CLIP tower, feature layer -2, 6 x 6 tokens at 84 px (8 x 8 at 112), Llama decoder without GQA."""
    tokenizer = tokenizers.llama_tokenizer(tokenizers.LLAVA_CHAT, image_token="<image>")
    config = LlavaConfig(
        vision_config=_clip(image_px),
        text_config=_llama(len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_px // 14) ** 2,
        pad_token_id=tokenizer.pad_token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return _save(
        folder, LlavaForConditionalGeneration(config), tokenizer, seed,
        preprocessor_config=PIXELS | CLIP | dict(
            image_processor_type="CLIPImageProcessor", processor_class="LlavaProcessor", do_center_crop=True,
            crop_size=dict(height=image_px, width=image_px), size=dict(shortest_edge=image_px),
        ),
        processor_config=dict(
            processor_class="LlavaProcessor", image_token="<image>", num_additional_image_tokens=1, patch_size=14,
            vision_feature_select_strategy="default",
        ),
        generation_config=dict(bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.pad_token_id),
    )  # fmt: skip


def llava_even(folder: Path, seed: int = 0) -> Path:
    """LLaVA-1.5 at 112 px: 8 x 8 tokens."""
    return llava(folder, seed, 112)


def llava_next(folder: Path, seed: int = 0) -> Path:
    """LLaVA-NeXT any-res: tiles of 84 px (6 x 6), base view, unpadded tiles, a newline token per row; GQA decoder."""
    tile = 84
    pinpoints = [[tile, 2 * tile], [2 * tile, tile], [2 * tile, 2 * tile], [3 * tile, tile], [tile, 3 * tile]]
    tokenizer = tokenizers.llama_tokenizer(tokenizers.LLAVA_CHAT, image_token="<image>")
    config = LlavaNextConfig(
        vision_config=_clip(tile),
        text_config=_llama(len(tokenizer), num_key_value_heads=2),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(tile // 14) ** 2,
        image_grid_pinpoints=pinpoints,
        pad_token_id=tokenizer.pad_token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return _save(
        folder, LlavaNextForConditionalGeneration(config), tokenizer, seed,
        preprocessor_config=PIXELS | CLIP | dict(
            image_processor_type="LlavaNextImageProcessor", processor_class="LlavaNextProcessor", do_center_crop=True,
            do_pad=True, aspect_ratio_setting="anyres", image_grid_pinpoints=pinpoints,
            crop_size=dict(height=tile, width=tile), size=dict(shortest_edge=tile),
        ),
        processor_config=dict(
            processor_class="LlavaNextProcessor", image_token="<image>", num_additional_image_tokens=1, patch_size=14,
            vision_feature_select_strategy="default",
        ),
        generation_config=dict(bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.pad_token_id),
    )  # fmt: skip


def _qwen_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    names = dict(
        image_token_id="<|image_pad|>", video_token_id="<|video_pad|>", vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )  # fmt: skip
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _qwen_generation(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    return dict(bos_token_id=ends[1], eos_token_id=ends, pad_token_id=ends[1])


def qwen2_5_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen2.5-VL: patches of 14 px merged 2 x 2, windows of 56 px with full attention in blocks 1 and 3, GQA 2:1, tied."""
    tokenizer = tokenizers.byte_tokenizer(tokenizers.QWEN_VISION, tokenizers.QWEN2_5_CHAT)
    config = Qwen2_5_VLConfig(
        vision_config=dict(
            depth=4, hidden_size=64, intermediate_size=96, num_heads=4, patch_size=14, spatial_merge_size=2, window_size=56,
            temporal_patch_size=2, tokens_per_second=2, out_hidden_size=64, fullatt_block_indexes=[1, 3],
        ),
        text_config=dict(
            vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=1e-6, tie_word_embeddings=True,
            bos_token_id=256, eos_token_id=tokenizer.eos_token_id,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0, mrope_section=[2, 3, 3]),
        ),
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    return _save(
        folder, Qwen2_5_VLForConditionalGeneration(config), tokenizer, seed, True,
        preprocessor_config=PIXELS | CLIP | dict(
            image_processor_type="Qwen2VLImageProcessor", processor_class="Qwen2_5_VLProcessor", min_pixels=56 * 56,
            max_pixels=28 * 28 * 40, patch_size=14, temporal_patch_size=2, merge_size=2,
        ),
        generation_config=_qwen_generation(tokenizer),
    )  # fmt: skip


def qwen3_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen3-VL: patches of 16 px merged 2 x 2, features of tower blocks 0, 1, 3 into decoder layers 0..2, GQA 3:1, q/k norm."""
    tokenizer = tokenizers.byte_tokenizer(tokenizers.QWEN_VISION, tokenizers.QWEN3_CHAT)
    config = Qwen3VLConfig(
        vision_config=dict(
            depth=4, hidden_size=64, intermediate_size=96, num_heads=4, patch_size=16, spatial_merge_size=2,
            temporal_patch_size=2, out_hidden_size=64, num_position_embeddings=64, deepstack_visual_indexes=[0, 1, 3],
        ),
        text_config=dict(
            vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=5, num_attention_heads=6,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=4096, rms_norm_eps=1e-6,
            bos_token_id=256, eos_token_id=tokenizer.eos_token_id,
            rope_parameters=dict(
                rope_type="default", rope_theta=5000000.0, mrope_section=[6, 5, 5], mrope_interleaved=True
            ),
        ),
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )  # fmt: skip
    return _save(
        folder, Qwen3VLForConditionalGeneration(config), tokenizer, seed,
        preprocessor_config=PIXELS | HALVES | dict(
            image_processor_type="Qwen2VLImageProcessorFast", processor_class="Qwen3VLProcessor", patch_size=16,
            temporal_patch_size=2, merge_size=2, size=dict(shortest_edge=64 * 64, longest_edge=32 * 32 * 40),
        ),
        generation_config=_qwen_generation(tokenizer),
    )  # fmt: skip


def internvl(folder: Path, seed: int = 0, tile_px: int = 56) -> Path:
    """InternVL3: tiles of 56 px, 4 x 4 patches shuffled to 2 x 2 tokens (4 x 4 at 112), thumbnail last, Qwen2 decoder, GQA."""
    tokenizer = tokenizers.byte_tokenizer(tokenizers.INTERNVL_VISION, tokenizers.INTERNVL_CHAT, **tokenizers.INTERNVL_NAMED)
    config = InternVLConfig(
        vision_config=dict(
            hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=3, attention_bias=True,
            image_size=[tile_px, tile_px], patch_size=[14, 14], norm_type="layer_norm",
        ),
        text_config=Qwen2Config(
            vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=1e-6, use_sliding_window=False,
            bos_token_id=256, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=False,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(tile_px // 28) ** 2,
        tie_word_embeddings=False,
    )  # fmt: skip
    return _save(
        folder, InternVLForConditionalGeneration(config), tokenizer, seed,
        preprocessor_config=PIXELS | IMAGENET | dict(
            image_processor_type="GotOcr2ImageProcessorFast", processor_class="InternVLProcessor", crop_to_patches=False,
            min_patches=1, max_patches=12, size=dict(height=tile_px, width=tile_px),
        ),
        processor_config=dict(processor_class="InternVLProcessor", image_seq_length=(tile_px // 28) ** 2),
        generation_config=_qwen_generation(tokenizer),
    )  # fmt: skip


def instructblip(folder: Path, seed: int = 0) -> Path:
    """InstructBLIP: 56 px, 4 x 4 patches + class, 8 queries, Q-Former with cross-attention in blocks 0, 2, 4, Llama decoder."""
    tokenizer = tokenizers.llama_tokenizer()
    reader = tokenizers.bert_tokenizer()
    config = InstructBlipConfig(
        vision_config=dict(
            hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=3, image_size=56, patch_size=14,
        ),
        qformer_config=dict(
            vocab_size=len(reader), hidden_size=40, intermediate_size=64, num_hidden_layers=6, num_attention_heads=5,
            max_position_embeddings=512, cross_attention_frequency=2, encoder_hidden_size=48,
        ),
        text_config=_llama(len(tokenizer), num_hidden_layers=3, pad_token_id=tokenizer.pad_token_id),
        num_query_tokens=8,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    reader.save_pretrained(folder / "qformer_tokenizer")
    return _save(
        folder, InstructBlipForConditionalGeneration(config), tokenizer, seed,
        preprocessor_config=PIXELS | CLIP | dict(
            image_processor_type="BlipImageProcessor", processor_class="InstructBlipProcessor",
            size=dict(height=56, width=56),
        ),
        processor_config=dict(processor_class="InstructBlipProcessor", num_query_tokens=8),
        generation_config=dict(bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.pad_token_id),
    )  # fmt: skip


def _mc_llava(seed: int) -> tuple[McLlavaForConditionalGeneration, PreTrainedTokenizerBase]:
    tokenizer = tokenizers.byte_tokenizer(tokenizers.MC_LLAVA_ADDED)
    config = McLlavaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3, image_size=90, patch_size=14,
            vision_use_head=False,
        ),
        text_config=PhiConfig(
            vocab_size=320, hidden_size=80, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=2048, partial_rotary_factor=0.4, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        num_tokens=35,
    )  # fmt: skip
    model = McLlavaForConditionalGeneration(config)
    randomise(model, seed)
    keep_answers_plain(model.language_model, tokenizer)
    return model, tokenizer


def mc_llava_native(folder: Path, seed: int = 0) -> Path:
    """MC-LLaVA's published architecture (SigLIP 90 px: 6 x 6 patches, 6 px unseen; Phi) under this project's names."""
    model, tokenizer = _mc_llava(seed)
    _write(folder, model, tokenizer)
    return folder


def mc_llava(folder: Path, seed: int = 0) -> Path:
    """The same weights as `mc_llava_native` under the published names: nested tower, unused pooling head, two shards."""
    model, tokenizer = _mc_llava(seed)
    vision = model.config.vision_config.to_dict() | {"vision_use_head": True}
    unused = SiglipVisionModel(SiglipVisionConfig(**vision))
    randomise(unused, seed + 1)
    state = {name: value for name, value in unused.state_dict().items() if name.startswith(("head.", "post_layernorm."))}
    state = {f"vision_model.vision_tower.vision_model.{name}": value for name, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_shards(folder, state | published_state(model))
    config = model.config.to_dict()
    config["vision_config"] = vision
    config["text_config"] |= {"partial_rotary_factor": 0.4, "rope_theta": 10000.0, "rope_scaling": None}
    config["text_config"].pop("rope_parameters")  # where a configuration of 2024 has its rotary factor
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(PIXELS | HALVES | dict(size=dict(height=90, width=90), image_processor_type="SiglipImageProcessor"))
    )
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    return folder


TINY: dict[str, Callable[[Path, int], Path]] = {
    "llava": llava,
    "llava_even": llava_even,
    "llava_next": llava_next,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "internvl": internvl,
    "instructblip": instructblip,
    "mc_llava": mc_llava,
    "mc_llava_native": mc_llava_native,
}
