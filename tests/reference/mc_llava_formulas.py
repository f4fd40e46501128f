"""MC-LLaVA as its spec describes it (mc_llava 2 to 5), slowly and from the published names of the weights alone.

Crops, Pillow's bicubic filter in whole numbers, SigLIP and Phi as loops over layers and heads, and one `<image>` expanded
to the visual tokens: neither the product's modules nor the library's.
"""

import math

import numpy as np
import torch
from torch import Tensor

Weights = dict[str, Tensor]
Box = tuple[int, int, int, int]
TOWER = "vision_model.vision_tower.vision_model."


def crop_boxes(width: int, height: int, most: int, strict: bool, base_px: int = 384, step_px: int = 10) -> list[Box]:
    """The whole picture, then the grid column by column. `strict` keeps the cap on elongated pictures, `official` breaks it."""
    boxes = [(0, 0, width, height)]
    if most == 0 or max(width, height) <= base_px + base_px // 2:
        return boxes
    floor = 1 if strict else -(10**9)
    side = base_px
    while True:
        stride = side // 2
        columns, rows = (width - side) // stride + 1, (height - side) // stride + 1
        if max(floor, columns) * max(floor, rows) <= most:
            break
        side += step_px
    columns, rows = max(1, columns), max(1, rows)
    if columns == rows == 1:
        return boxes
    for i in range(columns):
        x1 = width if i == columns - 1 else i * stride + side
        for j in range(rows):
            y1 = height if j == rows - 1 else j * stride + side
            boxes.append((i * stride, j * stride, x1, y1))
    return boxes


def shares(budget: int, views: int) -> list[int]:
    """How many of its last features each view keeps: int(N / M), and the rest for the last one (section 3)."""
    each = budget // views
    return [each] * (views - 1) + [budget - each * (views - 1)]


def squash(pixels_YX3: np.ndarray, side: int, axes: tuple[int, int] = (1, 0)) -> np.ndarray:
    """Bicubic (a = -0.5), widened when shrinking, in Pillow's 22-bit whole numbers: along a row first, then down a column.

    Each pass rounds to whole levels, so the order shows: up to 2 levels. Pillow of 2024 knew no other one; since 13 it goes
    down the columns first where that leaves less to do.
    """
    for axis in axes:
        length = pixels_YX3.shape[axis]
        if length == side:
            continue
        scale = length / side
        stretch = max(scale, 1.0)
        taps = np.zeros((side, length), np.int64)
        for place in range(side):
            centre = (place + 0.5) * scale
            first, last = max(0, int(centre - 2 * stretch + 0.5)), min(length, int(centre + 2 * stretch + 0.5))
            weights = [bicubic((k - centre + 0.5) / stretch) for k in range(first, last)]
            taps[place, first:last] = [math.floor(w / sum(weights) * 2**22 + 0.5) for w in weights]
        summed = np.tensordot(taps, pixels_YX3.astype(np.int64), (1, axis))
        pixels_YX3 = np.clip((np.moveaxis(summed, 0, axis) + 2**21) >> 22, 0, 255)
    return pixels_YX3


def bicubic(x: float) -> float:
    """Keys' cubic with a = -0.5."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def norm(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    """Layer normalisation over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    """x W' + b."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def tanh_gelu(x: Tensor) -> Tensor:
    """The approximation that both towers use, here called gelu_new and there gelu_pytorch_tanh."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Tensor) -> Tensor:
    """The exact one, of the two small modules."""
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def tower(pixels_3RR: Tensor, weights: Weights, layers: int, heads: int, patch: int = 14) -> Tensor:
    """hidden_states[-1] of one picture: (27 x 27, D), before the last norm (section 3)."""
    kernel = weights[f"{TOWER}embeddings.patch_embedding.weight"].flatten(1)
    side = pixels_3RR.shape[1] // patch
    cut = [
        pixels_3RR[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].flatten()
        for r in range(side)
        for c in range(side)
    ]
    x = torch.stack(cut) @ kernel.T + weights[f"{TOWER}embeddings.patch_embedding.bias"]
    x = x + weights[f"{TOWER}embeddings.position_embedding.weight"]
    for number in range(layers):
        layer = f"{TOWER}encoder.layers.{number}."
        y = norm(x, weights, f"{layer}layer_norm1", 1e-6)
        q, k, v = (linear(y, weights, f"{layer}self_attn.{name}_proj").chunk(heads, -1) for name in "qkv")
        seen = [(q[h] @ k[h].T / math.sqrt(q[h].shape[1])).softmax(-1) @ v[h] for h in range(heads)]
        x = x + linear(torch.cat(seen, -1), weights, f"{layer}self_attn.out_proj")
        y = norm(x, weights, f"{layer}layer_norm2", 1e-6)
        x = x + linear(tanh_gelu(linear(y, weights, f"{layer}mlp.fc1")), weights, f"{layer}mlp.fc2")
    return x


def projected(features_TD: Tensor, x: float, y: float, weights: Weights) -> Tensor:
    """(T, decoder width): a view's features with its centre, in shares of the picture's sides (section 4)."""
    centre = torch.tensor([x, y], dtype=features_TD.dtype)
    place = linear(gelu(linear(centre, weights, "vision_model.coord_embed.0")), weights, "vision_model.coord_embed.2")
    hidden = gelu(linear(features_TD + place, weights, "multi_modal_projector.linear_1"))
    return linear(hidden, weights, "multi_modal_projector.linear_2")


def visual_tokens(pixels_YX3: np.ndarray, weights: Weights, most_crops: int, budget: int, layers: int, heads: int) -> Tensor:
    """(N, decoder width): what replaces `<image>`, the grid of crops as published (sections 2 to 4)."""
    height, width = pixels_YX3.shape[:2]
    boxes = crop_boxes(width, height, most_crops, strict=False)
    tokens = []
    for (x0, y0, x1, y1), count in zip(boxes, shares(budget, len(boxes)), strict=True):
        small = squash(pixels_YX3[y0:y1, x0:x1], 384)
        features = tower(torch.tensor(small).permute(2, 0, 1).float() / 127.5 - 1, weights, layers, heads)[1:]
        kept = features[max(0, len(features) - count) :]
        tokens.append(projected(kept, (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, weights))
    return torch.cat(tokens)


def merged(ids: list[int], image_id: int, visual: Tensor, weights: Weights) -> Tensor:
    """(S, width): every id's embedding, the one `<image>` replaced by the visual tokens (section 5.1)."""
    table = weights["language_model.model.embed_tokens.weight"]
    return torch.cat([visual if token == image_id else table[token][None] for token in ids])


def next_token_log_p(x: Tensor, weights: Weights, layers: int, heads: int) -> Tensor:
    """Log-probabilities behind the last position: Phi-2 with positions 0, 1, 2, ... (section 5)."""
    length, width = x.shape[0], x.shape[1] // heads
    turned = int(0.4 * width)
    speeds = 10000.0 ** (-torch.arange(0, turned, 2).double() / turned)
    angles = torch.arange(length).double()[:, None] * speeds
    cos, sin = angles.cos().float(), angles.sin().float()

    def turn(v: Tensor) -> Tensor:
        a, b = v[:, : turned // 2], v[:, turned // 2 : turned]
        return torch.cat([a * cos - b * sin, b * cos + a * sin, v[:, turned:]], -1)

    future = torch.full((length, length), -torch.inf).triu(1)
    for number in range(layers):
        layer = f"language_model.model.layers.{number}."
        y = norm(x, weights, f"{layer}input_layernorm", 1e-5)
        q, k, v = (linear(y, weights, f"{layer}self_attn.{name}_proj").chunk(heads, -1) for name in "qkv")
        seen = [(turn(q[h]) @ turn(k[h]).T / math.sqrt(width) + future).softmax(-1) @ v[h] for h in range(heads)]
        attended = linear(torch.cat(seen, -1), weights, f"{layer}self_attn.dense")
        x = x + attended + linear(tanh_gelu(linear(y, weights, f"{layer}mlp.fc1")), weights, f"{layer}mlp.fc2")
    last = norm(x[-1], weights, "language_model.model.final_layernorm", 1e-5)
    return linear(last, weights, "language_model.lm_head").log_softmax(-1)
