"""Pictures of a run copied beside an export: upright, as PNG, the pixels that its boxes belong to."""

from pathlib import Path
from typing import Any

from PIL import Image

from ray_pipeline.delivery.formats.page_files import PICTURES, page_name
from ray_pipeline.intake.addresses import AddressPolicy
from ray_pipeline.intake.decode import Decoder
from ray_pipeline.intake.fetch import Fetcher
from ray_pipeline.intake.manifest import open_manifest
from schemas.job import JobSettings
from schemas.status import RowFailure


class PictureCopies:
    """Opens pictures as the run did, under its own rules for addresses; a context, as a decoder process belongs to it.

    Raises:
        ManifestRefused: the run's manifest cannot be opened, relative to which its addresses are meant.
    """

    def __init__(self, settings: JobSettings, export: Path) -> None:
        manifest = open_manifest(settings.manifest, settings.run.limit, (), settings.passthrough)
        now = settings.fetch.model_copy(update={"outage_s": 0.0})  # an export does not wait for a host that is out
        self._fetcher = Fetcher(now, AddressPolicy.from_settings(settings.fetch, manifest.base, manifest.remote))
        self._decoder = Decoder(settings.fetch)
        self._export = export
        self.missed = 0

    def __enter__(self) -> "PictureCopies":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()
        self._fetcher.close()

    def name_of(self, number: int, columns: dict[str, Any]) -> str:
        """Copy the picture of a row; its name within the export, or the manifest's address where it is gone or another."""
        address = str(columns["image_uri"])
        try:
            picture = self._decoder.decode(self._fetcher.fetch(address), columns["page"])
        except RowFailure:
            picture = None
        if picture is None or picture.sha256 != columns["image_sha256"]:
            self.missed += 1
            return address
        name = f"{PICTURES}/{page_name(number, 'png')}"
        file = self._export / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.pixels_YX3).save(file, "PNG")
        return name
