"""The whole run as one tree of settings (YAML, environment, options); `run.json` shows every resolved value."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.labelling import LabelSettings
from schemas.methods import FusionSettings, RefineSettings, SelectSettings
from schemas.model import ModelSettings, PromptSettings, Settings, ViewSettings
from schemas.reading import ReadingSettings, Task


class FetchSettings(Settings):
    """What may be read, and how much of it."""

    schemes: tuple[Literal["file", "s3", "http", "https", "memory"], ...] = Field(
        ("file", "s3"), description="allowed URI schemes; a plain path counts as file"
    )
    hosts: tuple[str, ...] = Field((), description="hosts that http(s) may reach, exact names; none by default")
    buckets: tuple[str, ...] = Field((), description="buckets that s3 may read; empty = only the manifest's own")
    roots: tuple[str, ...] = Field((), description="local folders that files may come from; empty = any, for a local manifest")
    max_bytes: Annotated[int, Field(gt=0)] = Field(200_000_000, description="largest file in bytes")
    max_pixels: Annotated[int, Field(gt=0)] = Field(200_000_000, description="largest picture, width times height")
    huge_pixels: Annotated[int, Field(ge=0)] = Field(
        0,
        description="largest page of those that exceed max_pixels: TIFF, JPEG and PNG are then read band by band, by libvips "
        "(pip install 'fovea[vips]'); 0 = none may exceed it",
    )
    scratch: str | None = Field(
        None,
        description="absolute path of a folder on disk for the pixels of such pages, 3 bytes each; null = they stay in memory",
    )
    max_pages: Annotated[int, Field(gt=0)] = Field(2_000, description="most pages or frames of one file")
    pdf: bool = Field(False, description="PDFs are rendered; else they are decode_unsupported, and their library is not loaded")
    pdf_dpi: Annotated[int, Field(ge=72, le=1200)] = Field(
        300, description="dots per inch of rendered PDF pages; fewer, down to 72, for pages of more than 35 million pixels"
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(60.0, description="whole time for fetching one file while its host answers")
    outage_s: Annotated[float, Field(ge=0)] = Field(
        300.0, description="time a file waits on top for a host that is out or throttles; 0 = it counts as the file's own"
    )
    decode_timeout_s: Annotated[float, Field(gt=0)] = Field(60.0, description="whole time for decoding one file")
    decode_memory_bytes: Annotated[int, Field(gt=0)] = Field(3_000_000_000, description="address space of a decoding process")
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(16, description="files an actor fetches at a time")
    ahead: Annotated[int, Field(ge=1, le=100_000)] = Field(64, description="rows of a part whose files an actor fetches ahead")
    decoders: Annotated[int, Field(ge=1, le=64)] = Field(2, description="decoding processes of an actor")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(10, description="tries for a failure that may pass")


class RunSettings(Settings):
    """How the work is spread and when it counts as failed."""

    actors: Annotated[int, Field(ge=1, le=10_000)] = Field(1, description="model processes on the cluster")
    gpus_per_actor: Annotated[float, Field(ge=0, le=64)] = Field(0.0, description="GPUs each of them holds")
    batch: Annotated[int, Field(ge=1, le=1024)] = Field(4, description="rows an actor answers side by side")
    part_rows: Annotated[int, Field(ge=1, le=1_000_000)] = Field(64, description="rows per result file, the unit of commit")
    max_error_share: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of failed rows above which the exit code is 3"
    )
    strict: bool = Field(
        False, description="one row at a time in the model: bytes of results do not depend on the batch, at the price of speed"
    )
    call_timeout_s: Annotated[float, Field(gt=0)] = Field(600.0, description="a model process silent for so long is ended")
    load_timeout_s: Annotated[float, Field(gt=0)] = Field(1800.0, description="whole time for loading the model")
    idle_timeout_s: Annotated[float, Field(gt=0)] = Field(
        3600.0, description="a run in which no row ends for so long is broken off"
    )
    log: str | None = Field(None, description="local file that gets the run's events, one JSON object per line; null = none")
    plan: str | None = Field(
        None, description="local file that `fovea plan --to` wrote; metrics.json then says what became of the forecast"
    )
    seed: int = Field(0, description="seed of everything that draws")
    limit: Annotated[int, Field(ge=1)] | None = Field(None, description="only the first so many rows of the manifest")


class JobSettings(Settings):
    """One run of `answer`, `ocr` or `label`."""

    task: Task = Field("answer", description="what is done with a picture; the command alone says it")
    manifest: str = Field(description="Parquet file, folder or glob; any fsspec URI")
    output: str = Field(description="folder for results; any fsspec URI")
    model: ModelSettings = ModelSettings()
    views: ViewSettings = ViewSettings()
    refine: RefineSettings = RefineSettings()
    select: SelectSettings = SelectSettings()
    fusion: FusionSettings = FusionSettings()
    prompt: PromptSettings = PromptSettings()
    ocr: ReadingSettings = ReadingSettings()
    label: LabelSettings = LabelSettings()
    fetch: FetchSettings = FetchSettings()
    run: RunSettings = RunSettings()
    profile: str | None = Field(
        None,
        description="profile.json that `fovea calibrate` wrote for this model, any fsspec URI: its layer, heads, regressor and "
        "strategy hold where nothing else is set, its confidence maps where answers are found as when they were fitted",
    )
    passthrough: tuple[str, ...] = Field((), description="further manifest columns to copy into the results")

    @model_validator(mode="after")
    def _refuse_what_cannot_be_together(self) -> "JobSettings":
        refine, select = self.refine, self.select
        if refine.mode == "official" and (refine.method == "auto" or refine.regions > 1):
            what = f"method {refine.method!r} and {refine.regions} region(s)"
            raise ValueError(f"refine.mode 'official' with {what}: published is one method and one region, expected 'corrected'")
        if refine.boost != 1 and select.method != "greedy":
            raise ValueError(f"refine.boost {refine.boost} with select.method {select.method!r}: expected 1, or 'greedy'")
        return self

    @model_validator(mode="after")
    def _refuse_what_reading_ignores(self) -> "JobSettings":
        """A page is read in tiles of its own, with prompts of the family's own."""
        if self.task == "answer" or (self.task == "label" and self.label.find != "read"):
            return self
        asks = self.task == "label" and bool(self.label.attributes)  # what is in a box: that is answered, once found
        longest = self.prompt.max_new_tokens if asks else PromptSettings().max_new_tokens
        meant_for_answers = {
            "refine": self.refine not in (RefineSettings(), RefineSettings(method="none")),
            "select": self.select != SelectSettings(),
            "fusion": self.fusion != FusionSettings(),
            "prompt": self.prompt != PromptSettings(max_new_tokens=longest),
            "views.max_crops": self.views.max_crops > 0 and not asks,
            "profile": self.profile is not None,
        }
        if found := [name for name, given in meant_for_answers.items() if given]:
            raise ValueError(f"{found[0]} is for answers: pages are read as the settings of `ocr` say; expected its default")
        return self

    @model_validator(mode="after")
    def _refuse_what_locating_ignores(self) -> "JobSettings":
        """Phrases are asked for one by one, on one view of the picture, in the family's own words or in `prompt.question`."""
        if self.task != "label" or self.label.find == "read":
            return self
        if self.fusion != FusionSettings():
            raise ValueError(
                "fusion is for answers: label asks for every phrase on the picture as first shown; expected its default"
            )
        if self.prompt.template not in (PromptSettings().template, "locate"):
            what = f"prompt.template {self.prompt.template!r} is for answers"
            raise ValueError(f"{what}: label asks where a phrase is; expected its default, 'locate', or a prompt.question")
        return self
