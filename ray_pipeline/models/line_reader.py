"""Reads one line of print from a grey strip: a small convolutional and recurrent network with CTC (Graves et al. 2006).

The strip is brought to 32 rows and even contrast, a convolutional stem reduces it to one column of features per 4
pixels, a bidirectional LSTM brings context, and every column votes for a character or for none. Strips are
padded to a fixed function of their own width and batched by it, so a strip reads the same alone or among others.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ray_pipeline.models.ctc_text import LineText, likeliest_text

Grey = NDArray[np.uint8]

ROWS = 32
COLUMN_PX = 4  # pixels of a fitted strip per column of features
ALPHABET = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ€£¥§°–—‘’“”•"
)
_WIDEST_PX = 1280  # wider strips are squeezed; 40 times as wide as high
_STEP_PX = 32
_EMBEDDED = Path(__file__).parent / "embedded" / "line_reader.safetensors"


@dataclass(frozen=True)
class LineReaderConfig:
    """Sizes of the network, stored beside the weights."""

    alphabet: str = ALPHABET
    channels: tuple[int, int, int, int] = (48, 96, 96, 192)
    features: int = 256
    hidden: int = 160
    layers: int = 1


def fit_strip(grey_YX: Grey) -> NDArray[np.float32]:
    """A strip as the network takes it: 32 rows, width in proportion (4 to 1280), paper near 0, ink near 1.

    Raises:
        ValueError: not a grey picture, or one without pixels.
    """
    if grey_YX.ndim != 2 or 0 in grey_YX.shape:
        raise ValueError(f"a strip of shape {grey_YX.shape}, expected rows x columns of grey values, at least one of each")
    rows, columns = grey_YX.shape
    width = max(COLUMN_PX, min(_WIDEST_PX, round(columns * ROWS / rows)))
    kind = Image.Resampling.BOX if rows > 1.5 * ROWS else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(grey_YX).resize((width, ROWS), kind), np.float32)
    dark, light = np.percentile(small, (2, 98))
    even: NDArray[np.float32] = (np.float32(light) - small) / np.float32(max(light - dark, 24.0))
    return even


def batch_strips(fitted: Sequence[NDArray[np.float32]]) -> Tensor:
    """Strips of 32 rows side by side in one tensor, strips x 1 x 32 x columns, padded with paper at the right."""
    columns = max(padded_width(strip) for strip in fitted)
    batch = torch.zeros(len(fitted), 1, ROWS, columns)
    for row, strip in zip(batch, fitted, strict=True):
        row[0, :, : strip.shape[1]] = torch.from_numpy(strip)
    return batch


def padded_width(strip: NDArray[np.float32]) -> int:
    """Columns of a fitted strip with its padding: at least 8 more than its own, a multiple of 32."""
    columns: int = strip.shape[1] + 2 * COLUMN_PX
    return math.ceil(columns / _STEP_PX) * _STEP_PX


def _block(inputs: int, outputs: int, stride: tuple[int, int] = (1, 1), size: tuple[int, int] = (3, 3)) -> nn.Sequential:
    around = (size[0] // 2, size[1] // 2)
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, around, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class LineNetwork(nn.Module):
    """Strips B x 1 x 32 x W to logits B x W/4 x classes (class 0: no character)."""

    def __init__(self, config: LineReaderConfig) -> None:
        super().__init__()
        first, second, third, fourth = config.channels
        self.stem = nn.Sequential(
            _block(1, first, (4, 2), (7, 5)),  # most of the saving: few pixels are left before channels are many
            _block(first, second, (2, 2)),
            _block(second, third),
            _block(third, fourth, (2, 1)),
            nn.Conv2d(fourth, config.features, (2, 1), bias=False),
            nn.BatchNorm2d(config.features),
            nn.ReLU(),
        )
        between = 0.1 if config.layers > 1 else 0.0
        self.context = nn.LSTM(
            config.features, config.hidden, config.layers, batch_first=True, bidirectional=True, dropout=between
        )
        self.classes = nn.Linear(2 * config.hidden, len(config.alphabet) + 1)

    def forward(self, strips_B1YX: Tensor) -> Tensor:
        """Logits; the width must be a multiple of 4."""
        columns_BCW = self.stem(strips_B1YX).squeeze(2)
        context_BWC, _ = self.context(columns_BCW.transpose(1, 2))
        logits: Tensor = self.classes(context_BWC)
        return logits


class LineReader:
    """A trained network with its alphabet; `read` is what the rest of the program uses."""

    def __init__(self, network: LineNetwork, config: LineReaderConfig) -> None:
        self.network = network.eval()
        self.config = config

    @classmethod
    def load(cls, path: Path = _EMBEDDED) -> "LineReader":
        """A reader from safetensors whose metadata hold the config; by default the one that comes with the package."""
        with safe_open(path, framework="pt") as stored:
            fields = json.loads(stored.metadata()["line_reader"])
            weights = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        config = LineReaderConfig(**fields | {"channels": tuple(fields["channels"])})
        network = LineNetwork(config)
        counters = {name: value for name, value in network.state_dict().items() if value.dtype == torch.int64}
        network.load_state_dict(counters | weights)
        return cls(network, config)

    def save(self, path: Path) -> None:
        """Weights in half precision, config as JSON in the metadata."""
        weights = {
            name: value.half().contiguous() for name, value in self.network.state_dict().items() if value.is_floating_point()
        }
        save_file(weights, path, {"line_reader": json.dumps(asdict(self.config))})

    def read(self, strips: Sequence[Grey], most: int = 16) -> list[LineText]:
        """The texts of grey strips (rows x columns each, dark print on light paper or the other way round), in their order.

        At most `most` strips of about the same width go through the network at once.
        """
        fitted = [fit_strip(strip) for strip in strips]
        by_width: dict[int, list[int]] = {}
        for place, strip in enumerate(fitted):
            by_width.setdefault(padded_width(strip), []).append(place)
        texts: dict[int, LineText] = {}
        for places in by_width.values():
            for start in range(0, len(places), most):
                part = places[start : start + most]
                texts.update(zip(part, self._read_batch([fitted[place] for place in part]), strict=True))
        return [texts[place] for place in range(len(strips))]

    @torch.inference_mode()
    def _read_batch(self, fitted: list[NDArray[np.float32]]) -> list[LineText]:
        log_probs_BWC = self.network(batch_strips(fitted)).log_softmax(-1).numpy()
        return [likeliest_text(log_probs_WC, self.config.alphabet) for log_probs_WC in log_probs_BWC]
