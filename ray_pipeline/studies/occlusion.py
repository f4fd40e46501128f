"""Does the answer depend on what the model attends to? The patches with the most attention are painted over, and, in other
pictures, as many others at random, and the true boxes themselves.

Patches are the cells of the relative-attention map; a tenth of the picture is hidden, in its mean colour.
Legend: N hidden cells, Y X rows and columns of cells or pixels.
"""

from collections.abc import Generator

import numpy as np

from ray_pipeline.methods.importance import Cells
from ray_pipeline.models.contract import Reply, Request
from ray_pipeline.perceiver import Plan, look
from ray_pipeline.studies.attention import looked_at
from ray_pipeline.studies.subject import Said, Studied, Subject, asked, greedy, said
from schemas.picture import Box, Picture

HIDDEN = 0.1  # of the cells


def occlusion(subject: Subject, plan: Plan) -> Generator[Request, Reply, Studied]:
    """Conditions `whole`, `random_hidden`, `top_hidden` and `thing_hidden`, none of them zoomed."""
    ask, picture = greedy(plan), subject.picture
    tokens = yield from look(picture, ask)
    first, map_YX = yield from looked_at(subject, tokens, plan)
    top, others = top_and_others(map_YX, subject.seed)
    answers = {"whole": said(first)}
    answers["random_hidden"] = yield from _without(subject, ask, cell_boxes(others, map_YX.shape, picture), "random")
    answers["top_hidden"] = yield from _without(subject, ask, cell_boxes(top, map_YX.shape, picture), "top")
    answers["thing_hidden"] = yield from _without(subject, ask, subject.true_px, "thing")
    return Studied(answers)


def top_and_others(map_YX: Cells, seed: int) -> tuple[list[int], list[int]]:
    """Places in the raster of the strongest tenth of the cells, one at least, and of as many others, drawn at random."""
    count = max(1, round(HIDDEN * map_YX.size))
    order = np.argsort(-map_YX, axis=None, kind="stable")
    others = np.random.default_rng(seed).choice(order[count:], min(count, map_YX.size - count), replace=False)
    return order[:count].tolist(), others.tolist()


def cell_boxes(cells_N: list[int], shape: tuple[int, ...], picture: Picture) -> tuple[Box, ...]:
    """Where some cells of a map lie in the picture."""
    rows, columns = shape
    across, down = picture.width / columns, picture.height / rows
    places = [divmod(cell, columns) for cell in cells_N]
    return tuple((x * across, y * down, (x + 1) * across, (y + 1) * down) for y, x in places)


def hidden(picture: Picture, boxes_px: tuple[Box, ...], name: str) -> Picture:
    """The picture with these boxes, out to whole pixels, in its mean colour; its digest gets a name, as it is another one."""
    pixels_YX3 = picture.pixels_YX3.copy()
    colour = pixels_YX3.reshape(-1, 3).mean(0).round().astype(np.uint8)
    for x0, y0, x1, y1 in boxes_px:
        pixels_YX3[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = colour
    return Picture(pixels_YX3, f"{picture.sha256}-{name}")


def _without(subject: Subject, plan: Plan, boxes_px: tuple[Box, ...], name: str) -> Generator[Request, Reply, Said]:
    tokens = yield from look(hidden(subject.picture, boxes_px, name), plan)
    return (yield from asked(tokens, subject.question, plan))
