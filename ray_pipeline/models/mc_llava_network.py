"""MC-LLaVA as a native transformers model: vision tower, coordinate MLP, projector, decoder.

One class holds both the published checkpoint (SigLIP tower, Phi decoder, two coordinates) and the embedded model
(convolution-stem tower, Llama decoder, four coordinates). Shapes: V views, T tokens a view, D width, C coordinates.
"""

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, SiglipVisionConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.siglip.modeling_siglip import SiglipEncoder

from ray_pipeline.models.attention_rows import ROW_ATTENTION


class ConvStemVisionConfig(SiglipVisionConfig):
    """A SigLIP encoder behind a small convolutional stem instead of one patch convolution (patch size must be 8)."""

    model_type = "conv_stem_siglip"
    stem_widths: tuple[int, ...] = (32, 64, 128)


class ConvStemVisionModel(PreTrainedModel):
    """Tower of the embedded model: (V, 3, R, R) -> `hidden_states[-1]` of (V, (R/8)^2, D), after the final norm."""

    config_class = ConvStemVisionConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: ConvStemVisionConfig) -> None:
        super().__init__(config)
        if config.patch_size != 8:
            raise ValueError(f"patch_size {config.patch_size}: the stem halves the picture three times, expected 8")
        a, b, c = config.stem_widths
        d = config.hidden_size
        self.stem = nn.Sequential(
            *_conv(3, a, 2), *_conv(a, b, 2), *_conv(b, c, 1), *_conv(c, d, 2), *_conv(d, d, 1), nn.Conv2d(d, d, 1)
        )
        self.position_embedding = nn.Embedding((int(str(config.image_size)) // 8) ** 2, d)
        self.encoder = SiglipEncoder(config)  # type: ignore[arg-type]  # annotated with the pair of configs, takes the vision one
        self.post_layernorm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        stem = self.stem(pixel_values).flatten(2).transpose(1, 2)
        encoded = self.encoder(inputs_embeds=stem + self.position_embedding.weight).last_hidden_state
        features = self.post_layernorm(encoded)
        return BaseModelOutput(last_hidden_state=features, hidden_states=(stem, features))


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()


CHAT_PROMPT = {
    "before": "<|im_start|>user\n",
    "zoom": "",
    "after": "\n{question}<|im_end|>\n<|im_start|>assistant\n",
    "end": "<|im_end|>",
}


class McLlavaConfig(PreTrainedConfig):
    """Configuration of MC-LLaVA. `coordinate_size` is 2 (centre, as published) or 4 (centre and size of the view).

    `drop_first_feature`: the published weights never saw the top-left patch (spec section 3). `num_tokens` is the budget
    of visual tokens, null for all of them. `prompt` holds the texts around the picture (`before`), a zoomed view (`zoom`)
    and the question (`after`, with {question}), and the token that ends an answer (`end`). `focus` is where ViCrop reads
    attention (`layer`), how wide its smallest window is (`base_window_px`, or `base_window_share` of the picture's
    geometric-mean side), and the confidence from which zooming is not worth it (`gate`).
    """

    model_type = "mc-llava"
    sub_configs: ClassVar = {"vision_config": AutoConfig, "text_config": AutoConfig}

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        coordinate_size: int = 2,
        drop_first_feature: bool = True,
        image_token_index: int = 50297,
        num_tokens: int | None = 728,
        prompt: dict[str, str] | None = None,
        focus: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if coordinate_size not in (2, 4):
            raise ValueError(f"coordinate_size {coordinate_size}, expected 2 (centre) or 4 (centre and size)")
        self.vision_config = _sub_config(vision_config, "siglip_vision_model")
        self.text_config = _sub_config(text_config, "phi")
        self.coordinate_size = coordinate_size
        self.drop_first_feature = drop_first_feature
        self.image_token_index = image_token_index
        self.num_tokens = num_tokens
        self.prompt = prompt or dict(CHAT_PROMPT)
        self.focus = focus or {"base_window_px": 384, "gate": 1.0}
        super().__init__(**kwargs)


def _sub_config(given: dict[str, Any] | PreTrainedConfig | None, default_type: str) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        return given
    values = dict(given or {})
    return AutoConfig.for_model(values.pop("model_type", default_type), **values)


class Projector(nn.Module):
    """Linear, exact GELU, Linear from the tower's width to the decoder's (spec section 4)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.linear_2(nn.functional.gelu(self.linear_1(features)))
        return projected


class McLlavaForConditionalGeneration(PreTrainedModel):
    """Views with coordinates in, projected tokens out; the decoder takes the merged sequence as embeddings."""

    config_class = McLlavaConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _tied_weights_keys = {  # noqa: RUF012  # the library declares it so
        "language_model.lm_head.weight": "language_model.model.embed_tokens.weight"
    }

    def __init__(self, config: McLlavaConfig) -> None:
        super().__init__(config)
        width = config.vision_config.hidden_size
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.coord_embed = nn.Sequential(nn.Linear(config.coordinate_size, width), nn.GELU(), nn.Linear(width, width))
        self.multi_modal_projector = Projector(width, config.text_config.hidden_size)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def use_row_attention(self) -> None:
        """Let the decoder's attention give single rows; the tower stays on SDPA."""
        self.language_model.set_attn_implementation(ROW_ATTENTION)

    def view_features(self, pixels_V3RR: Tensor) -> Tensor:
        """Tower features (V, T, D): the last hidden state before any pooling, without the first one where so trained."""
        features: Tensor = self.vision_tower(pixel_values=pixels_V3RR, output_hidden_states=True).hidden_states[-1]
        return features[:, 1:] if self.config.drop_first_feature else features

    def project(self, features: Tensor, coordinates: Tensor) -> Tensor:
        """Add the coordinate embedding, then project. features (..., T, D), coordinates (..., C) in (0, 1)."""
        projected: Tensor = self.multi_modal_projector(features + self.coord_embed(coordinates)[..., None, :])
        return projected

    def forward(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        """The decoder alone, on merged embeddings (B, S, D)."""
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)


AutoConfig.register(ConvStemVisionConfig.model_type, ConvStemVisionConfig)
AutoModel.register(ConvStemVisionConfig, ConvStemVisionModel)
AutoConfig.register(McLlavaConfig.model_type, McLlavaConfig)
