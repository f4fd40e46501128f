"""FOCUS: where in a picture the question's answer is, and the crops to look at more closely (ViCrop).

A method reads an importance map, of the whole picture or block by block; several methods' maps are mixed; the windows that
stand out of the map are the crops.
"""

from collections.abc import Generator, Sequence

from torch import Tensor

from ray_pipeline.methods.auto import confidence, mixed
from ray_pipeline.methods.blocks import block_grid, read_blocks, wants_blocks
from ray_pipeline.methods.crop_box import CropChoice, select_crop
from ray_pipeline.methods.focus import Focus, Probe, Question, Reader, Reading, nothing_to_zoom, window_px
from ray_pipeline.methods.regions import select_regions
from ray_pipeline.models.contract import FamilyDefaults, Reply, Request, VisualTokens
from schemas.methods import RefineSettings
from schemas.picture import Picture


def vicrop(
    readers: Sequence[Reader],
    tokens: VisualTokens,
    question: Question,
    generic: str,
    settings: RefineSettings,
    defaults: FamilyDefaults,
) -> Generator[Request, Reply, Focus]:
    """Read maps with one method or several, choose the crops.

    A picture no larger than the smallest window is not read at all. `official` crops it to itself, as published, and
    answers a second time for nothing.

    Raises:
        ValueError: `official` together with several methods or several regions, of which nothing is published.
    """
    picture, probe = tokens.picture, Probe(question, generic, settings, defaults)
    _check(readers, settings)
    base_px = window_px(picture.width, picture.height, settings, defaults)
    too_small = nothing_to_zoom(picture.width, picture.height, base_px)
    if too_small and not probe.official:
        return Focus((), too_small, None)
    readings = yield from _readings(readers, tokens, probe, base_px)
    importance, remarks = _one_map(readers, readings, picture, base_px)
    return choose_crops(importance, picture.width, picture.height, settings, defaults, remarks)


def choose_crops(
    importance_YX: Tensor,
    width: int,
    height: int,
    settings: RefineSettings,
    defaults: FamilyDefaults,
    remarks: Sequence[str] = (),
) -> Focus:
    """The crops of a map, or none where the map says nothing or the crop would be the whole picture.

    The reason ends with the remarks. `official` gives one crop, whatever the map.
    """
    base_px = window_px(width, height, settings, defaults)
    if settings.mode == "official":
        choices: tuple[CropChoice, ...] = (select_crop(importance_YX, width, height, base_px, "official"),)
    else:
        choices = select_regions(importance_YX, width, height, base_px, settings.regions)
    windows = [f"window {choice.ratio:g} x {base_px:.0f} px" for choice in choices]
    reason = "; ".join([*(windows or ["no region stands out of the importance map"]), *remarks])
    return Focus(tuple(choice.box_px for choice in choices), reason, importance_YX)


def _readings(
    readers: Sequence[Reader], tokens: VisualTokens, probe: Probe, base_px: float
) -> Generator[Request, Reply, list[Reading]]:
    """One round of requests on the prefix that is there, or on a prefix for each block.

    Of several methods, the cheapest first, no more are read than it takes for a map as clear as the gate asks: one that a
    crop can take nearly everything from gains nothing from the others. Blocks are read by all in one go.
    """
    picture, block_px = tokens.picture, probe.settings.block_px
    if block_px is not None and wants_blocks(picture.width, picture.height, probe):
        grid = block_grid(picture.width, picture.height, block_px, probe.settings.mode)
        if len(grid.boxes_px) > 1:
            return (yield from read_blocks(readers, picture, grid, probe))
    whole = (0.0, 0.0, float(picture.width), float(picture.height))
    readings: list[Reading] = []
    for reader in readers:
        readings.append((yield from reader.read(tokens, whole, probe)))
        if len(readers) > 1 and probe.gate < 1 and _worth(readings[-1], picture, base_px) >= probe.gate:
            break
    return readings


def _worth(reading: Reading, picture: Picture, base_px: float) -> float:
    return confidence(reading.map_YX, picture.width, picture.height, base_px)


def _one_map(
    readers: Sequence[Reader], readings: Sequence[Reading], picture: Picture, base_px: float
) -> tuple[Tensor, list[str]]:
    """The map to choose from, and what should be known about it."""
    remarks = list(dict.fromkeys(reading.remark for reading in readings if reading.remark))
    if len(readings) == 1 < len(readers):
        remarks = [f"{readers[0].name} alone, confidence {_worth(readings[0], picture, base_px):.2f}", *remarks]
    if len(readings) == 1:
        return readings[0].map_YX, remarks
    mixture, worth = mixed([reading.map_YX for reading in readings], picture.width, picture.height, base_px)
    shares = ", ".join(f"{reader.name} {share:.2f}" for reader, share in zip(readers, worth, strict=False))
    return mixture, [f"confidence {shares}", *remarks]


def _check(readers: Sequence[Reader], settings: RefineSettings) -> None:
    if settings.mode == "official" and (len(readers) > 1 or settings.regions > 1):
        what = f"{len(readers)} method(s) and {settings.regions} region(s)"
        raise ValueError(f"refine.mode official with {what}, expected one of each: nothing else is published")
