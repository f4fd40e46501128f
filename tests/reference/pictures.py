"""Pictures (upright RGB uint8, (Y, X, 3)) to what each family's tower takes, by the library's PIL processors.

Everywhere: Pillow's bicubic filter (with its antialiasing, no reducing gap) on uint8, rounded to uint8 again, then
x / 255, minus mean, over std, with the folder's own mean and std.

- LLaVA `pad`: square of the longer side S in the colour int(mean x 255) per channel, picture at ((S - W) // 2, (S - H) // 2),
  then S x S to R x R. `centre_crop`: shorter side to R, longer to int(R x long / short), then R x R from
  ((rw - R) // 2, (rh - R) // 2). `squash`: W x H to R x R.
- LLaVA-NeXT: view 0 squashed to R x R; then the best pinpoint's canvas, picture resized with its aspect (ceil), centred,
  padded with black *before* normalising, cut into R x R tiles row by row. Pictures of one prompt are padded with empty
  views to the same number; the model drops those again.
- Qwen: both sides to multiples of patch x 2 within the folder's pixel limits (round; floor above, ceil below), squashed;
  patches in merge-block order, each repeated for the two frames of a temporal patch.
- InternVL: squashed to the best grid (1..12 tiles as the folder says), tiles row by row, thumbnail last if more than one.
  The folder's crop_to_patches is false, as on the hub; the family's processor overrides it, and so do we.
- InstructBLIP: squashed to R x R.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


@dataclass(frozen=True)
class Shown:
    """What the model takes besides ids, and how many views of each picture there are.

    `frames` picks the first picture's views (V, 3, Y, X) out of a tensor shaped like `pixel_values`, adding up where a
    pixel was repeated: for gradients.
    """

    tensors: dict[str, Tensor]
    views: tuple[int, ...]
    frames: Callable[[Tensor], Tensor]


def llava(folder: Path, pictures: Sequence[np.ndarray], fit: str) -> Shown:
    if fit == "pad":
        processor = LlavaImageProcessorPil.from_pretrained(folder, do_pad=True)
    elif fit == "centre_crop":
        processor = CLIPImageProcessorPil.from_pretrained(folder)
    elif fit == "squash":
        side = CLIPImageProcessorPil.from_pretrained(folder).size["shortest_edge"]
        processor = CLIPImageProcessorPil.from_pretrained(folder, size={"height": side, "width": side})
    else:
        raise ValueError(f"fit {fit!r}, expected pad, centre_crop or squash")
    pixels = processor(_images(pictures), return_tensors="pt")["pixel_values"]
    return Shown({"pixel_values": pixels}, (1,) * len(pictures), lambda values: values[:1])


def llava_next(folder: Path, pictures: Sequence[np.ndarray], fit: str) -> Shown:
    processor = LlavaNextImageProcessorPil.from_pretrained(folder)
    batch = processor(_images(pictures), return_tensors="pt")
    views = tuple(processor([image], return_tensors="pt")["pixel_values"].shape[1] for image in _images(pictures))
    tensors = {"pixel_values": batch["pixel_values"], "image_sizes": batch["image_sizes"]}
    return Shown(tensors, views, lambda values: values[0, : views[0]])


def qwen(folder: Path, pictures: Sequence[np.ndarray], fit: str) -> Shown:
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    batch = processor(_images(pictures), return_tensors="pt")
    _, rows, columns = batch["image_grid_thw"][0].tolist()
    side, merge = processor.patch_size, processor.merge_size

    def frames(values: Tensor) -> Tensor:
        picture = torch.zeros(3, rows * side, columns * side, dtype=values.dtype)
        k = 0
        for block_row in range(0, rows, merge):
            for block_column in range(0, columns, merge):
                for row in range(block_row, block_row + merge):
                    for column in range(block_column, block_column + merge):
                        patch = values[k].reshape(3, processor.temporal_patch_size, side, side).sum(1)
                        picture[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = patch
                        k += 1
        return picture[None]

    tensors = {"pixel_values": batch["pixel_values"], "image_grid_thw": batch["image_grid_thw"]}
    return Shown(tensors, (1,) * len(pictures), frames)


def internvl(folder: Path, pictures: Sequence[np.ndarray], fit: str) -> Shown:
    processor = GotOcr2ImageProcessorPil.from_pretrained(folder)
    batch = processor(_images(pictures), crop_to_patches=True, return_tensors="pt")
    views = tuple(int(count) for count in batch["num_patches"])
    return Shown({"pixel_values": batch["pixel_values"]}, views, lambda values: values[: views[0]])


def instructblip(folder: Path, pictures: Sequence[np.ndarray], fit: str) -> Shown:
    batch = BlipImageProcessorPil.from_pretrained(folder)(_images(pictures), return_tensors="pt")
    return Shown({"pixel_values": batch["pixel_values"]}, (1,) * len(pictures), lambda values: values[:1])


def _images(pictures: Sequence[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in pictures]


PICTURES: dict[str, Callable[[Path, Sequence[np.ndarray], str], Shown]] = {
    "llava": llava,
    "llava_next": llava_next,
    "qwen2_5_vl": qwen,
    "qwen3_vl": qwen,
    "internvl": internvl,
    "instructblip": instructblip,
}
