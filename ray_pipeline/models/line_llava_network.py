"""A decoder that is shown lines of print: characters as a reader saw them, each with its place added.

The tower (line finder and line reader) is frozen and gives characters, not features: a visual token is the decoder's own
embedding of the character, plus a small network over where it stands and how sure the reader was, plus what a few
convolutions along the text make of its neighbours: a digit knows its row's label before the decoder sees it. The same
convolutions go along a question.
Shapes: V views, T tokens, F features, D width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from ray_pipeline.models.line_tokens import FEATURES

DILATIONS = (1, 2, 4, 8)  # of five taps each: thirty characters to either side
VISUAL_SCALE = 8.0  # so that the decoder's layers, which add to it, do not drown which character it is
FIRST_GAIN = 0.1  # about the size of a character's own embedding
FIRST_SHARE = 0.5  # of that, what a question's tokens begin with


class LineLlavaConfig(PreTrainedConfig):
    """Configuration of a model of read lines.

    `view_px`: a view is shrunk to at most view_px x view_px pixels before it is read. `focus` is where ViCrop reads
    attention (`layer`), how wide its smallest window is (`base_window_share` of the picture's geometric-mean side) and the
    confidence from which zooming is not worth it (`gate`).
    """

    model_type = "line-llava"
    sub_configs: ClassVar = {"text_config": AutoConfig}

    def __init__(
        self,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        view_px: int = 512,
        focus: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(text_config, PreTrainedConfig):
            values = dict(text_config or {})
            text_config = AutoConfig.for_model(values.pop("model_type", "llama"), **values)
        if view_px < 32:
            raise ValueError(f"view_px {view_px}, expected at least 32: one line of print")
        self.text_config, self.view_px, self.focus = text_config, view_px, focus or {}
        super().__init__(**kwargs)


class LineContext(nn.Module):
    """What stands around each character of a view: (V, T, D) -> (V, T, D), by residual convolutions along the text.

    Normalised and scaled down at its end, so that it is added to a character without drowning which one it is. Beyond a view's
    ends there is nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in DILATIONS)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2 * step, dilation=step) for step in DILATIONS)
        self.mixers = nn.ModuleList(nn.Linear(width, width) for _ in DILATIONS)
        self.gain = nn.Parameter(torch.full((width,), FIRST_GAIN))

    def forward(self, tokens_VTD: Tensor, valid_VT: Tensor) -> Tensor:
        there = valid_VT[..., None].to(tokens_VTD.dtype)
        for norm, convolution, mixer in zip(self.norms, self.convolutions, self.mixers, strict=True):
            around = convolution((norm(tokens_VTD) * there).transpose(1, 2)).transpose(1, 2)
            tokens_VTD = tokens_VTD + mixer(nn.functional.gelu(around))
        return nn.functional.rms_norm(tokens_VTD, tokens_VTD.shape[-1:]) * self.gain


class LineLlavaForConditionalGeneration(PreTrainedModel):
    """Read characters with places in, embeddings out; the decoder takes the merged sequence as embeddings."""

    config_class = LineLlavaConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _tied_weights_keys = {  # noqa: RUF012  # the library declares it so
        "language_model.lm_head.weight": "language_model.model.embed_tokens.weight"
    }

    def __init__(self, config: LineLlavaConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size
        self.place_embed = nn.Sequential(nn.Linear(FEATURES, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.line_context = LineContext(width)
        self.question_gain = nn.Parameter(torch.full((width,), FIRST_SHARE))
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def visual(self, ids_VT: Tensor, features_VTF: Tensor, valid_VT: Tensor) -> Tensor:
        """Embeddings (V, T, D) of read characters at their places; those that are not `valid` are padding."""
        placed = self.language_model.get_input_embeddings()(ids_VT) + self.place_embed(features_VTF)
        embedded: Tensor = (placed + self.line_context(placed, valid_VT)) * VISUAL_SCALE
        return embedded

    def asked(self, ids_VT: Tensor, valid_VT: Tensor) -> Tensor:
        """Embeddings (V, T, D) of questions, one a row; those that are not `valid` are padding.

        What stands around a character is made of it as on the page, so that a phrase meets itself there.
        """
        plain = self.language_model.get_input_embeddings()(ids_VT)
        embedded: Tensor = plain + self.line_context(plain, valid_VT) * self.question_gain
        return embedded

    def forward(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        """The decoder alone, on merged embeddings (B, S, D)."""
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)


AutoConfig.register(LineLlavaConfig.model_type, LineLlavaConfig)
