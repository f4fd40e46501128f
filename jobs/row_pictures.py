"""The small pictures of a report: opened as the run did, and the model asked again where it looked."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_pipeline.delivery.escapes import one_line
from ray_pipeline.delivery.report.images import PAGE_PX, THUMBNAIL_PX, Images, images_of
from ray_pipeline.delivery.report.shown_row import GONE, NO_ROOM, NONE
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import Manifest
from ray_pipeline.models.weights import ModelRefused
from schemas.job import JobSettings
from schemas.picture import Box, Picture
from schemas.status import RowFailure, Status

if TYPE_CHECKING:
    from ray_pipeline.actor import Actor

BASE64 = 4 / 3  # letters of a page per byte of a picture


class RowPictures:
    """A context, as a decoder process belongs to it. Pictures are made until they fill `room_bytes` of the page.

    `most_maps` rows get their importance map, which results do not carry: each is one more answer of the model, which is
    loaded for the first of them.
    """

    def __init__(self, settings: JobSettings, manifest: Manifest, room_bytes: float, most_maps: int) -> None:
        now = settings.fetch.model_copy(update={"outage_s": 0.0})  # a page does not wait for a host that is out
        self._fetcher = Fetcher(now, AddressPolicy.from_settings(settings.fetch, manifest.base, manifest.remote))
        self._decoder = Decoder(settings.fetch)
        self._settings = settings
        self._room_bytes = room_bytes
        self._maps_left = most_maps if settings.task == "answer" else 0
        self._known: set[tuple[str, int | None]] = set()
        self._actor: Actor | None = None

    def __enter__(self) -> "RowPictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()
        self._fetcher.close()

    def of(self, row: Mapping[str, Any]) -> tuple[Images | None, str]:
        """The row's pictures, or None and why there are none."""
        if row["status"] != Status.OK:
            return None, NONE
        if self._room_bytes <= 0:
            return None, NO_ROOM
        picture = self._picture(row)
        if picture is None:
            return None, GONE
        crops = [_box(crop) for crop in (row["refinement"] or {}).get("crops") or []]
        importance = self._importance(picture, row) if crops else None
        images = images_of(picture, crops, importance, PAGE_PX if self._settings.task == "ocr" else THUMBNAIL_PX)
        self._take_room(images, (picture.sha256, row["page"]))
        return images, NONE

    def _take_room(self, images: Images, key: tuple[str, int | None]) -> None:
        """Rows that ask about the same picture share it."""
        shared = len(images.picture) if key in self._known else 0
        self._known.add(key)
        self._room_bytes -= BASE64 * (images.size_bytes - shared)

    def _picture(self, row: Mapping[str, Any]) -> Picture | None:
        """None where it is gone since the run, or another one: boxes would lie over what they do not belong to."""
        try:
            picture = self._decoder.decode(self._fetcher.fetch(row["image_uri"]), row["page"])
        except RowFailure:
            return None
        return picture if picture.sha256 == row["image_sha256"] else None

    def _importance(self, picture: Picture, row: Mapping[str, Any]) -> NDArray[np.float32] | None:
        if self._maps_left <= 0:
            return None
        self._maps_left -= 1
        from ray_pipeline.actor import Asked  # takes seconds, which a page without maps does not need
        from ray_pipeline.perceiver import Seen

        actor = self._loaded()
        seen = actor.answer({0: Asked(picture, row["question"])})[0] if actor else None
        if not isinstance(seen, Seen) or seen.map_YX is None:
            return None
        importance: NDArray[np.float32] = seen.map_YX.float().cpu().numpy()
        return importance

    def _loaded(self) -> "Actor | None":
        """None where the model cannot be had here; everything else can be shown without it."""
        from ray_pipeline.actor import Actor

        try:
            self._actor = self._actor or Actor(self._settings)
        except (ModelRefused, OSError, RuntimeError, ValueError) as error:
            print(f"fovea report: no importance maps: {one_line(str(error))}", file=sys.stderr)
            self._maps_left = 0
        return self._actor


def _box(value: Mapping[str, float]) -> Box:
    return value["x0"], value["y0"], value["x1"], value["y1"]
